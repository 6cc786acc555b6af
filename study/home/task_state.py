"""State of a task as its directory shows it, without asking any scheduler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ablative.study.home.paths import TaskPaths
from ablative.study.home.records import FINISHED as FINISHED
from ablative.study.home.records import read_failure, read_record


@dataclass(frozen=True)
class DirectoryState:
    """State as files show it, first match wins."""

    state: str
    """completed | diverged | claimed | cancelled | failed | none"""
    cause: str = ""
    """Cause of a failure: out of memory, time limit, preempted, node failure, data, disk, killed, interrupted, code."""
    detail: dict[str, Any] | None = None
    """Content of `record.json` or `failure.json`."""


def directory_state(paths: TaskPaths) -> DirectoryState:
    """Read record, lease, cancellation and failure, in this order; a damaged file is as good as none.

    A lease says only that some worker took the task; `sweeps` finds out whether that worker lives.
    """
    record = read_record(paths)
    if record is not None:
        return DirectoryState(record["state"], detail=record)
    if paths.lease.exists():
        return DirectoryState("claimed")
    if paths.cancelled.exists():
        return DirectoryState("cancelled", cause="cancelled")
    failure = read_failure(paths.failure)
    if failure is not None:
        return DirectoryState("failed", cause=failure["cause"], detail=failure)
    return DirectoryState("none")
