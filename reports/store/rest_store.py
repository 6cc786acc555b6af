"""An MLflow server's REST API as the same Arrow tables, for stores that only the server can reach."""

from __future__ import annotations

import base64
import functools
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import requests

from ablative.reports.store.rest_cache import Kept, Memory, flat, metric_value, nested
from ablative.reports.store.store_tables import HISTORY, Point, StoreTables
from ablative.study.core.errors import StoreError
from ablative.study.core.http_settings import request_settings
from ablative.study.core.secrets import check_address, redact, without_user

if TYPE_CHECKING:
    import pyarrow

TIMEOUT_SECONDS = 30.0
PAGE_RUNS = 1000
"""Runs a page: a server needs about 6 ms for each, so that a page stays well below the timeout."""
PAGE_POINTS = 25_000
SHARE_RUNS = 500
OVERLAP_SECONDS = 3600.0
"""Runs that have ended since the last report are asked for again; so much may the clocks differ."""


@dataclass(frozen=True)
class RestStore:
    """MLflow's tracking server, reached with the settings of MLflow's own client but without MLflow."""

    uri: str
    cache: Path | None = None
    """Folder that keeps finished runs from one report to the next; None: everything is asked for every time."""

    def read(self, experiment: str, tables: StoreTables) -> bool:
        found = self._experiment(experiment)
        if found is None:
            return False
        for name, rows in flat(self._active(experiment, *found)).items():
            tables.add(f"src_{name}", rows)
        return True

    def _active(self, experiment: str, number: str, key: str) -> pyarrow.Table:
        """All active runs of an experiment, `nested`; `key` differs from that of an earlier one of its name."""
        if self.cache is None:
            return nested(self._runs(number))
        kept = Kept.of(self.cache, f"{redact(self.uri.rstrip('/'))} {experiment} {key}")
        now, known = time.time(), kept.load()
        if known is None:
            memory = Memory(nested(self._runs(number)), now, now)
        else:
            try:
                memory = Memory(self._renewed(number, known), known.whole, now)
            except StoreError:  # a server of another make or version may know no such filters
                memory = Memory(nested(self._runs(number)), now, now)
        kept.save(memory)
        return memory.runs

    def _renewed(self, number: str, known: Memory) -> pyarrow.Table:
        """All active runs: the cached ones that have not changed, and the others as the server has them now."""
        import pyarrow as pa
        import pyarrow.compute as pc

        since = int((known.latest - OVERLAP_SECONDS) * 1000)
        moved = nested(
            itertools.chain(
                self._runs(number, "attributes.status != 'FINISHED'"),
                self._runs(number, f"attributes.end_time >= {since}"),
            )
        )
        again = pc.is_in(known.runs["run_uuid"], value_set=moved["run_uuid"].combine_chunks())
        still = known.runs.filter(pc.invert(again))
        runs = pa.concat_tables([still, moved])
        shares = _shares(runs.num_rows)
        return pa.concat_tables(
            self._share(number, share, runs.filter(pc.starts_with(runs["run_uuid"], share))) for share in shares
        )

    def _share(self, number: str, share: str, known: pyarrow.Table) -> pyarrow.Table:
        """All active runs whose id begins with `share`. Those that are not known are asked for; if then the server has
        fewer than we, some were deleted, and it is asked for the whole share."""
        import pyarrow as pa

        begins = f"attributes.run_id LIKE '{share}%'"
        ids = ", ".join(f"'{run}'" for run in known["run_uuid"].to_pylist())
        new = nested(self._runs(number, f"{begins} AND attributes.run_id NOT IN ({ids})" if ids else begins))
        runs = pa.concat_tables([known, new])
        if runs.num_rows and not self._has(number, begins, runs.num_rows):
            return nested(self._runs(number, begins))
        return runs

    def _has(self, number: str, which: str, count: int) -> bool:
        """Whether the server has `count` such runs: it is asked for the last of them, by place."""
        token = base64.b64encode(json.dumps({"offset": count - 1}).encode()).decode()  # MLflow refuses an offset of 0
        return bool(self._search(number, which, 1, token if count > 1 else "").get("runs"))

    def history(self, run_uuids: Sequence[str], metrics: Sequence[str], tables: StoreTables, name: str) -> None:
        tables.add_values(name, self.points(run_uuids, metrics), HISTORY)

    def points(self, run_uuids: Sequence[str], metrics: Sequence[str]) -> list[Point]:
        """Every logged point of some metrics of some runs."""
        return [
            Point(uuid, name, int(point.get("step", 0)), *metric_value(point))
            for uuid in run_uuids
            for name in metrics
            for point in self._pages("metrics/get-history", "metrics", run_id=uuid, metric_key=name)
        ]

    @property
    def address(self) -> str:
        """The server's address, without user and password."""
        return self._address[0]

    def experiments(self) -> dict[str, str]:
        """Name → id of every active experiment."""
        found: dict[str, str] = {}
        token = ""
        while True:
            body = {"max_results": PAGE_RUNS, "view_type": "ACTIVE_ONLY"} | ({"page_token": token} if token else {})
            answer = self._call("experiments/search", body)
            found |= {each["name"]: str(each["experiment_id"]) for each in answer.get("experiments", ())}
            token = answer.get("next_page_token", "")
            if not token:
                return found

    def runs(self, number: str) -> Iterator[dict[str, Any]]:
        """Every active run of an experiment (its id), as the server has it."""
        return self._runs(number)

    def _experiment(self, name: str) -> tuple[str, str] | None:
        """An active experiment's id, and its id with its time of birth."""
        query = urlencode({"experiment_name": name})
        try:
            experiment = self._call(f"experiments/get-by-name?{query}")["experiment"]
        except FileNotFoundError:
            return None
        number = str(experiment["experiment_id"])
        key = f"{number}@{experiment.get('creation_time', '')}"
        return (number, key) if experiment.get("lifecycle_stage") != "deleted" else None

    def _runs(self, number: str, which: str = "") -> Iterator[dict[str, Any]]:
        token = ""
        while True:
            answer = self._search(number, which, PAGE_RUNS, token)
            yield from answer.get("runs", ())
            token = answer.get("next_page_token", "")
            if not token:
                return

    def _search(self, number: str, which: str, most: int, token: str) -> dict[str, Any]:
        """One page of the experiment's active runs."""
        body = {"experiment_ids": [number], "max_results": most, "run_view_type": "ACTIVE_ONLY", "filter": which}
        return self._call("runs/search", body | ({"page_token": token} if token else {}))

    def _pages(self, path: str, key: str, **query: str) -> Iterator[dict[str, Any]]:
        token = ""
        while True:
            page = urlencode(query | {"max_results": str(PAGE_POINTS)} | ({"page_token": token} if token else {}))
            answer = self._call(f"{path}?{page}")
            yield from answer.get(key, ())
            token = answer.get("next_page_token", "")
            if not token:
                return

    @functools.cached_property
    def _address(self) -> tuple[str, dict[str, Any]]:
        """The server's address without user and password, and the settings of every request to it."""
        check_address("MLFLOW_TRACKING_URI", self.uri)
        address, user, password = without_user(self.uri)
        return address.rstrip("/"), request_settings(user, password)

    def _call(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """One request. Raises FileNotFoundError for what does not exist, StoreError for every other failure."""
        address, settings = self._address
        url = f"{address}/api/2.0/mlflow/{path}"
        shown = redact(self.uri)
        try:
            method = "GET" if body is None else "POST"
            response = requests.request(method, url, json=body, timeout=TIMEOUT_SECONDS, **settings)
            text = response.text
            if response.ok:
                answer: dict[str, Any] = response.json()
                return answer
        except (OSError, ValueError) as error:
            raise StoreError(f"cannot reach the tracking server {shown}: {redact(str(error), self.uri)}") from error
        if response.status_code == 404 and "RESOURCE_DOES_NOT_EXIST" in text:
            raise FileNotFoundError(path)
        raise StoreError(
            f"the tracking server {shown} answered {response.status_code} to {path}: {redact(text[:200], self.uri)}"
        )


def _shares(runs: int) -> list[str]:
    """Beginnings of run ids, which are random hexadecimal digits, that together cover all: a server reads a filter of
    more than some thousand words slowly or not at all."""
    digits = 0
    while runs > SHARE_RUNS * 16**digits:
        digits += 1
    return ["".join(share) for share in itertools.product("0123456789abcdef", repeat=digits)]
