"""A tracking store with results that exist already, as rows of its tables: the warehouse sees one store."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ablative.reports.store.store_tables import HISTORY, Point, Store, StoreTables, encoded
from ablative.study.home import tracking_tags as tags
from ablative.study.home.task_state import FINISHED

if TYPE_CHECKING:
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

    def read(self, experiment: str, tables: StoreTables) -> bool:
        known = self._store.read(experiment, tables)
        text, finished = _stored(tables) if known else (False, set())
        added = [each for task, each in self._given.items() if task not in finished]
        keys: list[Any] = [f"{OURS}{each.task.task_id}" if text else -1 - place for place, each in enumerate(added)]
        own = list(zip(keys, added, strict=True))
        tables.add_values("src_runs", [_run(key, each) for key, each in own])
        tables.add_values("src_tags", [(key, *tag) for key, each in own for tag in _tags(each)])
        tables.add_values("src_metrics", [(key, *metric) for key, each in own for metric in _metrics(each)])
        return known or bool(added)

    def history(self, run_uuids: Sequence[str], metrics: Sequence[str], tables: StoreTables, name: str) -> None:
        stored = [run for run in run_uuids if not run.startswith(OURS)]
        if stored:
            self._store.history(stored, metrics, tables, name)
        given = {run: self._given.get(run.removeprefix(OURS)) for run in run_uuids if run.startswith(OURS)}
        points = [Point.of(run, *point) for run, each in given.items() if each for point in each.points(metrics)]
        tables.add_values(name, points, HISTORY)


def _stored(tables: StoreTables) -> tuple[bool, set[str]]:
    """Whether a store's runs have texts as keys, and the ids of the tasks that it has finished runs of."""
    [[kind]] = tables.connection.execute("select max(typeof(run)) from src_runs").fetchall()
    done = tables.connection.execute(_FINISHED, {"states": list(FINISHED), "id": tags.TASK_ID, "state": tags.STATE})
    return kind == "VARCHAR", {task for (task,) in done.fetchall()}


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
    return [(name, *encoded(value)) for name, value in given.values.items()]


_FINISHED = """
    select owner.value
    from src_tags as owner
    join src_tags as state using (run)
    where owner.key = $id and state.key = $state and list_contains($states, state.value)
"""
