"""What a plan's tasks have cost so far: of finished ones by their records, of others by their journals."""

from __future__ import annotations

from ablative.study.costs.usage import TaskUsage
from ablative.study.home.paths import Home
from ablative.sweeps.status.task_states import Survey

BEGUN = ("running", "failed")
"""States of unfinished tasks that may have cost something."""


def spent(states: Survey, home: Home) -> dict[str, TaskUsage]:
    """Task id → what it has cost, of tasks that have cost something. Reads the journals of unfinished tasks."""
    found = {}
    for state in states.states:
        if state.finished and state.detail:
            found[state.task.task_id] = TaskUsage.of(state.detail)
        elif state.state in BEGUN:
            unfinished = TaskUsage.unfinished(state.task.paths(home), alive=state.state == "running")
            if unfinished is not None:
                found[state.task.task_id] = unfinished
    return found
