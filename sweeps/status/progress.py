"""How far running tasks are, from the end of their journals, and how long the rest will take."""

from __future__ import annotations

import os
import time
from pathlib import Path

from ablative.study.costs.estimate import ASSUMED_SECONDS, counts_operations
from ablative.study.costs.history import similarity_keys
from ablative.study.home.attempt_times import WAITING
from ablative.study.home.journal import Entry, parse
from ablative.study.plan.plan import Plan
from ablative.study.plan.task import Task
from ablative.study.trainers import Progress
from ablative.sweeps.status.task_states import Survey, TaskState

TAIL_BYTES = 16_384
"""Enough for several reports of a task."""


def read_progress(plan: Plan, task: Task) -> Progress | None:
    """How far a running task is, as the study's trainer reads it from the end of its journal; None: not known."""
    return plan.trainer.progress(task.stage, task.config, _tail(task.paths(plan.home).journal))


def read_wait(plan: Plan, task: Task) -> str:
    """Which other processes a running task waits for before it begins, by the last event of its journal; or empty."""
    events = [entry for entry in _tail(task.paths(plan.home).journal) if entry["kind"] == "event"]
    if not events or events[-1]["name"] != WAITING:
        return ""
    return f"{events[-1].get('message') or WAITING}, for {time.time() - events[-1]['t'] / 1000:.0f} s so far"


def seconds_left(states: Survey, plan: Plan) -> float | None:
    """Estimated time until everything that runs or is queued is done; None before there is anything to go by.

    Speeds come from tasks like these: finished ones, and running ones that have reported. (`ablate plan` guesses
    from operations where there are none; while something runs, a moment later there are.)
    """
    running = states.having("running")
    if not running:
        return None
    speeds = _Speeds(plan)
    reports = {state.task.task_id: read_progress(plan, state.task) for state in running}
    for state in states.states:
        speeds.learn(state, reports.get(state.task.task_id))
    todo = 0.0
    for state in states.having("running", "submitted"):
        report = reports.get(state.task.task_id)
        left = report.seconds_left if report else None
        if left is None:
            whole = speeds.seconds(state.task)
            if whole is None:
                return None
            left = whole * (1.0 - report.share if report else 1.0)
        todo += left
    return todo / len(running)


class _Speeds:
    """Seconds for a unit of work, of tasks that are alike, exactly or approximately (`study.costs.history`), or that
    are at least of one stage."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._found: dict[str, tuple[float, float]] = {}
        """Key → seconds and work of all tasks with it."""

    def learn(self, state: TaskState, report: Progress | None) -> None:
        """Take in what a finished task took, or a running one would take at the speed that it reports."""
        task = state.task
        if state.state == "completed" and state.detail and state.detail.get("seconds"):
            seconds = state.detail["seconds"]
        elif report is not None and report.seconds_left is not None and report.share < 1.0:
            seconds = report.seconds_left / (1.0 - report.share)
        else:
            return
        for key in self._keys(task):
            total = self._found.get(key, (0.0, 0.0))
            self._found[key] = total[0] + seconds, total[1] + self._work(task)

    def seconds(self, task: Task) -> float | None:
        """What a whole task takes; a guess for one that comes after its run's first, None where nothing is known."""
        for key in self._keys(task):
            if key in self._found:
                seconds, work = self._found[key]
                return self._work(task) * seconds / work
        return None if task.opens or not counts_operations(self._plan, task) else ASSUMED_SECONDS

    def _keys(self, task: Task) -> tuple[str, ...]:
        keys = similarity_keys(self._plan.trainer, task.stage, task.config, self._plan.needed_configs(task))
        return *keys, f"stage {task.stage}"

    def _work(self, task: Task) -> float:
        return self._plan.trainer.work(task.stage, task.config)


def _tail(path: Path) -> list[Entry]:
    """The last whole lines of a journal, oldest first."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            data = file.read()
    except (FileNotFoundError, IsADirectoryError, PermissionError):
        return []
    lines = data[: data.rfind(b"\n") + 1].splitlines()
    # The first line is cut, unless the file is short.
    found = map(parse, lines if size <= TAIL_BYTES else lines[1:])
    return [entry for entry in found if entry is not None]
