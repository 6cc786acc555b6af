"""An MLflow server's REST API as the same Arrow tables, for stores that only the server can reach."""

from __future__ import annotations

import base64
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from reports.source import TAGS, StoreTables, hide_password
from study.errors import StoreError

if TYPE_CHECKING:
    import pyarrow

TIMEOUT_SECONDS = 30.0
PAGE_RUNS = 1000
"""Runs a page: a server needs about 6 ms for each, so that a page stays well below the timeout."""
PAGE_POINTS = 25_000


@dataclass(frozen=True)
class RestStore:
    """MLflow's tracking server, with the standard library's HTTP client alone."""

    uri: str

    def read(self, experiment: str) -> StoreTables | None:
        import pyarrow as pa

        number = self._experiment_id(experiment)
        if number is None:
            return None
        runs, tags, metrics = [], [], []
        wanted = {f"ablate.{tag}" for tag in TAGS}
        for place, run in enumerate(self._runs(number)):
            info, data = run["info"], run.get("data", {})
            runs.append((place, info["run_id"], info.get("start_time"), info.get("end_time")))
            tags += [(place, tag["key"], tag["value"]) for tag in data.get("tags", ()) if tag["key"] in wanted]
            metrics += [(place, metric["key"], *_value(metric)) for metric in data.get("metrics", ())]
        integer, text, number_type = pa.int64(), pa.string(), pa.float64()
        return StoreTables(
            runs=_table(runs, {"run": integer, "run_uuid": text, "start_time": integer, "end_time": integer}),
            tags=_table(tags, {"run": integer, "key": text, "value": text}),
            metrics=_table(metrics, {"run": integer, "key": text, "value": number_type, "is_nan": pa.bool_()}),
        )

    def history(self, run_uuids: Sequence[str], metrics: Sequence[str]) -> pyarrow.Table:
        import pyarrow as pa

        rows = [
            (uuid, name, int(point.get("step", 0)), *_value(point))
            for uuid in run_uuids
            for name in metrics
            for point in self._pages("metrics/get-history", "metrics", run_id=uuid, metric_key=name)
        ]
        text = pa.string()
        types = {"run_uuid": text, "key": text, "step": pa.int64(), "value": pa.float64(), "is_nan": pa.bool_()}
        return _table(rows, types)

    def _experiment_id(self, name: str) -> str | None:
        query = urlencode({"experiment_name": name})
        try:
            answer = self._call(f"experiments/get-by-name?{query}")
        except FileNotFoundError:
            return None
        experiment = answer["experiment"]
        return str(experiment["experiment_id"]) if experiment.get("lifecycle_stage") != "deleted" else None

    def _runs(self, experiment_id: str) -> Iterator[dict[str, Any]]:
        token = ""
        while True:
            body = {"experiment_ids": [experiment_id], "max_results": PAGE_RUNS, "run_view_type": "ACTIVE_ONLY"}
            answer = self._call("runs/search", body | ({"page_token": token} if token else {}))
            yield from answer.get("runs", ())
            token = answer.get("next_page_token", "")
            if not token:
                return

    def _pages(self, path: str, key: str, **query: str) -> Iterator[dict[str, Any]]:
        token = ""
        while True:
            page = urlencode(query | {"max_results": str(PAGE_POINTS)} | ({"page_token": token} if token else {}))
            answer = self._call(f"{path}?{page}")
            yield from answer.get(key, ())
            token = answer.get("next_page_token", "")
            if not token:
                return

    def _call(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """One request. Raises FileNotFoundError for what does not exist, StoreError for every other failure."""
        request = urllib.request.Request(
            f"{self.uri.rstrip('/')}/api/2.0/mlflow/{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", **_credentials()},
        )
        shown = hide_password(self.uri)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                text = error.read(2000).decode(errors="replace")
            if error.code == 404 and "RESOURCE_DOES_NOT_EXIST" in text:
                raise FileNotFoundError(path) from error
            raise StoreError(f"the tracking server {shown} answered {error.code} to {path}: {text[:200]}") from error
        except (OSError, ValueError) as error:
            raise StoreError(f"cannot reach the tracking server {shown}: {error}") from error


def _credentials() -> dict[str, str]:
    """The header that MLflow's own client would send for its environment variables."""
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    user, password = os.environ.get("MLFLOW_TRACKING_USERNAME"), os.environ.get("MLFLOW_TRACKING_PASSWORD")
    if user and password:
        return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
    return {"Authorization": f"Bearer {token}"} if token else {}


def _value(metric: dict[str, Any]) -> tuple[float, bool]:
    """(value, is_nan) as the database has it: protobuf's JSON writes NaN as a word, and MLflow's tables as 0."""
    value = float(metric.get("value", 0.0))
    return (0.0, True) if value != value else (value, False)


def _table(rows: list[tuple[Any, ...]], types: dict[str, Any]) -> pyarrow.Table:
    import pyarrow as pa

    columns = zip(*rows, strict=True) if rows else [()] * len(types)
    arrays = [pa.array(column, type=kind) for column, kind in zip(columns, types.values(), strict=True)]
    return pa.table(dict(zip(types, arrays, strict=True)))
