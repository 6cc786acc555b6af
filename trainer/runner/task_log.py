"""What a task's `log.txt` says of an attempt: its beginning, a line every few steps, evaluations' results, its end.

The lines follow what the task reports to its journal, whatever its trainer, and go to standard output, which the
worker has led into `log.txt`. The journal is the record; the log is for people, and stays small.
"""

from __future__ import annotations

import os
import shlex
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta

from ablative.study.core.plurals import counted
from ablative.study.core.processes import UNUSED
from ablative.study.core.secrets import redact
from ablative.study.home.attempt_times import END_EVENTS, START_EVENTS
from ablative.study.home.journal import Journal, encode
from ablative.study.trainers import Config, JobTask, Progress, Trainer
from ablative.trainer.runner.environment import program_version, scheduler

SHARE = 0.05
"""A progress line is due after this part of the task, …"""
SHORTEST, LONGEST = 2.0, 60.0
"""… or after these seconds, the shorter time at the beginning: a hundredth of the attempt's time so far."""
MOST = 40
"""Final metrics that the log lists; the record has them all."""
COST = "cost/"


def say(text: str) -> None:
    """Print a line without secrets and flush it; on a full disk the line is lost and the work goes on."""
    with suppress(OSError):
        print(redact(text), flush=True)


class TaskLog:
    """The lines of one attempt."""

    def __init__(self, job: JobTask, trainer: Trainer) -> None:
        self._job, self._trainer = job, trainer
        self.config: Config | None = None
        """The task's, once it is loaded: progress is measured by it."""
        self._begun = time.monotonic()
        self._last, self._share, self._step = self._begun, 0.0, 0
        self._device = ""

    def begin(self, attempt: object) -> None:
        """Which task begins, where, and by which code."""
        job, where = self._job, scheduler()
        say(f"{_now()} attempt {attempt} of {job.name or f'seed={job.seed}'} begins")
        placed = f", job {where['job']}" if where.get("job") else ""
        dirty = " with changes that are not committed" if os.environ.get("ABLATE_DIRTY") == "1" else ""
        facts = {
            "task": f"{job.task_id}, stage {job.stage}",
            "configuration": str(job.paths.config),
            "host": f"{socket.gethostname()}, process {os.getpid()}{placed}",
            "code": f"commit {(os.environ.get('ABLATE_COMMIT') or 'unknown')[:12]}{dirty}, ablate {program_version()}",
            "command": shlex.join(sys.argv),
            "not used": _not_used(),
        }
        for name, fact in facts.items():
            if fact:
                _fact(name, fact)

    def hold(self, device: str, gpus: int, cores: int, processes: int) -> None:
        """What the attempt holds; printed before the next result, for the work may correct it."""
        held = ", ".join(filter(None, [counted(gpus, "GPU") if gpus else "no GPU", counted(cores, "core")]))
        self._device = f"{device}: {held}{f', {processes} processes' if processes > 1 else ''}"

    def event(self, name: str, fields: Mapping[str, object]) -> None:
        """What happened: the beginning, a checkpoint that was restored, …; `end` writes the end."""
        if name in START_EVENTS:
            self.begin(fields.get("attempt", 1))
        elif name == "checkpoint restored":
            say(f"{_time()} resumed at step {fields.get('step')}")
        elif name in ("interrupted", "failed"):
            kind = f"{fields['type']}: " if fields.get("type") else ""
            say(f"{_now()} {name} after {self._seconds():.1f} s: {kind}{fields.get('message', '')}")
        elif name not in END_EVENTS:
            text = ", ".join(str(value) if key == "message" else f"{key} {value}" for key, value in fields.items())
            say(f"{_time()} {name}{f': {text}' if text else ''}")

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """A line on the progress, where one is due; results of evaluations at once."""
        own = f"{self._job.stage}/"
        running = step > 0 and any(name.startswith((own, COST)) for name in values)
        results = {
            name: value
            for name, value in values.items()
            if not name.startswith(COST) and not (step > 0 and name.startswith(own))
        }
        if results:
            self._say_device()
            after = f"after step {step}: " if step else ""
            say(f"{_time()} {after}{_listed(results)}")
        if running:
            self._progress(step, values)

    def end(self, state: str, seconds: float, attempts: int, metrics: Mapping[str, float], why: str) -> None:
        """How the task ended, and its final metrics."""
        self._say_device()
        tries = f" in {attempts} attempts" if attempts > 1 else ""
        say(f"{_now()} {state} after {seconds:.1f} s{tries}{f': {why}' if why else ''}")
        for name, value in list(metrics.items())[:MOST]:
            say(f"  {name} {_number(value)}")
        if len(metrics) > MOST:
            say(f"  … and {len(metrics) - MOST} more in {self._job.paths.record}")

    def _progress(self, step: int, values: Mapping[str, float]) -> None:
        now = time.monotonic()
        waited = now - self._last >= min(LONGEST, max(SHORTEST, (now - self._begun) / 100))
        found = self._asked(step, values)
        share = found.share if found is not None else 0.0
        # The last step is reported twice, the second time with what it cost.
        if step == self._step or not (waited or share >= self._share + SHARE or share == 1.0):
            return
        self._last, self._share, self._step = now, share, step
        self._say_device()
        if found is None:
            own = {name.removeprefix(f"{self._job.stage}/"): value for name, value in values.items()}
            say(f"{_time()} step {step}: {_listed(own)}")
            return
        shown = "".join(f"  {name} {text}" for name, text in found.shown.items())
        left = f"  {_span(found.seconds_left)} left" if found.seconds_left else ""
        say(f"{_time()} step {found.done:g}/{found.total:g}{shown}{left}")

    def _asked(self, step: int, values: Mapping[str, float]) -> Progress | None:
        """The trainer's reading of this report."""
        written = {name: encode(value) for name, value in values.items()}
        entry = {"t": int(time.time() * 1000), "kind": "metrics", "step": step, "values": written}
        return None if self.config is None else self._trainer.progress(self._job.stage, self.config, [entry])

    def _say_device(self) -> None:
        if self._device:
            _fact("device", self._device)
            self._device = ""

    def _seconds(self) -> float:
        return time.monotonic() - self._begun


class LoggedJournal(Journal):
    """Journal of a task whose entries the log follows; an entry is written first."""

    def __init__(self, job: JobTask, trainer: Trainer) -> None:
        super().__init__(job.paths.journal)
        self.log = TaskLog(job, trainer)
        self._known: dict[str, float] = {}

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        super().metrics(step, values)
        # Also what an earlier attempt has reported: this one's log says how it got there. Each result once.
        new = values if step else {name: value for name, value in values.items() if name not in self._known}
        self._known.update(values)
        if new:
            self.log.metrics(step, new)

    def event(self, name: str, **fields: object) -> None:
        super().event(name, **fields)
        self.log.event(name, fields)


def _not_used() -> str:
    """Variables of the shell that the executor has kept from the task."""
    dropped = os.environ.get(UNUSED, "")
    return f"{dropped} of the shell: ablate starts a run's processes itself (runtime.processes)" if dropped else ""


def _fact(name: str, text: str) -> None:
    say(f"  {name:<14} {text}")


def _listed(values: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {_number(value)}" for name, value in values.items())


def _number(value: float) -> str:
    return f"{value:.4g}"


def _span(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


def _time() -> str:
    return time.strftime("%H:%M:%S")
