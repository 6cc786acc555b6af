"""What a plan's tasks have cost so far: of finished ones by their records, of others by their journals."""

from __future__ import annotations

from study.journal import read
from study.paths import Home, RunPaths
from study.spending import Spent
from sweeps.states import Survey, TaskState

BEGUN = ("running", "failed")
"""States of unfinished tasks that may have cost something."""


def spent(states: Survey, home: Home) -> dict[str, Spent]:
    """Task id → what it has cost, of tasks that have cost something. Reads the journals of unfinished tasks."""
    found = {}
    for state in states.states:
        if state.finished and state.detail:
            found[state.task.task_id] = Spent.of(state.detail)
        elif state.state in BEGUN and (unfinished := _unfinished(state, home)) is not None:
            found[state.task.task_id] = unfinished
    return found


def _unfinished(state: TaskState, home: Home) -> Spent | None:
    """By the task's journal; None where it never began."""
    paths = state.task.paths(home)
    saved = None
    if isinstance(paths, RunPaths) and paths.checkpoint.exists():
        saved = paths.checkpoint.stat().st_mtime
    return Spent.by_journal(read(paths.journal)[0], saved, alive=state.state == "running")
