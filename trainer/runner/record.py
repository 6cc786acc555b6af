"""A task's earlier attempts, read from its journal, and the record that it leaves when it ends."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import torch

from ablative.study.home.attempt_times import attempts
from ablative.study.home.journal import Journal
from ablative.trainer.runner.environment import describe
from ablative.trainer.torch.divergence import Divergence


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
    """How a task ended, and where."""

    metrics: dict[str, float]
    device: torch.device
    divergence: Divergence | None = None
    processes: int = 1
    halvings: int = 0
    """How often the micro-batch was halved for attempts that ran out of memory."""
    micro_batch: int = 0
    """Samples per forward pass; 0: all rows of a process."""

    @property
    def state(self) -> str:
        return "completed" if self.divergence is None else "diverged"


class Silent(Journal):
    """Journal that drops every entry, for processes of a run other than rank 0."""

    def __init__(self) -> None:
        self._last_step = {}

    def close(self) -> None:
        """There is no file."""

    def _write(self, entry: dict[str, Any]) -> None:
        """There is no file."""


def attempt_totals(entries: list[dict[str, Any]]) -> AttemptTotals:
    """Number, time and beginning of the attempts in a task's journal entries."""
    found = attempts(entries)
    return AttemptTotals(
        attempts=len(found),
        seconds=sum(attempt.seconds for attempt in found),
        started=found[0].start if found else None,
        configured=any(entry["kind"] == "params" for entry in entries),
    )


def record(kind: str, task_id: str, result: Result, totals: AttemptTotals, finished: float) -> dict[str, Any]:
    """Content of `record.json`; `totals` includes the last attempt, `finished` is in seconds since 1970."""
    metrics = {name: value if math.isfinite(value) else None for name, value in result.metrics.items()}
    halved = {"micro_batch": result.micro_batch, "halvings": result.halvings} if result.halvings else {}
    assert totals.started is not None
    return {
        "state": result.state,
        "task_id": task_id,
        "kind": kind,
        "metrics": metrics,
        "diverged": asdict(result.divergence) if result.divergence else None,
        "started": _iso(totals.started),
        "finished": _iso(finished),
        "seconds": round(totals.seconds, 3),
        "attempts": totals.attempts,
        "environment": {**describe(result.device), "processes": result.processes, **halved},
        "cost": {name.removeprefix("cost/"): value for name, value in metrics.items() if name.startswith("cost/")},
    }


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
