"""A plan's tasks, done in this process: what jobs' numbers are compared with, without jobs."""

from __future__ import annotations

from ablative.study.core.files import write_atomic
from ablative.study.core.typed import dump
from ablative.study.plan.plan import Plan


def perform(plan: Plan) -> None:
    """Train and evaluate everything, in the order of the plan."""
    from ablative.trainer.clip.tasks import execute

    for task in plan.tasks:
        paths = task.paths(plan.home)
        paths.root.mkdir(parents=True, exist_ok=True)
        write_atomic(paths.config, dump(task.config), durable=False)
        execute(task.kind, paths.root, plan.home, lambda: False)
