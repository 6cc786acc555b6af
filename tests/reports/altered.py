"""Copies of a finished study in a home of their own, and changes to what the store says of it."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import stores

from ablative.study.plan.plan import Plan, Task

TEXT = stores.STUDY[: stores.STUDY.index("figures:")]
"""Without figures, which are not about this."""
OTHER = "f" * 40


def copy_of(full: Plan, folder: Path, overrides: tuple[str, ...] = ()) -> Plan:
    """The same study and store in a home of its own."""
    plan = stores.plan_of(folder, TEXT, overrides)
    plan.home.root.mkdir(parents=True)
    shutil.copyfile(full.home.store, plan.home.store)
    return plan


def tag(plan: Plan, task: Task, key: str, value: str) -> None:
    """Change a tag of a task in the store."""
    with sqlite3.connect(plan.home.store) as store:
        changed = store.execute(
            "update tags set value = ? where key = ? and run_uuid in (select run_uuid from tags where value = ? "
            "and key = 'ablate.task_id')",
            (value, f"ablate.{key}", task.task_id),
        )
        assert changed.rowcount == 1
    store.close()


def ended(plan: Plan, task: Task, moment: int) -> None:
    """Change when a task ended, in milliseconds since 1970."""
    with sqlite3.connect(plan.home.store) as store:
        store.execute(
            "update runs set end_time = ? where run_uuid in (select run_uuid from tags where value = ? "
            "and key = 'ablate.task_id')",
            (moment, task.task_id),
        )
    store.close()


def find(plan: Plan, **cell: str) -> Callable[[int, str], Task]:
    """The task of a cell, by seed and stage."""
    return lambda seed, stage: next(
        task
        for task in plan.tasks
        if (task.seed, task.stage) == (seed, stage) and cell.items() <= task.cells[0].items()
    )


def remeasured(plan: Plan, task: Task, metric: str, value: float) -> None:
    """Change a result in the store."""
    with sqlite3.connect(plan.home.store) as store:
        changed = store.execute(
            "update latest_metrics set value = ? where key = ? and run_uuid in "
            "(select run_uuid from tags where value = ? and key = 'ablate.task_id')",
            (value, metric, task.task_id),
        )
        assert changed.rowcount == 1
    store.close()


def recorded(plan: Plan, task: Task, torch: str = "2.13.0") -> None:
    """The record that a task leaves in its directory, as far as a report reads it."""
    environment = {"device": "NVIDIA H200", "host": "node1", "python": "3.11.7", "packages": {"torch": torch}}
    path = task.paths(plan.home).record
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"state": "completed", "metrics": {}, "environment": environment}))
