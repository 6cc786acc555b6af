"""What the study plans and how far it is: the state of every task, and which tasks stand behind a number."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ablative.reports.store.measures import Measures
from ablative.reports.store.warehouse import Warehouse, cell_key
from ablative.study.home.task_state import FINISHED, directory_state
from ablative.study.plan.tuned_levels import Searched
from ablative.study.spec.design import cell_name
from ablative.study.syntax.metric_patterns import expand

if TYPE_CHECKING:
    from ablative.study.plan.plan import Plan
    from ablative.study.plan.task import Task

REPORT_STATES = (*FINISHED, "running", "failed", "not synced", "eligible", "waiting", "absent")
"""States of a task as a report finds them, in the store and the run's directory; it asks no scheduler."""

TELLING = ("failed", "diverged", "not synced", "running", "eligible", "waiting", "absent", "completed")
"""Which state explains a missing number best, where several seeds differ."""


@dataclass(frozen=True)
class StoredState:
    """One task with the state that the store and the run's directory give it (one of `REPORT_STATES`)."""

    task: Task
    state: str
    cause: str = ""
    """Cause of a failure; for a task that waits in vain, how what it needs ended."""
    blocked: str = ""
    """State of what it needs, where it waits for a task that failed or diverged."""
    needs: tuple[StoredState, ...] = field(default=(), repr=False, compare=False)
    """The tasks that have to be finished before."""

    @property
    def text(self) -> str:
        return f"{self.state}: {self.cause}" if self.cause else self.state

    @functools.cached_property
    def chain(self) -> Mapping[str, StoredState]:
        """Task id -> state of all that it needs, directly or through others, and last itself."""
        found: dict[str, StoredState] = {}
        for need in self.needs:
            found |= need.chain
        found[self.task.task_id] = self
        return found


@dataclass(frozen=True)
class Coverage:
    """States of all planned tasks, and the metrics that they can yield."""

    tasks: Mapping[tuple[str, str], tuple[StoredState, ...]]
    """(cell key, stage) -> one task for each seed."""
    states: Mapping[str, StoredState]
    """task id -> state, each after those of the tasks that it needs."""
    measures: Measures
    """The metrics that the planned tasks may report."""
    observed: frozenset[str]
    """Metric names that finished tasks have reported."""
    searched: Mapping[str, str] = field(default_factory=dict)
    """Cells (their keys) whose configuration a search has still to find; and why."""
    tuned: Mapping[str, Searched] = field(default_factory=dict)
    """Cells (their keys) that stand for what a search has found; and what that cost."""
    _behind: dict[tuple[str, tuple[str, ...]], tuple[StoredState, ...]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def expected(self, patterns: Iterable[str]) -> tuple[str, ...]:
        """Metric names that a column covers: all that are possible, less those proved not to exist.

        A possible name is proved not to exist (`top5` of three classes) once a finished task has reported other
        metrics of that data set, but not this one.
        """
        seen = {name.rpartition("/")[0] for name in self.observed}
        names = sorted({*self.measures.declared, *self.observed})
        found = {name for pattern in patterns for name in expand(pattern, names)}
        return tuple(name for name in sorted(found) if name in self.observed or name.rpartition("/")[0] not in seen)

    def behind(self, cell: str, stages: Iterable[str]) -> tuple[StoredState, ...]:
        """The tasks of a cell (its key) of some stages; none where it lacks one of these."""
        key = cell, tuple(stages)
        if key not in self._behind:  # asked for at every number of a table
            groups = [self.tasks.get((cell, stage), ()) for stage in key[1]]
            found = tuple(state for group in groups for state in group) if groups and all(groups) else ()
            self._behind[key] = found
        return self._behind[key]

    def counts(self) -> dict[str, int]:
        """state -> number of tasks, in the order of REPORT_STATES, without zeros."""
        counter = Counter(state.state for state in self.states.values())
        return {state: counter[state] for state in REPORT_STATES if counter[state]}


def missing_text(tasks: Sequence[StoredState]) -> str:
    """The word that a table prints instead of a number; a dash where no task could yield it."""
    if not tasks:
        return "–"
    present = {task.blocked or task.state for task in tasks}
    word = next(state for state in TELLING if state in present)
    return "–" if word == "completed" else word


def cover(plan: Plan, warehouse: Warehouse) -> Coverage:
    """States of the plan's tasks: the store's word for what is finished, the directory's for the rest."""
    rows = warehouse.rows("select task_id, coalesce(state, ''), coalesce(cause, '') from runs where planned")
    stored = {task_id: (state, cause) for task_id, state, cause in rows}
    states: dict[str, StoredState] = {}
    groups: dict[tuple[str, str], list[StoredState]] = {}
    for task in plan.tasks:  # each after those that it needs
        needs = tuple(states[need] for need in task.needs if need in states)
        state = StoredState(task, *_state(plan, task, stored.get(task.task_id, _UNSEEN), needs), needs)
        states[task.task_id] = state
        for cell in task.cells:
            groups.setdefault((cell_key(cell), task.stage), []).append(state)
    return Coverage(
        tasks={key: tuple(group) for key, group in groups.items()},
        states=states,
        measures=Measures.planned(plan),
        observed=frozenset(warehouse.metrics()),
        searched={cell_key(c): plan.waiting[cell_name(c)] for c in plan.cells if cell_name(c) in plan.waiting},
        tuned={cell_key(c): plan.searched[cell_name(c)] for c in plan.cells if cell_name(c) in plan.searched},
    )


_UNSEEN = ("", "")


def _state(plan: Plan, task: Task, stored: tuple[str, str], needs: Sequence[StoredState]) -> tuple[str, str, str]:
    """State, cause, and what it waits for in vain.

    First match wins: the store's finished, the directory, the store's unfinished (another home's), what it needs.
    """
    if stored[0] in FINISHED:
        return stored[0], "", ""
    if not plan.trainer.executes:
        return "absent", "", ""
    found = directory_state(task.paths(plan.home))
    if found.state in FINISHED:
        return "not synced", found.state, ""
    state, cause = {"claimed": ("running", ""), "none": stored}.get(found.state, ("failed", found.cause))
    if state in ("running", "failed"):
        return state, cause, ""
    for need in needs:
        if need.blocked or need.state in ("failed", "diverged"):
            return "waiting", _vain(task, need), need.blocked or need.state
    waits = any(need.state not in ("completed", "not synced") for need in needs)
    return "waiting" if waits else "eligible", "", ""


def _vain(task: Task, need: StoredState) -> str:
    """`its run failed, out of memory`: why a task waits in vain."""
    if need.blocked:
        return need.cause
    if need.task.run_id != task.run_id:
        what = f"what it needs, {need.task.name},"
    else:
        what = "its run" if need.task.opens else f"its {need.task.stage}"
    return f"{what} {need.state}" + (f", {need.cause}" if need.cause else "")
