"""The code in the job: works through a submission's queue, one leased task after the other.

Every worker of a submission has the whole queue, and takes the next task that no other worker holds: no worker idles
while another has work left, and the others take up what a dead worker leaves.
"""

from __future__ import annotations

import functools
import os
import shlex
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from ablative.study.core.damage import set_aside
from ablative.study.core.files import write_json
from ablative.study.core.registry import SEARCH_WORKER, load
from ablative.study.home.failed_attempts import OUT_OF_MEMORY
from ablative.study.home.paths import Home, SubmissionPaths, TaskPaths
from ablative.study.home.records import damaged, read_record
from ablative.study.home.sharing import follow_group
from ablative.study.home.task_state import FINISHED, directory_state
from ablative.study.plan.task import TaskRef
from ablative.sweeps.queue import failures, leases, manifest, retries, snapshot
from ablative.sweeps.queue.manifest import Manifest
from ablative.sweeps.worker import journal_upload, task_process
from ablative.sweeps.worker.ending import Ending, grace_seconds
from ablative.sweeps.worker.print_safely import say
from ablative.sweeps.worker.task_process import Child, Entry, Perform
from ablative.sweeps.worker.wakeup import Alarm, drain

POLL_SECONDS = 0.25
"""How often a worker with nothing to do looks again, and one with a task looks for its cancellation."""
IDLE_SHARE = 20
"""An idle worker sleeps this many times as long as it looked."""
REPEAT_SECONDS = 1.0
"""A stop signal within this time of the last one is the same request."""
FINISH_SECONDS = 10.0
"""How long a task that does not open a run may take to save after a stop signal, unless its trainer gives it more: it
does the last part again."""


def work(home_root: str, study: str, stamp: str, index: int) -> dict[str, int]:
    """Entry of a job: work through the queue of a submission. Returns how many tasks ended how, for the log.

    Args:
        home_root: the home's directory.
        study: name of the study.
        stamp: the submission's folder.
        index: number of this worker in the submission; deals out the GPUs.
    """
    home = Home(Path(home_root))
    follow_group(home)
    snapshot.require(home)
    submission = home.study(study).submission(stamp)
    queue = manifest.require(submission)
    if queue.devices:
        # Submitit's local jobs see no GPU by default.
        os.environ["CUDA_VISIBLE_DEVICES"] = queue.devices[index % len(queue.devices)]
    # What the records name as the command is the user's, not Submitit's.
    sys.argv = shlex.split(queue.command)
    entry = Entry.of(queue, home)
    job = os.environ.get("SUBMITIT_LOCAL_JOB_ID") or str(os.getpid())
    # Loaded where it is needed: Optuna takes a third of a second to import.
    kind: type[Worker] = load(SEARCH_WORKER) if submission.search.exists() else Worker
    worker = kind(home, submission, queue, entry, job)
    try:
        worker.run()
    finally:
        worker.close()
    say(f"worker {index} ends: {dict(worker.ended)}")
    return dict(worker.ended)


