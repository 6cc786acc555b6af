"""One attempt at a task of any trainer, from its directory: configuration in, journal and record out.

A trainer's entry (`study.trainers.Trainer.entry`) calls `run_attempt` with the function that does the work. All that is
known of the task is in its directory, so calling it again after any kind of death goes on where the last attempt was.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from ablative.study.core.errors import ConfigError, DataError, Interrupted
from ablative.study.core.files import write_json
from ablative.study.core.identity import flatten
from ablative.study.core.secrets import redact
from ablative.study.core.typed import read_config
from ablative.study.costs.history import facts
from ablative.study.home.attempt_times import START_EVENTS
from ablative.study.home.journal import Journal, read
from ablative.study.home.paths import RunPaths, TaskPaths
from ablative.study.home.records import read_record
from ablative.study.installed_trainers import trainer
from ablative.study.spec.parents import PARENT_KEY
from ablative.study.trainers import Config, JobTask
from ablative.trainer.runner.environment import code, processor
from ablative.trainer.runner.record import AttemptTotals, Result, attempt_totals, record
from ablative.trainer.runner.task_log import LoggedJournal, TaskLog, say
from ablative.trainer.runner.usage_tags import CPU_SECONDS, Clock, begin, settle


@dataclass
class RunningTask:
    """A task while an attempt at it goes on."""

    job: JobTask
    config: Config
    """Configuration of its stage, as its trainer loads it."""
    journal: Journal
    """Takes metrics and events as they come; final metrics that are not in it are added at the end."""
    log: TaskLog
    """What people read of it; it follows the journal."""
    device: str = ""
    """Name of the GPU, or processor, that it runs on."""
    gpus: int = 0
    """Held by all of its processes together."""

    def hold(self, device: str, gpus: int, cores: int, processes: int = 1) -> None:
        """Report what the attempt holds, all of its processes together; until the work says so, it is one core."""
        self.device, self.gpus = device, gpus
        self.log.hold(device, gpus, cores, processes)
        begin(self.journal, device, gpus, cores)


Work = Callable[[RunningTask], Result]
"""Does the task; raises `study.core.errors.Interrupted` when it was asked to stop (`JobTask.stop`) and has saved."""


def run_attempt(job: JobTask, work: Work) -> None:
    """Run the task to its end; where there is a record, it is done and nothing happens.

    A task that needs one that diverged has no result either: it diverges without work.

    Args:
        job: the task, whose lease the caller holds.
        work: what is to be done.

    Raises:
        Interrupted: stopped and saved; call again to go on.
        AblateError, OSError: the user's and the disk's problems; anything else is a fault of the code.
    """
    if read_record(job.paths) is None:
        journal = LoggedJournal(job, trainer(job.trainer))
        try:
            _attempt(job, work, journal)
        finally:
            journal.close()
    # Only now: until there is a record, the next attempt needs them.
    for saved in (RunPaths(job.paths.root).checkpoint, job.paths.scores):
        saved.unlink(missing_ok=True)


def load(job: JobTask) -> Config:
    """The task's configuration; raises ConfigError, which names the file."""
    return _load(job, job.stage, job.paths)


def diverged_need(job: JobTask) -> dict[str, Any] | None:
    """What went wrong in a task that this one needs and that diverged; None where all that it needs completed.

    Raises DataError where one is not finished.
    """
    for stage, paths in job.needs.items():
        found = read_record(paths)
        if found is None:
            raise DataError(f"task {paths.root.name} ({stage}) is not finished; run it before '{job.stage}'")
        if found["state"] == "diverged":
            return dict(found.get("diverged") or {})
    return None


def _not_run(job: JobTask) -> str:
    """The line of the log for a task that needs one that diverged."""
    name, paths = next((name, paths) for name, paths in job.needs.items() if _has_diverged(paths))
    role = "the run from which this one starts" if name == PARENT_KEY else f"stage {name}, which this one needs,"
    return f"{role} ({paths.root.name}) has diverged, so that nothing is computed here; how it ended is its result:"


def _has_diverged(paths: TaskPaths) -> bool:
    found = read_record(paths)
    return found is not None and found["state"] == "diverged"


def _attempt(job: JobTask, work: Work, journal: LoggedJournal) -> None:
    """One attempt: opening event, the work, closing event, record."""
    past = attempt_totals(read(job.paths.journal)[0])
    clock = Clock()
    journal.event(START_EVENTS[past.attempts > 0], attempt=past.attempts + 1)
    try:
        journal.tags(code(trainer(job.trainer).packages))
        config = journal.log.config = load(job)
        if not past.configured:
            journal.params(flatten(config))
        alike = _alike(job, config)
        task = RunningTask(job, config, journal, journal.log)
        result = _worked(task, work, clock)
    except Interrupted as stopped:
        journal.event("interrupted", message=str(stopped), **{CPU_SECONDS: round(clock.cpu_seconds(), 3)})
        settle(job.paths, journal)
        raise
    except Exception as error:
        # A full disk must not put its own complaint in place of the first one.
        with suppress(OSError):
            journal.event("failed", type=type(error).__name__, message=redact(str(error)))
            settle(job.paths, journal)
        raise
    journal.event(result.state, **(result.divergence or {}))
    end = time.time()
    spent = AttemptTotals(past.attempts + 1, past.seconds + end - clock.since, past.started or clock.since, True)
    why = ", ".join(f"{name} {value}" for name, value in (result.divergence or {}).items())
    journal.log.end(result.state, spent.seconds, spent.attempts, result.metrics, why)
    accounts = {"spent": settle(job.paths, journal), "alike": alike}
    write_json(job.paths.record, record(job, result, spent, end, task.device) | accounts)


def _worked(task: RunningTask, work: Work, clock: Clock) -> Result:
    """The work's result, with what it has cost, in the journal as well."""
    task.hold(processor(), 0, 1)
    diverged = diverged_need(task.job)
    if diverged is not None:
        say(_not_run(task.job))
        return Result(divergence=diverged)
    result = work(task)
    cost = clock.cost(read(task.job.paths.journal)[0], task.gpus)
    result = replace(result, metrics={**cost, **result.metrics})
    # What the work has reported itself is in the journal already, which drops it here.
    task.journal.metrics(0, result.metrics)
    return result


def _alike(job: JobTask, config: Config) -> dict[str, Any]:
    # A run starts from one that the same stage made.
    needs = {
        name: _load(job, job.stage if name == PARENT_KEY else name, paths)
        for name, paths in job.needs.items()
        if paths.config.exists()
    }
    return facts(trainer(job.trainer), job.stage, config, needs)


def _load(job: JobTask, stage: str, paths: TaskPaths) -> Config:
    data = read_config(paths.config)
    try:
        return trainer(job.trainer).load(stage, data)
    except ConfigError as error:
        raise ConfigError(f"{paths.config}: {error}") from None
