"""A tracking store with results that exist already, as rows of its tables: the warehouse sees one store."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ablative.reports.store.store_tables import (
    HISTORY,
    METRICS,
    RUN_TAGS,
    RUNS,
    Store,
    StoreTables,
    Types,
    table_of,
    typed,
)
from ablative.study.home import tracking_tags as tags
from ablative.study.home.task_state import FINISHED

if TYPE_CHECKING:
    import pyarrow

    from ablative.study.plan.task import Task

Points = list[tuple[str, int, float]]
"""(metric, step, value)."""


@dataclass(frozen=True)
class Given:
    """A task whose result lies somewhere else."""

    task: Task
    place: str
    """Where a reader finds its run: `runs.csv:12`."""
    link: str = ""
    """Address of a page that shows it; empty: there is none."""
    commit: str = "unknown"
    started: int | None = None
    ended: int | None = None
    """Both in milliseconds since 1970."""
    values: Mapping[str, float] = field(default_factory=dict)
    """Empty for a task that is only needed by such a one."""
    code: str = ""
    """What makes its code one version with that of others; empty: its commit."""
    state: str = "completed"
    points: Callable[[Sequence[str]], Points] = lambda metrics: []
    """(metrics) → what was logged of them."""


@dataclass(frozen=True)
class Existing:
    """The results that exist already, by task id."""

    given: Mapping[str, Given]
    notes: tuple[str, ...]
    """What a plan says of them."""

    @functools.cached_property
    def places(self) -> Mapping[str, str]:
        """Task id → where its result lies."""
        return {task: each.place for task, each in self.given.items()}


OURS = "existing:"
"""Prefix of the ids of runs that are added; the id of the task follows."""


class StoreWithExisting:
    """Adds a run for each task whose result lies elsewhere, unless the store has a finished one."""

    def __init__(self, store: Store, existing: Existing) -> None:
        self._store, self._given = store, existing.given

    def read(self, experiment: str) -> StoreTables | None:
        found = self._store.read(experiment)
        finished = _finished(found) if found is not None else set()
        added = [each for task, each in self._given.items() if task not in finished]
        if not added:
            return found
        text = found is not None and _is_text(found.runs)
        keys: list[Any] = [f"{OURS}{each.task.task_id}" if text else -1 - place for place, each in enumerate(added)]
        own: dict[str, tuple[Types, list[tuple[object, ...]]]] = {
            "runs": (RUNS, [_run(key, each) for key, each in zip(keys, added, strict=True)]),
            "tags": (RUN_TAGS, [(key, *tag) for key, each in zip(keys, added, strict=True) for tag in _tags(each)]),
            "metrics": (METRICS, [(key, *m) for key, each in zip(keys, added, strict=True) for m in _metrics(each)]),
        }
        return StoreTables(
            **{name: _joined(found and getattr(found, name), rows, types, text) for name, (types, rows) in own.items()}
        )

    def history(self, run_uuids: Sequence[str], metrics: Sequence[str]) -> pyarrow.Table:
        import pyarrow as pa

        stored = [run for run in run_uuids if not run.startswith(OURS)]
        rows: list[tuple[object, ...]] = []
        for run in run_uuids:
            if run.startswith(OURS) and run.removeprefix(OURS) in self._given:
                points = self._given[run.removeprefix(OURS)].points(metrics)
                rows += [(run, name, step, *_encoded(value)) for name, step, value in points]
        own = table_of(rows, HISTORY)
        return pa.concat_tables([typed(self._store.history(stored, metrics), HISTORY), own]) if stored else own


def _finished(found: StoreTables) -> set[str]:
    """Ids of the tasks that a store has finished runs of."""
    rows = found.tags.to_pylist()
    done = {row["run"] for row in rows if row["key"] == tags.STATE and row["value"] in FINISHED}
    return {row["value"] for row in rows if row["key"] == tags.TASK_ID and row["run"] in done}


def _is_text(runs: pyarrow.Table) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(runs.schema.field("run").type))


def _run(key: object, given: Given) -> tuple[object, ...]:
    return key, f"{OURS}{given.task.task_id}", given.started, given.ended


def _tags(given: Given) -> list[tuple[str, str]]:
    task = given.task
    commit, dirty, _ = given.commit.partition("-dirty")
    found: Mapping[str, str] = {
        tags.TASK_ID: task.task_id,
        tags.RUN_ID: task.run_id,
        tags.STAGE: task.stage,
        tags.SEED: str(task.seed),
        tags.CELLS: json.dumps(task.cells),
        tags.STATE: given.state,
        tags.COMMIT: commit,
        tags.DIRTY: "true" if dirty else "false",
        tags.ORIGIN: f"{given.place} {given.link}".rstrip(),
    }
    return [*found.items(), *([(tags.SOURCES, given.code)] if given.code else [])]


def _metrics(given: Given) -> list[tuple[str, float, bool]]:
    return [(name, *_encoded(value)) for name, value in given.values.items()]


def _encoded(value: float) -> tuple[float, bool]:
    """(value, is_nan) as MLflow's tables have it."""
    return (0.0, True) if value != value else (value, False)


def _joined(
    stored: pyarrow.Table | None, rows: Sequence[tuple[object, ...]], types: Types, text: bool
) -> pyarrow.Table:
    import pyarrow as pa

    own = table_of(rows, {**types, "run": "string"} if text and "run" in types else types)
    if stored is None or not stored.num_rows:
        return own
    known = typed(stored, types)
    return pa.concat_tables([known, own.cast(known.schema)])
