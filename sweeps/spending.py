"""What a plan's tasks have cost so far: of finished ones by their records, of others by their journals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from study.budget import restrict, wanted
from study.design import cell_name
from study.journal import read
from study.paths import Home, RunPaths
from study.plan import Plan, Task
from study.spending import Spent, total
from sweeps.states import Survey, TaskState

BEGUN = ("running", "failed")
"""States of unfinished tasks that may have cost something."""


def spent(states: Survey, home: Home) -> dict[str, Spent]:
    """Task id → what it has cost, of tasks that have cost something. Reads the journals of unfinished tasks."""
    found = {}
    for state in states.states:
        if state.finished and state.detail:
            found[state.task.task_id] = Spent.of(state.detail)
        elif state.state in BEGUN and (unfinished := _unfinished(state, home)) is not None:
            found[state.task.task_id] = unfinished
    return found


def to_json(plan: Plan, costs: dict[str, Spent]) -> dict[str, Any]:
    """Totals of the study, and of each table, cell and run of it."""

    def bill(tasks: Iterable[Task]) -> dict[str, Any]:
        return asdict(total(costs[task.task_id] for task in tasks if task.task_id in costs))

    runs: dict[str, list[Task]] = {}
    cells: dict[str, list[Task]] = {cell_name(cell): [] for cell in plan.cells}
    for task in plan.tasks:
        runs.setdefault(task.run_id, []).append(task)
        for cell in task.cells:
            cells[cell_name(cell)].append(task)
    tables = {name: restrict(plan.tasks, wanted(plan, name)) for name in plan.study.tables}
    parts: dict[str, Mapping[str, Iterable[Task]]] = {"tables": tables, "cells": cells, "runs": runs}
    return {"study": bill(plan.tasks)} | {
        kind: {name: bill(tasks) for name, tasks in groups.items()} for kind, groups in parts.items()
    }


def _unfinished(state: TaskState, home: Home) -> Spent | None:
    """By the task's journal; None where it never began."""
    paths = state.task.paths(home)
    saved = None
    if isinstance(paths, RunPaths) and paths.checkpoint.exists():
        saved = paths.checkpoint.stat().st_mtime
    return Spent.by_journal(read(paths.journal)[0], saved, alive=state.state == "running")
