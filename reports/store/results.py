"""A study's results: what it plans, how far it is, and the numbers in its store."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ablative.reports.store.coverage import Coverage, cover
from ablative.reports.store.database_store import open_store
from ablative.reports.store.existing_store import Existing, StoreWithExisting
from ablative.reports.store.labels import Labels
from ablative.reports.store.warehouse import Warehouse
from ablative.study.home.records import environment_of, read_record

if TYPE_CHECKING:
    from ablative.study.plan.plan import Plan
    from ablative.study.plan.task import Task
    from ablative.study.spec.design import Cell
    from ablative.study.spec.study_file import Study


@dataclass(frozen=True)
class Results:
    """What every table, figure and claim of a study is made from."""

    plan: Plan
    coverage: Coverage
    """The state of each planned task."""
    warehouse: Warehouse
    """The numbers, as SQL views; it is open as long as the results are used."""
    _environments: dict[str, Mapping[str, Any]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def study(self) -> Study:
        return self.plan.study

    @functools.cached_property
    def here(self) -> frozenset[str]:
        """Runs whose folders lie in this home."""
        folder = self.plan.home.runs
        return frozenset(os.listdir(folder)) if folder.is_dir() else frozenset()

    def environment(self, task: Task) -> Mapping[str, Any]:
        """Device, host and versions of a task that ran in this home, as its record has them; empty for others."""
        if task.run_id not in self.here:
            return {}
        if task.task_id not in self._environments:
            record = read_record(task.paths(self.plan.home)) or {}
            self._environments[task.task_id] = environment_of(record, self.plan.home)
        return self._environments[task.task_id]

    @functools.cached_property
    def labels(self) -> Labels:
        """How its names are printed."""
        return Labels(self.plan.study.labels, self.coverage.measures)

    @property
    def cells(self) -> Sequence[Cell]:
        return self.plan.cells


def open_warehouse(plan: Plan) -> Warehouse:
    """The study's part of the tracking store that its home names. Raises StoreError."""
    store = open_store(plan.home.tracking_uri, plan.home.tracking_cache)
    if isinstance(plan.existing, Existing):
        store = StoreWithExisting(store, plan.existing)
    return Warehouse(store, plan)


@contextlib.contextmanager
def open_results(plan: Plan) -> Iterator[Results]:
    """The study's results as its tracking store has them now. Raises StoreError."""
    with open_warehouse(plan) as warehouse:
        yield Results(plan, cover(plan, warehouse), warehouse)
