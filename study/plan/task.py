"""What is scheduled: one stage of one run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ablative.study.core.damage import fields_of, shape_of
from ablative.study.core.files import read_json
from ablative.study.home.paths import Home, TaskPaths
from ablative.study.home.search_paths import SearchPaths
from ablative.study.spec.design import Cell, cell_name
from ablative.study.spec.runtime import RuntimeConfig
from ablative.study.trainers import Config, JobTask

TRAIN = "train"
"""The stage of what manifests, trials and tags of version 1 call a task of kind `pretrain`."""


@dataclass(frozen=True)
class _Scheduled:
    """Identity of a task."""

    task_id: str
    stage: str
    """Name of the stage: `train`, `zero_shot`, …"""
    run_id: str
    """Id of the task that opens the run; its own, where it does so itself, or belongs to no run (not seeded)."""
    seed: int
    cells: tuple[Cell, ...]
    """Every cell with this configuration; mostly one. The same configuration is run once."""
    needs: tuple[str, ...]
    """Ids of the tasks that have to be finished before."""
    need_runs: tuple[str, ...]
    """Ids of the runs in whose folders they lie, in the same order."""
    need_stages: tuple[str, ...]
    """Names of their stages, in the same order; `from` for the run that this one starts from."""

    def needed(self, home: Home) -> dict[str, TaskPaths]:
        """Stage, or `from` → files of the task that has to be finished before."""
        found = zip(self.need_stages, self.needs, self.need_runs, strict=True)
        return {stage: _paths(home, run_id, task_id) for stage, task_id, run_id in found}

    @property
    def opens(self) -> bool:
        """Whether its directory, and its MLflow run, are those of a run."""
        return self.task_id == self.run_id

    def paths(self, home: Home) -> TaskPaths:
        return _paths(home, self.run_id, self.task_id)

    def job(self, home: Home, trainer: str, name: str, stop: Callable[[], bool] = lambda: False) -> JobTask:
        """The task as its trainer's entry takes it.

        Args:
            home: where it and what it needs lie.
            trainer: name of the study's.
            name: cell, seed and stage, for people.
            stop: true once the task is to save and end.
        """
        own = (self.task_id, self.stage, self.seed, self.paths(home), home, self.needed(home), trainer)
        return JobTask(*own, stop, self.opens, name)

    @property
    def kind(self) -> str:
        """What `--json` calls it until 1.0, in addition to the stage."""
        return "pretrain" if self.opens else "evaluate"

    @property
    def protocol(self) -> str | None:
        """What `--json` calls the stage until 1.0; None for what opens a run."""
        return None if self.opens else self.stage


def _paths(home: Home, run_id: str, task_id: str) -> TaskPaths:
    run = home.run(run_id)
    return run if task_id == run_id else run.evaluation(task_id)


@dataclass(frozen=True)
class TaskRef(_Scheduled):
    """A task without its configuration, which lies in its directory: small enough to be sent to another process."""

    name: str
    processes: int = 1
    """That share its work."""
    opening: str = TRAIN
    """Stage of the task that opens its run."""

    @classmethod
    def of(cls, task: Task | TaskRef) -> TaskRef:
        if isinstance(task, TaskRef):
            return task
        own = (task.task_id, task.stage, task.run_id, task.seed, task.cells)
        needs = (task.needs, task.need_runs, task.need_stages)
        return cls(*own, *needs, task.name, task.runtime.processes, task.opening)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TaskRef:
        """A task of a manifest or a trial; those of version 1 have a kind and a protocol instead of stage and needs."""
        known = {**value, "cells": tuple(value["cells"])}
        kind, protocol = known.pop("kind", None), known.pop("protocol", None)
        if "stage" not in known:
            known["stage"] = protocol or TRAIN
            needs = () if kind == "pretrain" else (known["run_id"],)
            known |= {"needs": needs, "need_runs": needs, "need_stages": (TRAIN,) * len(needs)}
        known |= {name: tuple(known[name]) for name in ("needs", "need_runs", "need_stages")}
        return cls(**fields_of(cls, known))

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))

    def run(self) -> TaskRef:
        """The task that opens the run that it belongs to."""
        name = self.name.removesuffix(f" [{self.stage}]")
        return TaskRef(self.run_id, self.opening, self.run_id, self.seed, self.cells, (), (), (), name)


_FIRST = {
    "task_id": str,
    "kind": str,
    "protocol?": (str, None),
    "run_id": str,
    "seed": int,
    "cells": [dict],
    "name": str,
}
REF = (shape_of(TaskRef), _FIRST)
"""What `TaskRef.from_json` takes; version 1 wrote the second."""


def trial_tasks(search: SearchPaths) -> Iterator[TaskRef]:
    """Every task of every trial of a search that was ever taken, and of their repeats."""
    for pattern in ("*/trials/*/tasks.json", "*/trials/*/repeats/*/tasks.json"):
        for path in sorted(search.root.glob(pattern)):
            yield from map(TaskRef.from_json, read_json(path, [REF]) or ())


def with_trials(tasks: Sequence[Task], search: SearchPaths) -> list[Task | TaskRef]:
    """Whatever has a journal to ship: a study's tasks, and those that only trials of its search have."""
    known = {task.task_id for task in tasks}
    return [*tasks, *(task for task in trial_tasks(search) if task.task_id not in known)]


@dataclass(frozen=True)
class Task(_Scheduled):
    """One task of a plan."""

    config: Config
    """Its stage's configuration, of the type that the study's trainer gives it."""
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    seeded: bool = True
    """False: it is the same for all seeds; `seed` is one of them."""
    opening: str = TRAIN
    """Stage of the task that opens its run."""
    former_ids: tuple[str, ...] = ()
    """Ids under which finished runs may be known that differ in keys alone that they do not read."""

    def and_of(self, other: Task) -> Task:
        """The task, of the cells of another with the same id as well."""
        cells = tuple(cell for cell in other.cells if cell not in self.cells)
        former = tuple(former for former in other.former_ids if former not in self.former_ids)
        if not cells and not former:
            return self
        return replace(self, cells=(*self.cells, *cells), former_ids=(*self.former_ids, *former))

    @property
    def name(self) -> str:
        if not self.seeded:
            rest = f" and {len(self.cells) - 1} more" if len(self.cells) > 1 else ""
            return f"{cell_name(self.cells[0])}{rest} [{self.stage}]"
        suffix = "" if self.opens else f" [{self.stage}]"
        return f"{cell_name(self.cells[0])} seed={self.seed}{suffix}"

    def to_json(self) -> dict[str, Any]:
        return {
            "task_id": self.task_id,
            "run_id": self.run_id,
            "stage": self.stage,
            "needs": list(self.needs),
            "kind": self.kind,
            "cell": self.cells[0],
            "cells": list(self.cells),
            "seed": self.seed,
            "protocol": self.protocol,
        }
