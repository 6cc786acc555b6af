"""What is scheduled: one pretraining, or one evaluation of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ablative.study.clip.config import EvaluationConfig, RunConfig
from ablative.study.home.paths import Home, SearchPaths, TaskPaths
from ablative.study.spec.design import Cell, cell_name


@dataclass(frozen=True)
class _Scheduled:
    """Identity of a task."""

    task_id: str
    kind: str
    """pretrain | evaluate"""
    run_id: str
    seed: int
    cells: tuple[Cell, ...]
    """Every cell with this configuration; mostly one. The same configuration is run once."""
    protocol: str | None

    def paths(self, home: Home) -> TaskPaths:
        run = home.run(self.run_id)
        return run if self.kind == "pretrain" else run.evaluation(self.task_id)


@dataclass(frozen=True)
class TaskRef(_Scheduled):
    """A task without its configuration, which lies in its directory: small enough to be sent to another process."""

    name: str

    @classmethod
    def of(cls, task: Task | TaskRef) -> TaskRef:
        if isinstance(task, TaskRef):
            return task
        return cls(task.task_id, task.kind, task.run_id, task.seed, task.cells, task.protocol, task.name)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TaskRef:
        return cls(**{**value, "cells": tuple(value["cells"])})

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def run(self) -> TaskRef:
        """The pretraining that an evaluation belongs to."""
        name = self.name.removesuffix(f" [{self.protocol}]")
        return TaskRef(self.run_id, "pretrain", self.run_id, self.seed, self.cells, None, name)


def trial_tasks(search: SearchPaths) -> Iterator[TaskRef]:
    """Every task of every trial of a search that was ever taken, and of their repeats."""
    for pattern in ("*/trials/*/tasks.json", "*/trials/*/repeats/*/tasks.json"):
        for path in sorted(search.root.glob(pattern)):
            yield from map(TaskRef.from_json, json.loads(path.read_text()))


def with_trials(tasks: Sequence[Task], search: SearchPaths) -> list[Task | TaskRef]:
    """Whatever has a journal to ship: a study's tasks, and those that only trials of its search have."""
    known = {task.task_id for task in tasks}
    return [*tasks, *(task for task in trial_tasks(search) if task.task_id not in known)]


@dataclass(frozen=True)
class Task(_Scheduled):
    """One task of a plan."""

    config: RunConfig | EvaluationConfig

    @property
    def name(self) -> str:
        suffix = f" [{self.protocol}]" if self.protocol else ""
        return f"{cell_name(self.cells[0])} seed={self.seed}{suffix}"

    def to_json(self) -> dict[str, Any]:
        return {
            "task_id": self.task_id,
            "run_id": self.run_id,
            "kind": self.kind,
            "cell": self.cells[0],
            "cells": list(self.cells),
            "seed": self.seed,
            "protocol": self.protocol,
        }
