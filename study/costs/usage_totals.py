"""What a study has cost, by table, cell and run: sums over the tasks behind each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ablative.study.costs.budget import restrict, wanted
from ablative.study.costs.usage import TaskUsage, Usage, total
from ablative.study.plan.plan import Plan
from ablative.study.plan.task import Task
from ablative.study.spec.design import cell_name


@dataclass(frozen=True)
class UsageTotals:
    """Sums over one study. A task behind two tables counts in both, and once in the study."""

    study: Usage
    tables: dict[str, Usage]
    cells: dict[str, Usage]
    """Cell's name → usage of its tasks."""
    runs: dict[str, Usage]
    """Run id → usage of the run and its evaluations."""


def usage_totals(plan: Plan, costs: Mapping[str, TaskUsage]) -> UsageTotals:
    """Sums of `costs` (by task id); the sum over no task is zero."""

    def usage(tasks: Iterable[Task]) -> Usage:
        return total(costs[task.task_id] for task in tasks if task.task_id in costs)

    runs: dict[str, list[Task]] = {}
    cells: dict[str, list[Task]] = {cell_name(cell): [] for cell in plan.cells}
    for task in plan.tasks:
        runs.setdefault(task.run_id, []).append(task)
        for cell in task.cells:
            cells[cell_name(cell)].append(task)
    return UsageTotals(
        study=usage(plan.tasks),
        tables={name: usage(restrict(plan.tasks, wanted(plan, name))) for name in plan.study.tables},
        cells={name: usage(tasks) for name, tasks in cells.items()},
        runs={run: usage(tasks) for run, tasks in runs.items()},
    )
