"""The state of every task of a plan (its directory, set against which workers live), and what it has cost.

First match wins: completed, diverged, running, failed (with its cause; cancelled is one), submitted, eligible,
waiting (for a task that it needs). A task whose result a source of the study has is completed; of results that exist
already, and of which nothing can be run, the others are absent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Container
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ablative.study.costs.usage import TaskUsage
from ablative.study.home.paths import Home, SubmissionPaths, TaskPaths
from ablative.study.home.records import read_failure
from ablative.study.home.task_state import FINISHED, directory_state
from ablative.study.plan.plan import Plan
from ablative.study.plan.task import Task
from ablative.study.spec.runtime import RuntimeConfig
from ablative.sweeps.queue import executors, leases, manifest
from ablative.sweeps.queue.failures import RESUMABLE, VANISHED
from ablative.sweeps.queue.leases import Owner
from ablative.sweeps.queue.manifest import Manifest

STATES = (*FINISHED, "running", "failed", "submitted", "eligible", "waiting", "absent")

BEGUN = ("running", "failed")
"""States of unfinished tasks that may have cost something."""


@dataclass(frozen=True)
class TaskState:
    """State of one task."""

    task: Task
    state: str
    cause: str = ""
    """Cause of a failure, one of `sweeps.queue.failures.CAUSES`."""
    detail: dict[str, Any] | None = None
    """Content of `record.json` (finished) or `failure.json` (failed)."""
    owner: Owner | None = None
    """Owner of the lease of a running or abandoned task."""
    abandoned: bool = False
    """Its worker died without writing a failure, and no other has the task."""
    silent_seconds: float = 0.0
    """How long nothing was heard of the worker of a task that a live job, or a process of this machine, still has."""

    @property
    def finished(self) -> bool:
        """There is a result; divergence is one."""
        return self.state in FINISHED

    @property
    def resumable(self) -> bool:
        return self.state == "failed" and self.cause in RESUMABLE

    def to_json(self) -> dict[str, Any]:
        detail = self.detail or {}
        return {
            **self.task.to_json(),
            "name": self.task.name,
            "state": self.state,
            "cause": self.cause or None,
            "message": detail.get("message"),
            "fingerprint": detail.get("fingerprint"),
            "host": self.owner.host if self.owner else None,
            "seconds": detail.get("seconds"),
        }


@dataclass(frozen=True)
class Survey:
    """States of all tasks of a plan, in plan order."""

    states: tuple[TaskState, ...]

    @cached_property
    def counts(self) -> dict[str, int]:
        """Tasks by state, in the order of `STATES`; states that no task has are left out."""
        found = Counter(state.state for state in self.states)
        return {name: found[name] for name in STATES if found[name]}

    @cached_property
    def by_id(self) -> dict[str, TaskState]:
        return {state.task.task_id: state for state in self.states}

    def blocked(self, failed: Collection[str]) -> frozenset[str]:
        """Ids of the tasks that need one of these, directly or through others."""
        found: set[str] = set()
        for state in self.states:
            if any(need in failed or need in found for need in state.task.needs):
                found.add(state.task.task_id)
        return frozenset(found)

    def having(self, *names: str) -> tuple[TaskState, ...]:
        return tuple(state for state in self.states if state.state in names)

    @property
    def finished(self) -> bool:
        return all(state.finished for state in self.states)


def survey(plan: Plan) -> Survey:
    """Look at every task: one read of its directory, and one look at each live submission."""
    if not plan.trainer.executes:
        states = ("completed" if plan.has(task.task_id) else "absent" for task in plan.tasks)
        return Survey(tuple(map(TaskState, plan.tasks, states)))
    look = _Look(plan.home, stale_seconds(plan), plan.existing.places if plan.existing else ())
    return Survey(tuple(look.state(task) for task in plan.tasks))


def task_states(plan: Plan) -> dict[str, TaskState]:
    """{task id: state}."""
    return survey(plan).by_id


def task_usage(states: Survey, home: Home) -> dict[str, TaskUsage]:
    """Task id → what the task has cost so far; tasks that have cost nothing are left out.

    Finished tasks are read from their records, others from their journals.
    """
    found = {}
    for state in states.states:
        if state.finished and state.detail:
            found[state.task.task_id] = TaskUsage.of(state.detail)
        elif state.state in BEGUN:
            unfinished = TaskUsage.unfinished(state.task.paths(home), alive=state.state == "running")
            if unfinished is not None:
                found[state.task.task_id] = unfinished
    return found


def stale_seconds(plan: Plan) -> float:
    """Age at which another host's lease on this plan's tasks is dead: the most patient task decides."""
    return max(runtime.stale_seconds for runtime in runtimes(plan))


def runtimes(plan: Plan) -> tuple[RuntimeConfig, ...]:
    """Where and how fast the plan's tasks, and its search's, run: mostly one setting for all of them."""
    found = {id(task.runtime): task.runtime for task in plan.tasks}
    found |= {id(stage.runtime): stage.runtime for arm in plan.arms for stage in arm.stages}
    return tuple(dict.fromkeys(found.values())) or (RuntimeConfig(),)


class _Look:
    """One look at tasks, each after those that it needs."""

    def __init__(self, home: Home, stale: float, existing: Container[str] = ()) -> None:
        """`existing`: tasks (their ids) whose results lie elsewhere."""
        self._home, self._stale, self._existing = home, stale, existing
        self._finished: dict[str, bool] = {}
        self._begun = {path.name for path in home.runs.iterdir()} if home.runs.is_dir() else set()
        """Names of the folders of runs: one listing spares four looks at each task of a run without a folder."""
        self._queued: set[str] = set()
        """Ids of the tasks that a live submission of any study (runs are shared) still has in its queue."""
        for submission, found in manifest.submissions(home):
            if not submission.stopped.exists():
                self._queued |= executors.held(submission, found)

    def state(self, task: Task) -> TaskState:
        state = self._state(task)
        self._finished[task.task_id] = state.finished
        return state

    def _waits(self, task: Task) -> bool:
        """Whether something that it needs, which may be no task of this plan, is not finished."""
        if any(need not in self._finished for need in task.needs):
            for need, paths in zip(task.needs, task.needed(self._home).values(), strict=True):
                if need not in self._finished:
                    self._finished[need] = directory_state(paths).state in FINISHED
        return not all(self._finished[need] for need in task.needs)

    def _state(self, task: Task) -> TaskState:
        if task.task_id in self._existing:
            return TaskState(task, "completed")
        if task.run_id not in self._begun:
            return self._not_begun(task)
        paths = task.paths(self._home)
        while (found := directory_state(paths)).state == "claimed":
            holder = leases.inspect(paths.lease, self._stale)
            if holder is not None:
                if holder.alive:
                    silent = holder.age if holder.age > self._stale else 0.0
                    return TaskState(task, "running", owner=holder.owner, silent_seconds=silent)
                if task.task_id in self._queued and not (paths.cancelled.exists() or paths.failure.exists()):
                    # Its worker died, and another one, or the same started again, has the task before it.
                    return TaskState(task, "submitted", owner=holder.owner, silent_seconds=holder.age)
                return self._abandoned(task, paths, holder.owner)
            # Released since the look before, as the task ended.
        if found.state in FINISHED:
            return TaskState(task, found.state, detail=found.detail)
        if found.state in ("failed", "cancelled"):
            return TaskState(task, "failed", found.cause, found.detail)
        return self._not_begun(task)

    def _not_begun(self, task: Task) -> TaskState:
        if task.task_id in self._queued:
            return TaskState(task, "submitted")
        return TaskState(task, "waiting" if self._waits(task) else "eligible")

    def _abandoned(self, task: Task, paths: TaskPaths, owner: Owner | None) -> TaskState:
        """State of a task with the lease of a dead worker: what ended the worker, unless it had its say."""
        if paths.cancelled.exists():
            return TaskState(task, "failed", "cancelled")
        failure = read_failure(paths.failure)
        if failure is not None:
            return TaskState(task, "failed", failure["cause"], failure)
        cause, message = VANISHED if owner is None else executors.ending(self._past, task.task_id, owner)
        return TaskState(task, "failed", cause, {"message": message}, owner, abandoned=True)

    @cached_property
    def _past(self) -> list[tuple[SubmissionPaths, Manifest]]:
        """All submissions, newest first; read only where somebody died without a word."""
        return list(manifest.submissions(self._home, ended=True))
