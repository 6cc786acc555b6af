"""What an array element runs: workers side by side over its slice of the queue, and the scheduler's signals.

USR2 comes some time before the time limit, and before a preemption where the cluster sends it: the tasks save, the
element is put back into the queue and goes on from there. TERM comes from `scancel`, from preemption and from requeues
by others, and carries no reason: the tasks save, and the element waits to be killed, since one that ends by itself
would count as failed and not be requeued. Neither is written down as a failure: the task is open again, and the
next worker goes on from its checkpoint.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from ablative.study.core.processes import die_with_parent
from ablative.study.core.secrets import guard, redact
from ablative.study.home.paths import Home, SubmissionPaths
from ablative.study.home.task_state import FINISHED, directory_state
from ablative.study.plan.task import TaskRef
from ablative.sweeps.queue import failures, manifest, snapshot
from ablative.sweeps.slurm import endings, environment
from ablative.sweeps.slurm.team import Follower, Leader, Position
from ablative.sweeps.slurm.workers import CanaryWorker, ElementWorker, has_reported_steps
from ablative.sweeps.worker import task_process
from ablative.sweeps.worker.print_safely import flush_output, say
from ablative.sweeps.worker.task_process import Entry
from ablative.sweeps.worker.worker import Worker

LINGER_SECONDS = 600.0
"""How long to wait to be killed: longer than any KillWait or GraceTime."""
REQUEUE_SECONDS = 90.0
"""How long to ask for the requeue, while the controller may be away."""
ALREADY = "Job is pending execution"
"""What the controller answers of a job that it has put back itself meanwhile, as it does after a preemption."""
TIMING_SECONDS = 90.0
"""How much earlier than asked for the warning before the time limit may come (`slurmctld` looks twice a minute, and
counts in minutes)."""


class Element:
    """The process that the scheduler started."""

    def __init__(self, home: Home, submission: SubmissionPaths, array: str) -> None:
        self.begun = time.time()
        # Before anything is read or imported: a signal may come at any time.
        self.received: list[int] = []
        self._workers: list[int] = []
        for name in task_process.STOP_SIGNALS:
            signal.signal(name, self._on_signal)
        position = Position.of(os.environ)
        self.leader = Leader(position, home) if position is not None else None
        queue = manifest.require(submission)
        self.home, self.submission, self.queue = home, submission, queue
        self.array = next(found for found in queue.arrays if found.name == array)
        self.index = int(os.environ["SLURM_ARRAY_TASK_ID"])
        self.job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{self.index}"
        self.requeues = int(os.environ.get("SLURM_RESTART_COUNT") or 0)
        wanted = set(self.array.elements[self.index])
        self.tasks = [task for task in queue.tasks if task.task_id in wanted]

    def run(self) -> int:
        """Work through the slice; returns the exit code, by which dependants are let go or cancelled."""
        facts = scheduler_facts(os.environ, self.job, self.queue_seconds())
        os.environ["ABLATE_SCHEDULER"] = json.dumps(facts)
        say(f"element {self.job} on {socket.gethostname()}: {len(self.tasks)} tasks, {facts}")
        say(f"element {self.job} {endings.BEGINS} {facts.get('node', '?')}", sys.stderr)
        # What the records name as the command is the user's.
        sys.argv = shlex.split(self.queue.command)
        entry = Entry.of(self.queue, self.home)
        pack = int(self.array.cluster["pack"])
        for _ in range(pack if self.array.arms else min(pack, len(self.tasks))):
            if not self.received:
                self._start(entry)
        stopped = [os.waitpid(pid, 0)[1] for pid in self._workers]
        # Whether a search has more to do, only its workers know.
        if self.received and (self._open() or (bool(self.array.arms) and any(stopped))):
            self._leave()
        return self._exit_code()

    def queue_seconds(self) -> float | None:
        """Time in the queue since the element could have begun; unknown after a requeue."""
        if self.requeues:
            return None
        since = self.array.submitted or self.submission.manifest.stat().st_mtime
        needed = {paths.record for task in self.tasks for paths in task.needed(self.home).values()}
        needed -= {task.paths(self.home).record for task in self.tasks}
        since = max([since, *(record.stat().st_mtime for record in needed if record.exists())])
        return round(max(0.0, time.time() - since), 1)

    def _start(self, entry: Entry) -> None:
        """Fork a worker: what was imported is shared, and the scheduler's signals are passed on to it."""
        signal.pthread_sigmask(signal.SIG_BLOCK, task_process.STOP_SIGNALS)
        try:
            parent = os.getpid()
            pid = os.fork()
            if pid == 0:
                self._work(parent, entry)
            self._workers.append(pid)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, task_process.STOP_SIGNALS)

    def _work(self, parent: int, entry: Entry) -> None:
        """A worker's whole life; never returns."""
        code = 1
        try:
            if not die_with_parent(parent):
                os._exit(1)
            worker = self._worker(entry)
            if self.leader is not None:
                worker.perform = self.leader.leading(worker.perform)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, task_process.STOP_SIGNALS)
            try:
                worker.run()
            finally:
                worker.close()
            code = int(worker.signals > 0)
        except Exception as error:
            # Others see only that the lease is left, and find the reason in these errors.
            say(redact("".join(traceback.format_exception(error))), sys.stderr)
        finally:
            flush_output()
            os._exit(code)

    def _worker(self, entry: Entry) -> Worker:
        if self.array.arms:
            # Imported where it is needed: Optuna takes a third of a second to import.
            from ablative.sweeps.slurm.search_element import SearchElementWorker

            return SearchElementWorker(self.home, self.submission, self.queue, entry, self.job, arms=self.array.arms)
        element = CanaryWorker if self.array.canary else ElementWorker
        worker = element(self.home, self.submission, self.queue, entry, self.job)
        worker.take(frozenset(task.task_id for task in self.tasks))
        return worker

    def _leave(self) -> None:
        """Back into the queue after the scheduler's warning; else wait to be killed."""
        limit = int(self.array.cluster["requeues"])
        if signal.SIGUSR2 in self.received:
            cause = "time limit" if self._late() else "preempted"
            if cause == "time limit" and self.requeues >= limit:
                self._give_up(cause, f"not done after {limit} requeues at the time limit of the scheduler")
            elif not requeue(self.job):
                self._give_up(cause, "saved at the scheduler's warning; the cluster does not requeue jobs")
            return
        end = time.monotonic() + LINGER_SECONDS
        while time.monotonic() < end:
            time.sleep(1.0)

    def _late(self) -> bool:
        """Whether the scheduler's warning can be that of the time limit: else it is that of a preemption."""
        limit = float(self.array.cluster["hours"]) * 3600 - float(self.array.cluster["signal_seconds"])
        return time.time() - self.begun > limit - TIMING_SECONDS

    def _give_up(self, cause: str, message: str) -> None:
        """Leave the rest for the next submission, and say so."""
        say(message)
        failure = failures.Failure(cause, "SIGUSR2", message, "", "")
        for task in self._open():
            paths = task.paths(self.home)
            if (paths.journal.exists() or task.opens) and not paths.lease.exists():
                now = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
                facts = {"time": now, "snapshot": self.queue.code, "job": self.job}
                failures.write_failure(paths.failure, failure, **facts)

    def _open(self) -> list[TaskRef]:
        """Tasks of the slice that are neither done nor failed."""
        return [task for task in self.tasks if self._state(task) in ("none", "claimed")]

    def _exit_code(self) -> int:
        """0: some of the tasks that others need are done; where none is needed, all are; the canary did some steps."""
        if self.array.canary:
            return int(not all(self._sound(task) for task in self.tasks))
        needed = {need for task in self.queue.tasks for need in task.needs}
        done = {task.task_id for task in self.tasks if self._state(task) in FINISHED}
        own = {task.task_id for task in self.tasks}
        return int(not (done & needed if own & needed else done == own))

    def _sound(self, task: TaskRef) -> bool:
        """Whether a task was done, trained some steps, or is somebody else's business."""
        state = self._state(task)
        if state == "none":
            return has_reported_steps(task.paths(self.home), self.begun)
        return state in (*FINISHED, "claimed", "cancelled")

    def _state(self, task: TaskRef) -> str:
        return directory_state(task.paths(self.home)).state

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.received.append(number)
        for pid in self._workers:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue


