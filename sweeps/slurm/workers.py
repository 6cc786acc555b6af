"""The workers in an array element: what they do otherwise than those of this machine."""

from __future__ import annotations

import contextlib
import shutil
import signal
import time
from typing import Any

from ablative.study import installed_trainers
from ablative.study.core.typed import read_config
from ablative.study.home.attempt_times import ANEW
from ablative.study.home.failed_attempts import OUT_OF_MEMORY
from ablative.study.home.journal import Journal, read
from ablative.study.home.paths import TaskPaths
from ablative.study.home.tried import ends_the_same, read_tried
from ablative.study.plan.task import TaskRef
from ablative.sweeps.queue import leases, manifest, retries
from ablative.sweeps.queue.executors import Ending
from ablative.sweeps.queue.failures import NODE_FAILURE, Failure
from ablative.sweeps.queue.leases import Owner
from ablative.sweeps.slurm import endings, squeue
from ablative.sweeps.slurm.squeue import SchedulerSilent
from ablative.sweeps.worker.print_safely import say
from ablative.sweeps.worker.worker import Worker

SYSTEMATIC = ("code", "data", "disk", OUT_OF_MEMORY)
"""Causes of a canary's failure that the other tasks would hardly escape."""


class ElementWorker(Worker):
    """A worker over one slice, in a job that the scheduler ends and starts again."""

    def take(self, ids: frozenset[str]) -> None:
        """Work on these tasks only."""
        self._remaining = [task for task in self._remaining if task.task_id in ids]

    def _look(self, paths: TaskPaths) -> str:
        """A task that a living worker of another job has is not waited for: the allocation would idle."""
        state = super()._look(paths)
        if state == "claimed":
            holder = leases.inspect(paths.lease, self.queue.stale_seconds)
            # This element's own leases are waited for: it may have been requeued after its node died.
            if holder is not None and holder.owner is not None and holder.owner.job != self.job:
                return "elsewhere"
        return state

    def _ending(self, owner: Owner, age: float) -> Ending:
        """A lease of this element's last life was left by a node that failed, or by a requeue that did not wait."""
        if owner.job != self.job or not owner.node:
            return super()._ending(owner, age)
        if endings.node_failed(owner.node, time.time() - age):
            message = f"node {owner.node} failed"
            retries.note_failed_node(self.home.study(self.queue.study), owner.node, message)
            return NODE_FAILURE, message
        return "preempted", "the scheduler requeued it before it had saved"

    def _write_failure(self, task: TaskRef, paths: TaskPaths, failure: Failure) -> None:
        if self.signals and failure.cause == "interrupted":
            say(f"{task.task_id}: saved")
            return
        super()._write_failure(task, paths, failure)

    def _react(self, failure: Failure) -> None:
        node = leases.identify().node
        if failure.cause == NODE_FAILURE and node:
            retries.note_failed_node(self.home.study(self.queue.study), node, failure.message)
        super()._react(failure)

    def _stop(self, reason: str, fingerprint: str) -> None:
        """Also take out of the queue what would only start, look and end."""
        super()._stop(reason, fingerprint)
        found = manifest.require(self.submission)
        try:
            squeue.cancel("--state=PENDING", *(array.job_id for array in found.arrays if array.job_id))
        except SchedulerSilent as silent:
            say(f"what waits in the queue will find out by itself: {silent}")

    def _on_signal(self, number: int, _frame: object) -> None:
        """However many signals come, the task may finish its checkpoint: the scheduler kills it if it is too late."""
        if not self.signals:
            self._signalled = time.monotonic()
        self.signals = 1
        if self._child is not None:
            self._child.signal(number)


class CanaryWorker(ElementWorker):
    """Tries a submission's first task: lets it save and leaves it to the others once it has trained some steps."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._begun = time.time()
        self._leaves = False
        """The task has trained, and is stopped for that."""

    def _judge(self, task: TaskRef) -> str:
        if task.opens and not self.signals and has_reported_steps(task.paths(self.home), self._begun):
            say(f"{task.task_id}: trains; the others may begin")
            self._leaves = True
            self._on_signal(signal.SIGTERM, None)
        return ""

    def _write_failure(self, task: TaskRef, paths: TaskPaths, failure: Failure) -> None:
        super()._write_failure(task, paths, failure)
        if self._leaves and failure.cause == "interrupted" and not self._ends_the_same(task, paths):
            # The others begin by this stop; it is not to change the result of the task that they begin by.
            shutil.rmtree(paths.earlier_output, ignore_errors=True)
            if paths.output.exists():
                paths.output.rename(paths.earlier_output)
            message = "it was tried for the others, and is not known to end the same when it is resumed"
            with contextlib.closing(Journal(paths.journal)) as journal:
                journal.event(ANEW, message=message)

    def _ends_the_same(self, task: TaskRef, paths: TaskPaths) -> bool:
        own = installed_trainers.trainer(self.queue.trainer)
        resumption = own.resumption(task.stage, own.load(task.stage, read_config(paths.config)))
        tried = read_tried(self.home.study(self.queue.study)).get(task.stage)
        return ends_the_same(resumption.exact, tried)

    def _react(self, failure: Failure) -> None:
        super()._react(failure)
        if failure.cause in SYSTEMATIC:
            what = f"{failure.cause}: {failure.type}: {failure.message.partition(chr(10))[0]}"
            self._stop(f"the first task failed, and the others were not begun ({what})", failure.fingerprint)


def has_reported_steps(paths: TaskPaths, since: float) -> bool:
    """Whether a task has reported steps since then (seconds since 1970)."""
    return any(entry["kind"] == "metrics" and entry["t"] > since * 1000 for entry in read(paths.journal)[0])
