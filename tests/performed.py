"""A plan's tasks, done in this process: what jobs' numbers are compared with, without jobs."""

from __future__ import annotations

from ablative.study.core.files import write_atomic
from ablative.study.core.registry import load
from ablative.study.core.typed import dump
from ablative.study.plan.plan import Plan
from ablative.study.trainers import JobTask


def perform(plan: Plan) -> None:
    """Train and evaluate everything, in the order of the plan."""
    execute = load(plan.trainer.entry)
    for task in plan.tasks:
        paths = task.paths(plan.home)
        paths.root.mkdir(parents=True, exist_ok=True)
        write_atomic(paths.config, dump(task.config), durable=False)
        own = (task.task_id, task.stage, task.seed, paths, plan.home, task.needed(plan.home), plan.trainer.name)
        execute(JobTask(*own, lambda: False, task.opens))
