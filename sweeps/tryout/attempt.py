"""One attempt at a task in a separate folder: followed, and stopped when it is time."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from ablative.study.core.plurals import counted
from ablative.study.home.journal import Entry, metric_rows, read
from ablative.study.home.paths import Home, TaskPaths
from ablative.study.home.records import read_record
from ablative.study.plan.kept_config import keep_config
from ablative.study.plan.plan import Plan
from ablative.study.plan.task import Task
from ablative.study.trainers import JobTask
from ablative.sweeps.queue import failures
from ablative.sweeps.worker import task_process
from ablative.sweeps.worker.task_process import Entry as Code
from ablative.sweeps.worker.wakeup import drain

POLL_SECONDS = 0.05
GRACE_SECONDS = 10.0
"""How long a task may take to save after it is asked to stop."""
COST = "cost/"
"""What the names of metrics begin with that no program reports."""
Curves = dict[str, dict[int, float]]
"""Metric → step → value."""


@dataclass(frozen=True)
class Performed:
    """A task after an attempt at it."""

    task: Task
    paths: TaskPaths
    state: str
    """completed, diverged, failed, or stopped."""
    seconds: float
    message: str
    """How it failed; empty: it did not."""
    seconds_left: float | None = None
    """How long the rest of a stopped task would have taken, by its progress when it was stopped; None: not known."""

    @property
    def finished(self) -> bool:
        return self.state in ("completed", "diverged")

    @property
    def entries(self) -> list[Entry]:
        """Its journal."""
        return read(self.paths.journal)[0]

    @property
    def curves(self) -> Curves:
        """What it has reported."""
        return curves(self.paths)

    @property
    def final(self) -> dict[str, float]:
        """Its results; of one that is not finished, what it has reported last."""
        record = read_record(self.paths)
        if record is None:
            return {name: values[max(values)] for name, values in self.curves.items()}
        # A record has no number that is none.
        found = {name: float("nan") if v is None else v for name, v in (record.get("metrics") or {}).items()}
        return {name: value for name, value in found.items() if not name.startswith(COST)}

    @property
    def steps(self) -> list[int]:
        """Steps of which it has reported something, in order."""
        return sorted({step for values in self.curves.values() for step in values})


def curves(paths: TaskPaths) -> Curves:
    """What a task has reported, without costs."""
    found: Curves = {}
    for name, step, value, _ in metric_rows(read(paths.journal)[0]):
        if not name.startswith(COST):
            found.setdefault(name, {})[step] = value
    return found


class Scratch:
    """Folders that take the place of the home while a cell is tried."""

    def __init__(self, plan: Plan, first: Home, second: Home) -> None:
        """`first` has the uninterrupted tasks, and all that others need; `second` those that are resumed."""
        self.plan, self.first, self.second = plan, first, second
        self._code: Code | None = None

    def perform(self, task: Task, again: bool, until: Callable[[float], bool]) -> Performed:
        """Make one attempt at a task.

        Args:
            task: of the plan; what it needs is finished.
            again: in the second home.
            until: (seconds since the beginning) → whether to stop it.
        """
        home = self.second if again else self.first
        job = task.job(home, self.plan.trainer.name, task.name)
        job = dataclasses.replace(job, needs=task.needed(self.first))
        keep_config(task, self.plan.trainer, job.paths)
        code = self._entry()
        begin = time.monotonic()
        child = task_process.start(job.paths.log, lambda stop: _execute(code, job, stop), code.trained_by)
        report, asked = b"", 0.0
        try:
            while (status := child.ended()) is None:
                seconds = time.monotonic() - begin
                if not asked and until(seconds):
                    asked = seconds
                    child.signal(signal.SIGTERM)
                elif asked and seconds > asked + GRACE_SECONDS:
                    child.kill()
                time.sleep(POLL_SECONDS)
                report += drain(child.report)
            report += drain(child.report)
        except BaseException:
            child.kill()
            raise
        finally:
            os.close(child.report)
        seconds = time.monotonic() - begin
        done = _performed(task, job.paths, seconds, bool(asked), status, report)
        if done.state == "stopped":
            # At once: an estimate of what is left takes the time since the last report for work.
            progress = self.plan.trainer.progress(task.stage, task.config, done.entries)
            done = dataclasses.replace(done, seconds_left=progress.seconds_left if progress else None)
        return done

    def _entry(self) -> Code:
        if self._code is None:
            trainer = self.plan.trainer
            self._code = Code.load(self.first, trainer.name, trainer.entry)
        return self._code


def _execute(code: Code, job: JobTask, stop: Callable[[], bool]) -> None:
    code.execute(dataclasses.replace(job, stop=stop))


def _performed(task: Task, paths: TaskPaths, seconds: float, asked: bool, status: int, report: bytes) -> Performed:
    record = read_record(paths)
    if record is not None:
        return Performed(task, paths, str(record["state"]), seconds, "")
    reported = task_process.read_report(report)
    if asked:
        return Performed(task, paths, "stopped", seconds, "")
    failure = reported or failures.from_exit(status, False)
    return Performed(task, paths, "failed", seconds, failure.message or failure.type)


def reports(steps: list[int]) -> str:
    """`21 reports, up to step 400`."""
    return f"{counted(len(steps), 'report')}, up to step {steps[-1]}" if steps and steps[-1] else "no steps"
