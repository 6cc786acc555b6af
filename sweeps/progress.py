"""How far a running task is, from the end of its journal."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study.paths import TaskPaths
from study.plan import Task
from study.schema import RunConfig

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
        """At the reported speed; None before the first report of it."""
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
