"""The code in a search's job: takes trial after trial, and runs what each one's values mean.

A worker whose trial has ended asks for the next at once, whatever the others do. The sampler runs here, in the job:
there is no process that has to survive.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import Any

from study.files import read_json, write_atomic
from study.journal import Journal, read
from study.paths import TaskPaths
from study.states import DirectoryState, directory_state
from study.task import Task
from study.typed import dump
from sweeps.claims import Claim
from sweeps.failures import RESUMABLE
from sweeps.manifest import QueuedTask
from sweeps.search import definition, results
from sweeps.search.trials import SECONDS, Taken, Trials
from sweeps.submit import archive_failure
from sweeps.worker import POLL_SECONDS, Worker


class SearchWorker(Worker):
    """Takes trials until the search's budget is spent and no trial is left behind."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._definition = definition.read(self.submission)
        self._trials = Trials(self._definition, self.home, self.job, self.queue.stale_seconds)
        self._search = self._definition.search
        self._taken: Taken | None = None
        self._reported = 0
        """Bytes of the journal by which the trial is judged that were reported."""

    def run(self) -> None:
        """Return when there is nothing to take, or when told to stop: a trial then waits for the next worker."""
        while not self._stopped():
            self._heartbeat(None)
            taken = self._trials.take()
            if taken is None:
                break
            print(f"{taken.arm.name}: trial {taken.number} {taken.trial.params}", flush=True)
            self._taken, self._reported = taken, 0
            begin = time.monotonic()
            try:
                self._conduct(taken)
            finally:
                self._taken = None
            print(f"{taken.arm.name}: trial {taken.number} took {time.monotonic() - begin:.1f} s", flush=True)
            self._tried.clear()
        results.write(self._trials)

    def _conduct(self, taken: Taken) -> None:
        """Bring every task of a trial to its end, and tell what came of them."""
        for task in taken.tasks:
            verdict = self._bring(taken, task)
            if verdict == "stopped":
                taken.claim.release()
                return
            if verdict:
                self._end_early(taken, task, verdict)
                return
        taken.trial.set_user_attr(SECONDS, sum(_seconds(task.paths(self.home)) for task in taken.tasks))
        by_seed = [self._values(taken, seed) for seed in self._search.seeds]
        values = [found for found in by_seed if found is not None]
        if len(values) == len(by_seed):
            self._trials.complete(taken, values)
        else:
            self._trials.prune(taken, "diverged")

    def _bring(self, taken: Taken, task: Task) -> str:
        """Have a task done, by us or by whoever has it; returns why it is not done: stopped, pruned, a cause."""
        queued, paths = QueuedTask.of(task), task.paths(self.home)
        if not paths.config.exists():
            write_atomic(paths.config, dump(task.config), durable=False)
        while True:
            state = directory_state(paths)
            if state.state in ("completed", "diverged"):
                self._mark(taken, paths)
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
            claim = self._claim(queued)
            if claim is None:
                # Somebody else, perhaps the grid, has it.
                self._heartbeat(None)
                self._wait(POLL_SECONDS)
                continue
            self._mark(taken, paths)
            self._perform(queued, claim)

    def _again(self, state: DirectoryState) -> bool:
        """Whether another attempt at a failed task may end otherwise."""
        other_code = (state.detail or {}).get("snapshot") != self.queue.snapshot
        return state.cause in RESUMABLE or (other_code and state.cause != "cancelled")

    def _end_early(self, taken: Taken, task: Task, cause: str) -> None:
        paths = task.paths(self.home)
        taken.trial.set_user_attr(SECONDS, sum(_seconds(task.paths(self.home)) for task in taken.tasks))
        message = str((read_json(paths.failure) or {}).get("message", ""))
        if cause == "pruned":
            self._trials.prune(taken, "pruned")
        elif cause in RESUMABLE:
            self._trials.lose(taken, f"{task.task_id}: {cause}: {message}", self.queue.snapshot)
        else:
            self._trials.fail(taken, f"{task.task_id}: {cause}: {message}", self.queue.snapshot)

    def _values(self, taken: Taken, seed: int) -> list[float] | None:
        metrics: dict[str, float | None] = {}
        for task in (task for task in taken.tasks if task.seed == seed):
            metrics |= (read_json(task.paths(self.home).record) or {}).get("metrics", {})
        return definition.objectives(self._search, metrics)

    def _mark(self, taken: Taken, paths: TaskPaths) -> None:
        """Say in the task's journal, and so in MLflow, which trial it belongs to; nobody else writes there now."""
        tags = {
            "ablate.search": self._definition.study,
            "ablate.arm": taken.arm.name,
            "ablate.trial": str(taken.number),
        }
        entries, _ = read(paths.journal)
        if any(entry["kind"] == "tags" and tags.items() <= entry["values"].items() for entry in entries):
            return
        journal = Journal(paths.journal)
        journal.tags(tags)
        journal.close()

    def _judge(self, task: QueuedTask) -> str:
        """Report what the trial's first run has measured since the last look; `pruned` on the pruner's word."""
        taken = self._taken
        if taken is None or not self._search.report or task.task_id != taken.tasks[0].task_id:
            return ""
        known = self._trials.all(taken.arm)[taken.number].intermediate_values
        entries, self._reported = read(task.paths(self.home).journal, self._reported)
        fresh = False
        for entry in (entry for entry in entries if entry["kind"] == "metrics"):
            value = float(entry["values"].get(self._search.report, math.nan))
            if math.isfinite(value) and entry["step"] not in known:
                taken.trial.report(self._sign * value, entry["step"])
                fresh = True
        return "pruned" if fresh and taken.trial.should_prune() else ""

    @property
    def _sign(self) -> float:
        """What is reported is better when smaller; Optuna compares it in the objective's direction."""
        return 1.0 if self._search.objective[0].direction == "minimize" else -1.0

    def _heartbeat(self, claim: Claim | None) -> bool:
        due = time.monotonic() >= self._beat
        kept = super()._heartbeat(claim)
        if due and self._taken is not None:
            kept = self._taken.claim.heartbeat() and kept
        return kept

    def _known(self) -> Iterable[QueuedTask]:
        return self._trials.tasks()


def _seconds(paths: TaskPaths) -> float:
    """How long a task took: by its record, or where it was cut short, by its journal."""
    record = read_json(paths.record)
    if record is not None:
        return float(record["seconds"])
    times = [entry["t"] for entry in read(paths.journal)[0] if "t" in entry]
    return (times[-1] - times[0]) / 1000 if times else 0.0
