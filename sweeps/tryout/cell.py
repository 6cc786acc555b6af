"""The tasks of one cell, tried: run without an interruption first, then stopped and resumed."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ablative.study.core.plurals import counted
from ablative.study.costs.estimate import estimate
from ablative.study.costs.history import RunTime, facts
from ablative.study.costs.usage import TaskUsage
from ablative.study.home.paths import Home
from ablative.study.home.records import read_record
from ablative.study.home.tried import Tried
from ablative.study.plan.plan import Plan
from ablative.study.plan.task import Task
from ablative.sweeps.tryout.attempt import COST, Performed, Scratch
from ablative.sweeps.tryout.resumption import Checked, check

FIRST_SHARE = 0.45
"""Share of the time after which tasks are no longer run without an interruption: the rest is for the second time."""


@dataclass
class Cell:
    """What came of trying a cell."""

    performed: list[Performed] = field(default_factory=list)
    left: list[Task] = field(default_factory=list)
    """Tasks that were not begun: what they need did not end."""
    checked: dict[str, Checked] = field(default_factory=dict)
    """Stage → what came of stopping and resuming it."""

    def missing(self, plan: Plan) -> dict[str, list[str]]:
        """Stage → declared metrics that were not seen."""
        seen = {name for one in self.performed for name in one.final}
        finished = {one.task.stage for one in self.performed if one.finished}
        tasks = [*(one.task for one in self.performed), *self.left]
        return {
            task.stage: lacking
            for task in tasks
            if task.stage not in finished and (lacking := [n for n in declared(plan, task) if n not in seen])
        }

    @property
    def complete(self) -> bool:
        """Every task has ended with what it has to leave."""
        return not self.left and all(one.finished for one in self.performed)


def declared(plan: Plan, task: Task) -> list[str]:
    """Metrics that a task's stage may yield."""
    return [m.name for m in plan.declared.values() if m.stage == task.stage and not m.name.startswith(COST)]


@contextmanager
def scratch_of(plan: Plan) -> Iterator[Scratch]:
    """Two empty homes, which are removed at the end."""
    with tempfile.TemporaryDirectory(prefix="ablate-try-", ignore_cleanup_errors=True) as folder:
        yield Scratch(plan, Home(Path(folder, "first")), Home(Path(folder, "second")))


def try_cell(
    scratch: Scratch,
    tasks: Sequence[Task],
    minutes: float,
    begun: Callable[[Task], None],
    ended: Callable[[Performed], None],
    checked: Callable[[Performed, Checked], None],
) -> Cell:
    """Run the tasks of a cell; the callbacks print what happens.

    Args:
        scratch: where they lie.
        tasks: each after those that it needs.
        minutes: for everything.
        begun: called with each task before it is run.
        ended: called with each task after it was run without an interruption.
        checked: called with each stage's result of a stop and a resumption.
    """
    cell, begin = Cell(), time.monotonic()
    half, end = begin + 60 * minutes * FIRST_SHARE, begin + 60 * minutes
    for task in tasks:
        done = {one.task.task_id for one in cell.performed if one.finished}
        if not done.issuperset(task.needs) or (time.monotonic() >= half and cell.performed):
            cell.left.append(task)
            continue
        begun(task)
        cell.performed.append(scratch.perform(task, False, lambda seconds: time.monotonic() >= half))
        ended(cell.performed[-1])
    stages: set[str] = set()
    for one in cell.performed:
        name = one.task.stage
        if one.state == "failed" or name in stages:
            continue
        stages.add(name)
        known = scratch.plan.trainer.resumption(name, one.task.config)
        cell.checked[name] = check(scratch, one, known, end)
        checked(one, cell.checked[name])
    return cell


def measured(plan: Plan, cell: Cell) -> dict[str, Tried]:
    """What is kept of it, by stage."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    found = {}
    for one in cell.performed:
        if one.state == "failed":
            continue
        own = cell.checked.get(one.task.stage, Checked())
        compared, steps = own.comparison, one.steps
        largest = compared.largest if compared else None
        known = not own.why_not and (compared is not None or bool(own.failed))
        took = _took(one)
        found[one.task.stage] = Tried(
            cell=one.task.name,
            time=now,
            seconds=round(one.seconds, 3),
            seconds_per_step=one.seconds / steps[-1] if steps and steps[-1] > 0 else None,
            exact=False if own.failed else (compared.exact if compared else None),
            resumes=(not own.anew and not own.failed) if known else None,
            metric=largest.metric if largest else "",
            difference=min(largest.size, 1e308) if largest else None,
            again=int(own.again["reports"]) if own.again else 0,
            process_seconds=took.seconds if took else None,
            gpu=took.gpu if took else "",
            **facts(plan.trainer, one.task.stage, one.task.config, plan.needed_configs(one.task)),
        )
    return found


def price(plan: Plan, cell: Cell) -> str:
    """What the tasks that the study lacks would cost, by what this cell has taken; empty: that is not known."""
    records = {}
    for task in plan.tasks:
        if (record := read_record(task.paths(plan.home))) is not None:
            records[task.task_id] = record
    missing = [task for task in plan.tasks if task.task_id not in records and not plan.has(task.task_id)]
    for one in cell.performed:
        if (record := read_record(one.paths)) is not None:
            records[one.task.task_id] = record
        elif one.state == "stopped" and (whole := _whole_record(one)) is not None:
            records[one.task.task_id] = whole
    if not records or not missing:
        return ""
    costs = estimate(plan, records)
    unknown = len(costs.unknown(missing))
    if unknown == len(missing):
        return ""
    rest = f", without {counted(unknown, 'task')} of which nothing is known" if unknown else ""
    return f"{len(missing)} tasks are missing: about {costs.amount(missing)}, by what this cell took{rest}"


def _took(one: Performed) -> RunTime | None:
    """What the whole task takes; None: that is not known."""
    record = read_record(one.paths) or _whole_record(one)
    return None if record is None or record.get("seconds") is None else RunTime.of(record)


def _whole_record(one: Performed) -> dict[str, Any] | None:
    """What a record of a task that was cut would say of its time, by its progress; None: that is not known."""
    used = TaskUsage.by_journal(one.entries)
    if one.seconds_left is None or used is None:
        return None
    return {
        "state": "completed",
        "seconds": one.seconds + one.seconds_left,
        "spent": {"wasted": 0.0, "gpus": used.gpus, "cores": used.cores},
        "environment": {"device": used.device, "processes": one.task.runtime.processes},
        "metrics": {},
    }