def requeue(job_id: str) -> bool:
    """Put the job that calls this back into the queue; false when the cluster does not."""
    end = time.monotonic() + REQUEUE_SECONDS
    while True:
        command, own = ["scontrol", "requeue", job_id], environment.cleaned()
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=own)
        say(f"requeue: {done.stderr.strip() or 'done'}")
        if done.returncode == 0 or ALREADY in done.stderr:
            return True
        if "Unable to contact" not in done.stderr or time.monotonic() > end:
            return False
        time.sleep(2.0)


def scheduler_facts(environment: Mapping[str, str], job_id: str, queue_seconds: float | None) -> dict[str, Any]:
    """What a record keeps of the job that made it."""
    names = {"node": "SLURMD_NODENAME", "partition": "SLURM_JOB_PARTITION", "gpus": "SLURM_JOB_GPUS"}
    known = {key: environment[name] for key, name in names.items() if environment.get(name)}
    if environment.get("SLURM_JOB_NUM_NODES", "1") != "1":
        known["nodes"] = environment["SLURM_JOB_NODELIST"]
    requeues = int(environment.get("SLURM_RESTART_COUNT") or 0)
    return {"scheduler": "slurm", "job": job_id, **known, "requeues": requeues, "queue_seconds": queue_seconds}


if __name__ == "__main__":
    guard()
    snapshot.require(Home(Path(sys.argv[1])))
    given, mine = (Home(Path(sys.argv[1])), SubmissionPaths(Path(sys.argv[2]))), Position.of(os.environ)
    if not any(array.name == sys.argv[3] for array in manifest.require(given[1]).arrays):
        say(f"{sys.argv[3]} is not in its submission any more, which went on without an answer: nothing to do")
        sys.exit(0)
    if mine is not None and mine.rank:
        sys.exit(Follower(*given, mine).run())
    sys.exit(Element(*given, sys.argv[3]).run())