class Worker:
    """Takes tasks until none is left that it could ever run."""

    def __init__(
        self,
        home: Home,
        submission: SubmissionPaths,
        queue: Manifest,
        entry: Entry,
        job: str,
    ) -> None:
        self.home, self.submission, self.queue, self.job = home, submission, queue, job
        self.entry = entry
        self.perform: Perform = entry.perform
        self.ended: Counter[str] = Counter()
        self.signals = 0
        """Stop signals received."""
        self._signalled = -REPEAT_SECONDS
        self._remaining = list(queue.tasks)
        self._tried: set[str] = set()
        self._child: Child | None = None
        self._beat = 0.0
        self._alarm = Alarm()
        for number in task_process.STOP_SIGNALS:
            signal.signal(number, self._on_signal)
        self._upload = journal_upload.JournalUpload(home, submission, queue, job, self._known)

    def run(self) -> None:
        """Return when nothing is left that this worker could ever run, or after a stop signal."""
        while not self._stopped():
            self._heartbeat(None)
            begin = time.monotonic()
            found = self._next()
            if found is not None:
                self._perform(*found)
            elif self._remaining:
                # A long queue on a slow file system is looked through less often.
                self._wait(max(POLL_SECONDS, IDLE_SHARE * (time.monotonic() - begin)))
            else:
                return

    def close(self) -> None:
        """Ship what the journals hold, and hand the shipping on to the next worker."""
        self._upload.finish()
        self._alarm.close()

    def _stopped(self) -> bool:
        return bool(self.signals) or self.submission.stopped.exists()

    def _next(self) -> tuple[TaskRef, leases.Lease] | None:
        """Take the first task of the queue that can run; drop those that never will (again)."""
        queued = {task.task_id for task in self._remaining}
        seen: dict[str, str] = {}
        remaining, found = [], None
        for position, task in enumerate(self._remaining):
            prospect = self._prospect(task, queued, seen)
            if prospect == "never":
                continue
            if prospect == "now" and (lease := self._acquire(task)) is not None:
                found = task, lease
                remaining += self._remaining[position + 1 :]
                break
            remaining.append(task)
        self._remaining = remaining
        return found

    def _prospect(self, task: TaskRef, queued: set[str], seen: dict[str, str]) -> str:
        """now | later | never, as the directories show; `seen` remembers what needed tasks were in, in this pass."""
        if task.task_id in self._tried:
            return "never"
        later = False
        for need, paths in zip(task.needs, task.needed(self.home).values(), strict=True):
            if need not in seen:
                seen[need] = self._look(paths)
            if seen[need] == "claimed" or (seen[need] == "none" and need in queued):
                later = True
            elif seen[need] not in FINISHED:
                return "never"
        if later:
            return "later"
        state = self._look(task.paths(self.home))
        return {"none": "now", "claimed": "later"}.get(state, "never")

    def _look(self, paths: TaskPaths) -> str:
        """State of a task's directory, where the lease of a dead worker counts as none."""
        state = directory_state(paths).state
        if state != "claimed":
            return state
        holder = leases.inspect(paths.lease, self.queue.stale_seconds)
        return state if holder is not None and holder.alive else "none"

    def _acquire(self, task: TaskRef) -> leases.Lease | None:
        """Take the task's lease; None where another worker holds it, or the task is done, failed or cancelled."""
        paths = task.paths(self.home)
        before = leases.inspect(paths.lease, self.queue.stale_seconds)
        lease = leases.acquire(paths.lease, self.job, self.queue.stale_seconds)
        if lease is None:
            return None
        for path in damaged(paths):
            set_aside(path, "taken as absent")
        if any(path.exists() for path in (paths.record, paths.failure, paths.cancelled)):
            lease.release()
            return None
        if before is not None and before.owner is not None and not before.alive:
            retries.record_abandoned(paths, before.owner, *self._ending(before.owner, before.age))
        return lease

    def _ending(self, owner: leases.Owner, age: float) -> tuple[str, str]:
        """Cause and message for a worker that died without a word, `age` seconds after its last heartbeat."""
        return failures.VANISHED

    def _perform(self, task: TaskRef, lease: leases.Lease) -> None:
        """Run a leased task to its end, whatever that is, and give the lease back."""
        self._tried.add(task.task_id)
        paths = task.paths(self.home)
        kills = task_process.out_of_memory_kills()
        run = functools.partial(self.perform, task)
        self._child = task_process.start(paths.log, run, self.entry.trained_by)
        try:
            if self.signals:
                # It came before there was a child to pass it on to.
                self._child.signal(signal.SIGTERM)
            status, report, ending = self._attend(task, paths, lease)
        finally:
            os.close(self._child.report)
            self._child = None
        if ending.verdict == "lost":
            say(f"{task.task_id}: another worker took the lease; stopped")
            return
        if read_record(paths) is None:
            failure = ending.failure(task_process.read_report(report)) or failures.from_exit(
                status, task_process.out_of_memory_kills() > kills
            )
            self._write_failure(task, paths, failure)
            self.ended[failure.cause] += 1
        else:
            self.ended["completed"] += 1
        lease.release()

    def _attend(self, task: TaskRef, paths: TaskPaths, lease: leases.Lease) -> tuple[int, bytes, Ending]:
        """Wait for the child, keeping the lease alive. Returns its status, its report, and whether we ended it."""
        assert self._child is not None
        grace = grace_seconds(self.queue.trainer, task.stage, paths)
        report, ending = b"", Ending(self._child, grace)
        while (status := self._child.ended()) is None:
            ending.demand(self._verdict(task, paths, lease, max(FINISH_SECONDS, grace)))
            self._wait(POLL_SECONDS)
            report += drain(self._child.report)
        return status, report + drain(self._child.report), ending

    def _verdict(self, task: TaskRef, paths: TaskPaths, lease: leases.Lease, finish: float) -> str:
        """Why the running task is to be ended; empty: it is not. `finish`: seconds after a stop signal."""
        if not self._heartbeat(lease):
            return "lost"
        if paths.cancelled.exists():
            return "cancelled"
        if self.signals and not task.opens and time.monotonic() > self._signalled + finish:
            return "interrupted"
        return "killed" if self.signals > 1 else self._judge(task)

    def _judge(self, task: TaskRef) -> str:
        """Why the running task is to be killed, as a cause of failure; empty: it is not."""
        return ""

    def _known(self) -> Iterable[TaskRef]:
        """Tasks that this submission's workers have, had, or will have."""
        return self.queue.tasks

    def _write_failure(self, task: TaskRef, paths: TaskPaths, failure: failures.Failure) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        say(f"{task.task_id}: {failure.cause}: {failure.type}: {failure.message}")
        try:
            facts = {"time": now, "snapshot": self.queue.code, "job": self.job, "node": leases.identify().node}
            failures.write_failure(paths.failure, failure, **facts)
        except OSError as error:
            # On a full disk the task stays open: a later submission takes it again, and this worker does not.
            say(f"{task.task_id}: failure.json could not be written: {error}")
            return
        if failure.cause == OUT_OF_MEMORY and retries.fits_later(self.queue.trainer, task.stage, paths):
            # While the lease is ours: no other worker may take the failure for final.
            retries.archive_failure(paths)
            self._tried.discard(task.task_id)
            self._remaining.insert(0, task)
            say(f"{task.task_id}: begins again, and takes less memory")
        else:
            self._react(failure)

    def _react(self, failure: failures.Failure) -> None:
        """What a failure means for the other tasks."""
        if failure.cause == "code" and (reason := retries.repetition(self._known(), self.home, failure)):
            self._stop(reason, failure.fingerprint)

    def _stop(self, reason: str, fingerprint: str) -> None:
        """Have no worker begin another task of the submission."""
        if not self.submission.stopped.exists():
            write_json(self.submission.stopped, {"reason": reason, "fingerprint": fingerprint})
            say(f"stopping: {reason}")

    def _heartbeat(self, lease: leases.Lease | None) -> bool:
        """Renew what other hosts see of us, every few seconds; False when the lease was taken from us."""
        if time.monotonic() < self._beat:
            return True
        self._beat = time.monotonic() + self.queue.heartbeat_seconds
        self._upload.keep()
        try:
            self.submission.alive.touch()
            return lease is None or lease.heartbeat()
        except OSError as error:
            # A file server that is away for a while: if it takes long enough for another to take the task,
            # the next heartbeat will say so.
            say(f"heartbeat failed: {error}")
            return True

    def _wait(self, seconds: float) -> None:
        """Sleep, but wake at once when a child ends or a signal comes."""
        self._alarm.wait(seconds)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        """Pass a stop signal on to the task, which saves a checkpoint and ends; a second one kills it."""
        # The same request may reach us twice, directly and through Submitit's controller.
        if time.monotonic() > self._signalled + REPEAT_SECONDS:
            self.signals += 1
        self._signalled = time.monotonic()
        if self._child is not None:
            self._child.signal(number)
