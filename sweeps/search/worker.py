"""The code in a search's job: takes trial after trial, and runs what each one's values mean.

A worker whose trial has ended asks for the next at once, whatever the others do. The sampler runs here, in the job:
there is no process that has to survive.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import Any

from ablative.study.core.files import write_json
from ablative.study.core.typed import plain
from ablative.study.home import tracking_tags
from ablative.study.home.journal import read
from ablative.study.home.paths import TaskPaths, watched
from ablative.study.home.records import read_failure, read_record
from ablative.study.home.task_state import FINISHED, DirectoryState, directory_state
from ablative.study.plan.kept_config import keep_config
from ablative.study.plan.search_arms import VALIDATION, reported
from ablative.study.plan.task import Task, TaskRef, trial_tasks
from ablative.sweeps.queue.failures import RESUMABLE
from ablative.sweeps.queue.leases import Lease
from ablative.sweeps.queue.retries import archive_failure
from ablative.sweeps.search import definition, repeats, results, tags
from ablative.sweeps.search.attributes import SECONDS
from ablative.sweeps.search.repeats import Repeat
from ablative.sweeps.search.trials import MOST_LOSSES, Taken, Trials, opens_run
from ablative.sweeps.worker.worker import POLL_SECONDS, Worker

Work = Taken | Repeat
IDLE_SECONDS = 1.0
"""How often a worker looks again that waits for the others' last trials."""


