"""Runs in MLflow's databases and on its servers: every parameter, tag and latest metric, not ablate's alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ablative.reports.imports.run_store import Run, RunStore
from ablative.reports.store.database_store import DatabaseStore
from ablative.reports.store.rest_cache import metric_value
from ablative.reports.store.rest_store import RestStore
from ablative.reports.store.store_tables import Point

LARGEST = 1.797e308
"""MLflow stores infinities as the largest double."""


class DatabaseRuns(RunStore):
    """SQLite or PostgreSQL. The columns that are read have been the same since MLflow 1.0."""

    def __init__(self, uri: str) -> None:
        self._store = DatabaseStore(uri)

    def experiments(self) -> Mapping[str, str]:
        query = "select name, experiment_id from experiments where lifecycle_stage = 'active'"
        return {str(name): str(number) for name, number in self._store.rows(query)}

    def runs(self, experiment: str) -> Iterator[Run]:
        ours = f"experiment_id = {int(experiment)} and lifecycle_stage = 'active'"
        head = "run_uuid, status, name, start_time, end_time"
        found = {
            run: Run(run, status, name or "", started, ended)
            for run, status, name, started, ended in self._store.rows(f"select {head} from runs where {ours}")
        }
        which = f"run_uuid in (select run_uuid from runs where {ours})"
        for run, key, value in self._store.rows(f"select run_uuid, key, value from params where {which}"):
            found[run].params[key] = value
        for run, key, value in self._store.rows(f"select run_uuid, key, value from tags where {which}"):
            found[run].tags[key] = value
        latest = f"select run_uuid, key, value, is_nan from latest_metrics where {which}"
        for run, key, value, is_nan in self._store.rows(latest):
            found[run].metrics[key] = float("nan") if is_nan else _restored(value)
        yield from sorted(found.values(), key=lambda run: (run.started or 0, run.run_id))

    def points(self, runs: Sequence[str], metrics: Sequence[str]) -> list[Point]:
        return self._store.points(runs, metrics)


class ServerRuns(RunStore):
    """An MLflow server's REST API."""

    def __init__(self, uri: str) -> None:
        self._uri, self._store = uri, RestStore(uri)

    def experiments(self) -> Mapping[str, str]:
        return self._store.experiments()

    def runs(self, experiment: str) -> Iterator[Run]:
        found = [_run(data) for data in self._store.runs(experiment)]
        yield from sorted(found, key=lambda run: (run.started or 0, run.run_id))

    def points(self, runs: Sequence[str], metrics: Sequence[str]) -> list[Point]:
        return self._store.points(runs, metrics)

    def link(self, experiment: str, run: str) -> str:
        return f"{self._store.address}/#/experiments/{experiment}/runs/{run}"


def _run(found: Mapping[str, Any]) -> Run:
    info, data = found["info"], found.get("data", {})
    numbers = {point["key"]: metric_value(point) for point in data.get("metrics", ())}
    return Run(
        run_id=info["run_id"],
        status=info["status"],
        name=info.get("run_name", ""),
        started=_whole(info.get("start_time")),
        ended=_whole(info.get("end_time")),
        params={item["key"]: item.get("value", "") for item in data.get("params", ())},
        metrics={key: float("nan") if nan else _restored(value) for key, (value, nan) in numbers.items()},
        tags={item["key"]: item.get("value", "") for item in data.get("tags", ())},
    )


def _whole(value: object) -> int | None:
    return None if value is None else int(str(value))


def _restored(value: float) -> float:
    return value if abs(value) < LARGEST else float("inf") if value > 0 else float("-inf")
