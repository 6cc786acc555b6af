"""Tasks as a command line names them: by id, or by the levels of their cell."""

from __future__ import annotations

from ablative.study.core.errors import AblateError, ConfigError, unknown
from ablative.study.plan.plan import Plan
from ablative.study.plan.task import Task
from ablative.study.spec.design import cell_name


def named_task(plan: Plan, text: str) -> Task:
    """The task with this id, or the first run of the cell that `factor=level,…` singles out."""
    if "=" not in text:
        return plan.task(text)
    condition = {}
    for part in text.split(","):
        factor, _, level = part.partition("=")
        condition[factor] = level
    for factor, level in condition.items():
        if factor != "seed" and level not in plan.study.factors.get(factor, ()):
            kind, allowed = (
                ("level", plan.study.factors[factor])
                if factor in plan.study.factors
                else ("factor", plan.study.factors)
            )
            raise ConfigError(unknown(kind, level if kind == "level" else factor, allowed, text))
    seed = condition.pop("seed", None)
    found = [
        task
        for task in plan.runs
        if any(condition.items() <= cell.items() for cell in task.cells) and seed in (None, str(task.seed))
    ]
    cells = {cell_name(task.cells[0]) for task in found}
    if len(cells) > 1:
        raise ConfigError(f"'{text}' means {len(cells)} cells: {'; '.join(sorted(cells)[:5])}")
    if not found:
        raise AblateError(f"'{text}' is no cell of study '{plan.study.name}'")
    return found[0]


def tasks_of_run(plan: Plan, text: str) -> tuple[Task, ...]:
    """All tasks of one seed of a cell, each after those that it needs; where a task is named, it and what it needs.

    Args:
        plan: a study's.
        text: a task's id, or `factor=level,…`; empty: the baseline, or the first cell.

    Raises:
        ConfigError, AblateError: it names no cell, or several.
    """
    if text and "=" not in text:
        return _with_needs(plan, [plan.task(text)])
    if not plan.tasks:
        raise AblateError(f"study '{plan.study.name}' has no task yet: {next(iter(plan.waiting.values()), 'no cell')}")
    run = named_task(plan, text) if text else next(iter(plan.runs), plan.tasks[0])
    own = [task for task in plan.tasks if set(map(cell_name, task.cells)) & set(map(cell_name, run.cells))]
    return _with_needs(plan, [task for task in own if not task.seeded or task.seed == run.seed])


def _with_needs(plan: Plan, tasks: list[Task]) -> tuple[Task, ...]:
    wanted = {task.task_id for task in tasks}
    for task in reversed(plan.tasks):
        if task.task_id in wanted:
            wanted.update(task.needs)
    return tuple(task for task in plan.tasks if task.task_id in wanted)