class SearchWorker(Worker):
    """Takes trials until the search's budget is spent and no trial is left behind."""

    def __init__(self, *arguments: Any, arms: tuple[str, ...] = ()) -> None:
        """`arms`: names of those whose trials it takes; none: of all."""
        super().__init__(*arguments)
        self._definition = definition.read(self.submission, self.queue.trainer, arms)
        self._trials = Trials(self._definition, self.home, self.job, self.queue.stale_seconds)
        self._search = self._definition.search
        self._work: Work | None = None
        self._reported = 0
        """Bytes of the journal by which the trial is judged that were reported."""

    def run(self) -> None:
        """Return when there is nothing to take, or after a stop signal: a trial then waits for the next worker."""
        while not self._stopped():
            self._heartbeat(None)
            taken = self._trials.take()
            work = taken or repeats.take(self._trials)
            if work is not None:
                self._perform_trial(work)
            elif repeats.expected(self._trials):
                self._wait(IDLE_SECONDS)
            else:
                break
        results.write(self._trials)

    def _perform_trial(self, work: Work) -> None:
        """Bring what was taken to its end, and say in the log what it was and how long it took."""
        kind = "trial" if isinstance(work, Taken) else f"seed {work.tasks[0].seed} of trial"
        values = work.trial.params if isinstance(work, Taken) else work.values
        print(f"{work.arm.name}: {kind} {work.number} {values}", flush=True)
        self._work, self._reported = work, 0
        begin = time.monotonic()
        try:
            if isinstance(work, Taken):
                self._conduct(work)
            else:
                self._repeat(work)
        finally:
            self._work = None
        print(f"{work.arm.name}: {kind} {work.number} took {time.monotonic() - begin:.1f} s", flush=True)
        self._tried.clear()

    def _conduct(self, taken: Taken) -> None:
        """Bring every task of a trial to its end, and report the trial's values to Optuna."""
        for task in taken.tasks:
            verdict = self._bring(taken, task)
            if verdict == "stopped":
                taken.lease.release()
                return
            if verdict:
                self._end_early(taken, task, verdict)
                return
        taken.trial.set_user_attr(SECONDS, self._seconds(taken))
        by_seed = [self._values(taken, seed) for seed in self._search.seeds]
        values = [found for found in by_seed if found is not None]
        whole = len(values) == len(by_seed)
        self._track(taken, "complete" if whole else "diverged")
        if whole:
            self._trials.complete(taken, values)
        else:
            self._trials.prune(taken, "diverged")

    def _repeat(self, repeat: Repeat) -> None:
        """Bring every task of a repeat (a trial's values with one more seed) to its end, and note its outcome."""
        for task in repeat.tasks:
            verdict = self._bring(repeat, task)
            lost = verdict in RESUMABLE and not task.paths(self.home).past_failure(MOST_LOSSES - 1).exists()
            if verdict == "stopped" or lost:
                repeat.lease.release()
                return
            if verdict:
                self._track(repeat, "failed")
                repeat.settle("failed", None, self._seconds(repeat), self.queue.code)
                return
        values = self._values(repeat, repeat.tasks[0].seed)
        state = "complete" if values is not None else "diverged"
        self._track(repeat, state)
        repeat.settle(state, values, self._seconds(repeat), self.queue.code)

    def _bring(self, work: Work, task: Task) -> str:
        """Have a task done, here or by the worker that holds it; returns why it is not: stopped, pruned, a cause."""
        queued, paths = TaskRef.of(task), task.paths(self.home)
        keep_config(task, work.arm.trainer, paths)
        self._watch(work, task, paths)
        while True:
            state = directory_state(paths)
            if state.state in FINISHED:
                self._mark(work, task)
                self._judge(queued)
                return ""
            failed = state.state in ("failed", "cancelled")
            if failed and not self._again(state):
                return state.cause
            if self._stopped():
                return "stopped"
            if failed and task.task_id in self._tried:
                return state.cause
            if failed:
                archive_failure(paths)
            lease = self._acquire(queued)
            if lease is None:
                # Somebody else, perhaps the grid, has it.
                self._heartbeat(None)
                self._wait(POLL_SECONDS)
                continue
            self._mark(work, task)
            self._perform(queued, lease)

    def _watch(self, work: Work, task: Task, paths: TaskPaths) -> None:
        """Have the run by which a trial may be pruned evaluated while it trains."""
        arm = work.arm
        if arm.watched is None or not isinstance(work, Taken) or task != work.first or paths.record.exists():
            return
        write_json(watched(paths.root), {"every": self._search.every, "evaluation": plain(arm.watched.config)})

    def _again(self, state: DirectoryState) -> bool:
        """Whether another attempt at a failed task may end otherwise."""
        other_code = (state.detail or {}).get("snapshot") != self.queue.code
        return state.cause in RESUMABLE or (other_code and state.cause != "cancelled")

    def _end_early(self, taken: Taken, task: Task, cause: str) -> None:
        paths = task.paths(self.home)
        taken.trial.set_user_attr(SECONDS, self._seconds(taken))
        message = str((read_failure(paths.failure) or {}).get("message", ""))
        if cause == "pruned":
            self._track(taken, "pruned")
            self._trials.prune(taken, "pruned")
        elif cause in RESUMABLE:
            self._trials.lose(taken, f"{task.task_id}: {cause}: {message}", self.queue.code)
        else:
            self._track(taken, "failed")
            self._trials.fail(taken, f"{task.task_id}: {cause}: {message}", self.queue.code)

    def _values(self, work: Work, seed: int) -> list[float] | None:
        metrics: dict[str, float | None] = {}
        for task in _of_seed(work, seed):
            metrics |= (read_record(task.paths(self.home)) or {}).get("metrics") or {}
        return definition.goal_values(self._search, metrics)

    def _seconds(self, work: Work) -> float:
        """What its tasks took so far."""
        return sum(_seconds(task.paths(self.home)) for task in work.tasks)

    def _mark(self, work: Work, task: Task) -> None:
        """Say in MLflow which trial a task belongs to; one that does not depend on the seed belongs to many."""
        if not task.seeded:
            return
        study, arm, number = self._definition.study, work.arm.name, str(work.number)
        paths = task.paths(self.home)
        tags.write(paths, {tracking_tags.SEARCH: study, tracking_tags.ARM: arm, tracking_tags.TRIAL: number})

    def _track(self, work: Work, state: str) -> None:
        """Say there how a trial, or a repeat, ended, and what each of its runs gave it."""
        known = work.trial.params if isinstance(work, Taken) else work.values
        for task in (task for task in work.tasks if opens_run(task) and task.paths(self.home).journal.exists()):
            facts = {
                "arm": work.arm.name,
                "role": "search" if isinstance(work, Taken) else "repeat",
                "state": state,
                "values": known,
                "objectives": self._values(work, task.seed),
                "seconds": sum(_seconds(other.paths(self.home)) for other in _of_seed(work, task.seed)),
                "first": any(values.items() <= known.items() for values in work.arm.first(self._search)),
            }
            tags.write_trial(task.paths(self.home), f"{work.arm.key}.{work.number}", facts)

    def _judge(self, task: TaskRef) -> str:
        """Report what the trial's first run has measured since the last look; `pruned` on the pruner's word."""
        taken = self._work
        if not isinstance(taken, Taken) or not self._search.report or task.task_id != taken.first.task_id:
            return ""
        name = f"{VALIDATION}/{self._search.report}" if self._search.every else self._search.report
        known = self._trials.all(taken.arm)[taken.number].intermediate_values
        entries, self._reported = read(task.paths(self.home).journal, self._reported)
        fresh = False
        for entry in (entry for entry in entries if entry["kind"] == "metrics"):
            value = float(entry["values"].get(name, math.nan))
            if math.isfinite(value) and entry["step"] not in known:
                taken.trial.report(self._sign * value, entry["step"])
                fresh = True
        return "pruned" if fresh and taken.trial.should_prune() else ""

    @property
    def _sign(self) -> float:
        """Optuna compares what is reported in the goal's direction, which need not be the reported metric's."""
        direction = self._search.objective[0].direction
        arm = self._definition.arms[0]
        better = reported(self._search, [*arm.stages, *filter(None, [arm.watched])]).better
        return -1.0 if better and (better == "higher") != (direction == "maximize") else 1.0

    def _heartbeat(self, lease: Lease | None) -> bool:
        due = time.monotonic() >= self._beat
        kept = super()._heartbeat(lease)
        if due and self._work is not None:
            kept = self._work.lease.heartbeat() and kept
        return kept

    def _known(self) -> Iterable[TaskRef]:
        return trial_tasks(self._trials.paths)


def _of_seed(work: Work, seed: int) -> list[Task]:
    return [task for task in work.tasks if task.seed == seed or not task.seeded]


def _seconds(paths: TaskPaths) -> float:
    """How long a task took: by its record, or where it was cut short, by its journal."""
    record = read_record(paths)
    if record is not None:
        return float(record.get("seconds") or 0.0)
    times = [entry["t"] for entry in read(paths.journal)[0] if "t" in entry]
    return (times[-1] - times[0]) / 1000 if times else 0.0
