"""Plans with a graph of stages, one of which all runs share; tasks are those of `fakes`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from fakes import Behaviours, tiny_plan

from ablative.study.home.paths import Home
from ablative.study.plan.plan import Plan
from ablative.study.plan.stage_graph import bound_tasks
from ablative.study.plan.task import Task
from ablative.study.spec.cluster import ClusterConfig
from ablative.study.spec.runtime import RuntimeConfig
from ablative.study.trainers import Stage, Trainer

CONFIG = ClusterConfig(name="slurm", kind="slurm", canary=0)


class GraphTrainer(Trainer):
    """Gives ids to stages."""

    name = "graph"


def stages(cell: str, data: str = "one", processes: int = 1) -> list[Stage]:
    """`data`, which no seed changes, `train`, `score`, and `note`, which needs the last two."""
    return [
        Stage("data", {"of": data}, seeded=False),
        Stage("train", {"cell": cell}, RuntimeConfig(processes=processes), ("data",)),
        Stage("score", {}, needs=("train",)),
        Stage("note", {}, needs=("train", "score")),
    ]


def run(cell: str, seed: int = 0, parent: str = "", **options: Any) -> list[Task]:
    """Tasks of one run: data, train, score, note."""
    return bound_tasks(GraphTrainer(), stages(cell, **options), seed, {"method": cell}, parent)


def graph_plan(home: Home, runs: Sequence[Sequence[Task]], behaviours: Behaviours | None = None) -> Plan:
    """A plan of these runs' tasks, each once, by depth and then in the order of the runs."""
    plan = tiny_plan(home, behaviours)
    known = {task.task_id: task for tasks in runs for task in tasks}
    depths: dict[str, int] = {}
    for task in known.values():
        depths[task.task_id] = 1 + max((depths[need] for need in task.needs), default=-1)
    ordered = sorted(known.values(), key=lambda task: depths[task.task_id])
    return dataclasses.replace(plan, tasks=tuple(ordered), cluster=CONFIG, clusters={})
