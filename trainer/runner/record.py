"""A task's earlier attempts, read from its journal, and the record that it leaves when it ends."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ablative.study.core.typed import Settings
from ablative.study.home.attempt_times import attempts
from ablative.study.home.journal import Entry, Journal
from ablative.study.trainers import JobTask
from ablative.trainer.runner.environment import describe


@dataclass(frozen=True)
class AttemptTotals:
    """A task's attempts, added up."""

    attempts: int
    seconds: float
    """Sum over attempts, each from its first journal entry to its last: nothing is known of a killed one after that."""
    started: float | None
    """When the first attempt began, in seconds since 1970."""
    configured: bool
    """The configuration is in the journal. It goes there once: MLflow's parameters are constant, and where and how
    fast a run is trained (`runtime`) may change from attempt to attempt."""


@dataclass(frozen=True)
class Result:
    """How a task ended."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    """Final values, by the names that the trainer declares; not a number is a value."""
    divergence: Settings | None = None
    """What went wrong first (`step`, `culprit`), where the task diverged: a result, not an error."""
    environment: Settings = field(default_factory=dict)
    """Facts of where and how it ran, for the record, in addition to those that every task has."""

    @property
    def state(self) -> str:
        return "completed" if self.divergence is None else "diverged"


class Silent(Journal):
    """Journal that drops every entry, for processes of a run other than rank 0."""

    def __init__(self) -> None:
        self._last_step = {}

    def close(self) -> None:
        """There is no file."""

    def _write(self, entry: Entry) -> None:
        """There is no file."""


def attempt_totals(entries: Sequence[Entry]) -> AttemptTotals:
    """Number, time and beginning of the attempts in a task's journal entries."""
    found = attempts(entries)
    return AttemptTotals(
        attempts=len(found),
        seconds=sum(attempt.seconds for attempt in found),
        started=found[0].start if found else None,
        configured=any(entry["kind"] == "params" for entry in entries),
    )


def record(job: JobTask, result: Result, totals: AttemptTotals, finished: float, device: str) -> dict[str, Any]:
    """Content of `record.json`.

    Args:
        job: the task.
        result: how it ended.
        totals: its attempts, the last included.
        finished: when, in seconds since 1970.
        device: name of the GPU or processor that it ran on.
    """
    metrics = {name: value if math.isfinite(value) else None for name, value in result.metrics.items()}
    assert totals.started is not None
    return {
        "state": result.state,
        "task_id": job.task_id,
        "stage": job.stage,
        "needs": [paths.root.name for paths in job.needs.values()],
        "kind": "pretrain" if job.opens else "evaluate",  # until 1.0
        "metrics": metrics,
        "diverged": None if result.divergence is None else dict(result.divergence),
        "started": _iso(totals.started),
        "finished": _iso(finished),
        "seconds": round(totals.seconds, 3),
        "attempts": totals.attempts,
        "environment": {**describe(device), "processes": 1, **result.environment},
        "cost": {name.removeprefix("cost/"): value for name, value in metrics.items() if name.startswith("cost/")},
    }


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
