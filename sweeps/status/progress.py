"""How far running tasks are, from the end of their journals, and how long the rest will take."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablative.study.costs.estimate import ASSUMED_EVALUATION_SECONDS
from ablative.study.home.paths import Home, TaskPaths
from ablative.study.plan.task import Task
from ablative.sweeps.status.task_states import Survey, TaskState
from ablative.trainer.clip.spec.config import RunConfig

TAIL_BYTES = 16_384
"""Enough for several reports of a pretraining."""


@dataclass(frozen=True)
class Progress:
    """What a running task last reported."""

    step: int
    steps: int
    loss: float | None
    samples_per_second: float | None
    age: float
    """Seconds since the report."""

    @property
    def share(self) -> float:
        """Done part, from 0 to 1."""
        return min(1.0, self.step / self.steps) if self.steps else 1.0

    def seconds_left(self, batch_size: int) -> float | None:
        """Seconds that the rest takes at the reported speed; None before the first report of it."""
        if not self.samples_per_second:
            return None
        return max(0.0, (self.steps - self.step) * batch_size / self.samples_per_second - self.age)


def read_progress(task: Task, paths: TaskPaths) -> Progress | None:
    """Last report of a pretraining; None for evaluations, and before the first report."""
    if not isinstance(task.config, RunConfig):
        return None
    entries = [entry for entry in _tail(paths.journal) if entry["kind"] == "metrics" and entry["step"] > 0]
    if not entries:
        return None
    values: dict[str, Any] = {}
    for entry in entries:
        values.update(entry["values"])
    return Progress(
        step=entries[-1]["step"],
        steps=task.config.schedule.steps,
        loss=_number(values.get("train/loss")),
        samples_per_second=_number(values.get("cost/samples_per_second")),
        age=max(0.0, time.time() - entries[-1]["t"] / 1000),
    )


def seconds_left(states: Survey, home: Home) -> float | None:
    """Estimated time until everything that runs or is queued is done; None before there is anything to go by.

    Speeds come from tasks like these: finished ones, and running ones that have reported. (`ablate plan` guesses
    from FLOPs where there are none; while something runs, a moment later there are.)
    """
    running = states.having("running")
    reports = {state.task.task_id: read_progress(state.task, state.task.paths(home)) for state in running}
    speeds = _speeds(states.states, reports)
    todo = 0.0
    for state in states.having("running", "submitted"):
        each = speeds.get(_alike(state.task), speeds.get((state.task.kind, "")))
        if each is None:
            return None
        report = reports.get(state.task.task_id)
        todo += each * _size(state.task) * (1.0 - report.share if report else 1.0)
    return todo / len(running) if running else None


def _speeds(states: tuple[TaskState, ...], reports: dict[str, Progress | None]) -> dict[tuple[str, str], float]:
    """Seconds per unit of size, of tasks that are alike and of all of a kind."""
    found: dict[tuple[str, str], list[float]] = {}
    for state in states:
        report = reports.get(state.task.task_id)
        if _untrained(state.task):
            continue
        if state.state == "completed" and state.detail:
            speed = state.detail["seconds"] / _size(state.task)
        elif report is not None and report.samples_per_second:
            speed = 1.0 / report.samples_per_second
        else:
            continue
        for key in (_alike(state.task), (state.task.kind, "")):
            found.setdefault(key, []).append(speed)
    speeds = {key: sum(values) / len(values) for key, values in found.items()}
    return {("evaluate", ""): ASSUMED_EVALUATION_SECONDS, **speeds}


def _alike(task: Task) -> tuple[str, str]:
    """Tasks with the same key take about the same time per unit of size."""
    name = task.config.objective.name if isinstance(task.config, RunConfig) else str(task.protocol)
    return task.kind, name


def _untrained(task: Task) -> bool:
    """A run of no steps says nothing about the speed of training."""
    return isinstance(task.config, RunConfig) and task.config.schedule.steps == 0


def _size(task: Task) -> int:
    """Samples seen by a pretraining; an evaluation is one unit."""
    if not isinstance(task.config, RunConfig):
        return 1
    return max(1, task.config.schedule.steps * task.config.schedule.batch_size)


def _number(value: float | str | None) -> float | None:
    return None if value is None else float(value)


def _tail(path: Path) -> list[dict[str, Any]]:
    """The last whole lines of a journal, oldest first."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            data = file.read()
    except FileNotFoundError:
        return []
    lines = data[: data.rfind(b"\n") + 1].splitlines()
    # The first line is cut, unless the file is short.
    return [json.loads(line) for line in (lines if size <= TAIL_BYTES else lines[1:])]
