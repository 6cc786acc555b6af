"""Where jobs run, behind one interface: a module of functions for each kind of cluster, or an object of methods.

An executor starts a submission's workers, says which of its jobs still live, and stops them. The code in the job
(`sweeps.worker.worker`) is the same for all of them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from ablative.study.core.errors import AblateError, ConfigError
from ablative.study.home.paths import Home, SubmissionPaths, TaskPaths
from ablative.study.spec.cluster import EXECUTORS
from ablative.sweeps.queue import manifest
from ablative.sweeps.queue.failures import VANISHED
from ablative.sweeps.queue.leases import Owner
from ablative.sweeps.queue.manifest import Job, Manifest, WorkerLayout

if TYPE_CHECKING:
    from ablative.study.plan.plan import Plan
    from ablative.study.plan.task import Task

Ending = tuple[str, str]


class NoRoom(AblateError):
    """The scheduler takes no more of this user's jobs for now; what it has taken goes on."""

    taken: SubmissionPaths | None = None
    """The submission of which it has taken a part."""


class Executor(Protocol):
    """What the executor of each kind of cluster provides (`study.spec.cluster.EXECUTORS`)."""

    def arrange(self, plan: Plan, tasks: tuple[Task, ...], new: frozenset[str], jobs: int, prefix: str) -> WorkerLayout:
        """How to spread these tasks, of which those in `new` no worker has yet; ConfigError when it cannot be done."""

    def search_layout(self, plan: Plan, jobs: int, left: Mapping[str, int], prefix: str) -> WorkerLayout:
        """Workers that look for a search's trials themselves: `jobs` of them (0: as many as fit).

        left: name of each arm that has any → trials or repeats that are still to be done; no more workers than that.
        """

    def launch(self, home: Home, submission: SubmissionPaths, environment: dict[str, str]) -> None:
        """Start the manifest's workers, and write their jobs into the manifest; returns at once."""

    def live_jobs(self, submission: SubmissionPaths, manifest: Manifest) -> tuple[Job, ...]:
        """Jobs of the submission that run or wait in the scheduler's queue."""

    def held(self, submission: SubmissionPaths, manifest: Manifest) -> frozenset[str]:
        """Ids of the tasks that those jobs have in their queues."""

    def withdraw(self, home: Home, submission: SubmissionPaths, manifest: Manifest) -> None:
        """Take jobs that have not begun, and have nothing left to do, out of the scheduler's queue."""

    def queue_summary(self, home: Home, study: str) -> str:
        """What the scheduler says of the study, on one line; empty where there is no scheduler."""

    def output(self, home: Home, task: TaskPaths) -> str:
        """What the job that last had this task printed outside the task's log."""

    def ending(self, submission: SubmissionPaths, manifest: Manifest, task_id: str, owner: Owner) -> Ending | None:
        """What ended a worker that died without a word with this task; None: it is not known, or was not one of these.

        Cause (of `sweeps.queue.failures.CAUSES`) and message.
        """

    def invalidate_cache(self) -> None:
        """Forget what the scheduler answered: the next question asks it again."""

    def last_error_line(self, submission: SubmissionPaths) -> str:
        """What the submission's jobs complained of last, on one line; empty when they did not."""

    def stop(self, jobs: tuple[Job, ...], force: bool) -> None:
        """Ask jobs to save and end; with `force`, kill them."""


@functools.cache
def executor(kind: str) -> Executor:
    """The executor for a cluster's `kind`; raises ConfigError where there is none, or it lacks a function."""
    found: Any = EXECUTORS.load(kind)
    lacking = [name for name in vars(Executor) if not name.startswith("_") and not callable(getattr(found, name, None))]
    if lacking:
        raise ConfigError(f"executor '{kind}' lacks '{lacking[0]}'; sweeps.queue.executors.Executor says what it needs")
    _in_use.append(found)
    module: Executor = found
    return module


_in_use: list[Executor] = []
"""Executors that this process has asked for."""


def live_jobs(submission: SubmissionPaths, manifest: Manifest) -> tuple[Job, ...]:
    """Jobs of a submission that are not over, whatever executor it went to."""
    return executor(manifest.executor).live_jobs(submission, manifest)


def held(submission: SubmissionPaths, manifest: Manifest) -> frozenset[str]:
    """Ids of the tasks that a submission's jobs have before them, or in hand."""
    return executor(manifest.executor).held(submission, manifest)


def withdraw(home: Home) -> None:
    """Take out of schedulers' queues what was cancelled before it began."""
    for submission, found in manifest.submissions(home):
        executor(found.executor).withdraw(home, submission, found)


def queue_summary(home: Home, study: str) -> str:
    """What the schedulers of the study's open submissions say, on one line; empty: nothing."""
    kinds = dict.fromkeys(found.executor for _, found in manifest.submissions(home, study))
    return "; ".join(filter(None, (executor(kind).queue_summary(home, study) for kind in kinds)))


def output(home: Home, task: TaskPaths) -> str:
    """What the jobs that had this task printed outside its log."""
    kinds = dict.fromkeys(found.executor for _, found in manifest.submissions(home, ended=True))
    return "".join(executor(kind).output(home, task) for kind in kinds)


def ending(past: Iterable[tuple[SubmissionPaths, Manifest]], task_id: str, owner: Owner) -> Ending:
    """Cause and message of the failure of a worker that died without a word with this task in one of these."""
    found = (executor(manifest.executor).ending(submission, manifest, task_id, owner) for submission, manifest in past)
    return next(filter(None, found), VANISHED)


def invalidate_cache() -> None:
    """Have every executor in use ask its scheduler again."""
    for module in _in_use:
        module.invalidate_cache()
