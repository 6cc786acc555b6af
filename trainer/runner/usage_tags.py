"""What an attempt holds and what its task has cost so far: tags of its MLflow run, metrics, and part of its record."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from ablative.study.costs.usage import TaskUsage
from ablative.study.home import tracking_tags
from ablative.study.home.attempt_times import attempts, elapsed
from ablative.study.home.journal import Entry, Journal
from ablative.study.home.paths import TaskPaths
from ablative.trainer.runner.environment import cpu_seconds

CPU_SECONDS = "cpu_seconds"
"""Field of an event `interrupted`: CPU time of the attempt, on which a later one builds."""


def begin(journal: Journal, device: str, gpus: int, cores: int) -> None:
    """Tag the run with the device, GPUs and cores that this attempt holds."""
    journal.tags({tracking_tags.DEVICE: device, tracking_tags.GPUS: gpus, tracking_tags.CORES: cores})


def settle(paths: TaskPaths, journal: Journal) -> dict[str, Any]:
    """Tag the run with the usage of the task so far, after the closing event of an attempt; return it for the record.

    For a failed attempt, the time since its last checkpoint counts as wasted. If the task is never finished all of its
    time is wasted, but that is known to a later attempt only.
    """
    spent = TaskUsage.unfinished(paths)
    assert spent is not None, paths.journal
    journal.tags(spent.tags())
    return {"wasted": round(spent.wasted, 3), "gpus": spent.gpus, "cores": spent.cores}


class Clock:
    """Measures an attempt that has begun, for the `cost/…` metrics that its trainer does not measure itself."""

    def __init__(self) -> None:
        self.since = time.time()
        self._cpu = cpu_seconds()

    def cpu_seconds(self) -> float:
        """CPU time so far, with that of the child processes that have ended."""
        return cpu_seconds() - self._cpu

    def cost(self, entries: Sequence[Entry], gpus: int) -> dict[str, float]:
        """`cost/…` metrics of the work that led to the result, by the task's journal entries up to now.

        Earlier attempts count as far as this one went on from what they had saved.
        """
        found = attempts(entries)
        past = elapsed(found, alive=True)
        seconds = past.seconds - past.wasted - found[-1].seconds + time.time() - self.since
        kept = [float(entry.get(CPU_SECONDS, 0.0)) for entry in entries if entry.get("name") == "interrupted"]
        cpu = self.cpu_seconds() + (sum(kept) if found[-1].restored else 0.0)
        return {"cost/seconds": seconds, "cost/cpu_hours": cpu / 3600, "cost/gpu_hours": gpus * seconds / 3600}
