"""Stages of a cell to tasks with ids: what the plan of a grid and the trials of a search have in common."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from ablative.study.core.errors import ConfigError
from ablative.study.core.identity import config_id, stage_id
from ablative.study.plan.task import Task
from ablative.study.spec.design import Cell
from ablative.study.spec.parents import PARENT_KEY
from ablative.study.trainers import Config, Stage, Trainer


def ordered(stages: Sequence[Stage]) -> list[Stage]:
    """The stages, each after those that it needs, else in the given order; they have no circle."""
    seen: set[str] = set()
    for stage in stages:
        if not seen.issuperset(stage.needs):
            break
        seen.add(stage.name)
    else:
        return list(stages)  # the usual case, 10,000 times in a large grid
    found: list[Stage] = []
    left = list(stages)
    while left:
        done = {stage.name for stage in found}
        ready = next(stage for stage in left if done.issuperset(stage.needs))
        found.append(ready)
        left.remove(ready)
    return found


def opening(stages: Sequence[Stage]) -> Stage:
    """The stage that opens a run: the first seeded one, in the graph's order."""
    return next(stage for stage in ordered(stages) if stage.seeded)


def closure(stages: Sequence[Stage], wanted: set[str]) -> list[Stage]:
    """The stages of these names, and all that they need."""
    known = {stage.name: stage for stage in stages}
    found = set(wanted)
    while more := {need for name in found for need in known[name].needs} - found:
        found |= more
    return [stage for stage in ordered(stages) if stage.name in found]


def bound_tasks(trainer: Trainer, stages: Sequence[Stage], seed: int, cell: Cell, parent: str = "") -> list[Task]:
    """The tasks of one run, each after those that it needs.

    Args:
        trainer: of the study.
        stages: of the cell; one at least is seeded.
        seed: of the run.
        cell: whose run it is.
        parent: id of the run that this one starts from; empty: none.
    """
    stages = ordered(stages)
    first = next(stage for stage in stages if stage.seeded)
    tasks: dict[str, Task] = {}
    for stage in stages:
        needs = {name: tasks[name].task_id for name in stage.needs}
        runs = [tasks[name].run_id for name in stage.needs]
        if stage is first and parent:
            needs[PARENT_KEY] = parent
            runs.append(parent)
        task_id, config = _identified(trainer, stage, stage.config, needs, seed)
        former = () if stage.former is None else (_identified(trainer, stage, stage.former, needs, seed)[0],)
        run_id = tasks[first.name].run_id if stage.seeded and stage is not first else task_id
        own = (task_id, stage.name, run_id, seed, (cell,), tuple(needs.values()), tuple(runs), tuple(needs))
        tasks[stage.name] = Task(*own, config, stage.runtime, stage.seeded, first.name, former)
    return list(tasks.values())


def id_after(trainer: Trainer, task: Task, needs: Mapping[str, str]) -> str:
    """Id that a planned task would have if what it needs had other ids; `needs`: stage → id."""
    stage = Stage(task.stage, task.config, seeded=task.seeded)
    return _identified(trainer, stage, task.config, needs, task.seed)[0]


def _identified(
    trainer: Trainer, stage: Stage, config: Config, needs: Mapping[str, str], seed: int
) -> tuple[str, Config]:
    """Id and bound configuration."""
    bound = trainer.bind(stage.name, config, needs, seed if stage.seeded else 0)
    try:
        if trainer.self_identified:
            return config_id(bound), bound
        return stage_id(trainer.name, stage.name, bound, needs, seed if stage.seeded else None), bound
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"trainer '{trainer.name}': the configuration of stage '{stage.name}' has no id: {error}; expected "
            "numbers, texts, lists and mappings"
        ) from None


def by_depth(known: Mapping[str, Task], wanted: Collection[str]) -> tuple[Task, ...]:
    """The wanted tasks, and what they need, by the longest chain of needs behind each, else in the given order."""
    depths: dict[str, int] = {}

    def depth(task_id: str) -> int:
        if task_id not in depths:
            depths[task_id] = 1 + max(map(depth, known[task_id].needs), default=-1)
        return depths[task_id]

    for task_id in wanted:
        depth(task_id)
    return tuple(sorted((task for task in known.values() if task.task_id in depths), key=lambda t: depths[t.task_id]))
