"""A task of a user's program in the job: started, read, stopped, resumed, and checked for what it has to leave."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import shutil
import time
from collections.abc import Iterable

import yaml

from ablative.study.core.errors import Interrupted
from ablative.study.core.files import write_atomic
from ablative.study.core.typed import plain
from ablative.study.home.attempt_times import ANEW
from ablative.study.home.journal import COMPUTED_AGAIN, metric_rows, read
from ablative.study.home.paths import TaskPaths
from ablative.study.syntax.words import Tree
from ablative.study.trainers import JobTask
from ablative.trainer.program.config import ProgramConfig, nested
from ablative.trainer.program.definition import StageDefinition
from ablative.trainer.program.job import outcome
from ablative.trainer.program.job.installed import keep_installed
from ablative.trainer.program.job.process import Child, follow
from ablative.trainer.program.job.start import Start
from ablative.trainer.program.metrics.mlflow_setup import prepare_mlflow, store_template
from ablative.trainer.program.metrics.reader import Ended, MetricReader
from ablative.trainer.program.metrics.series import Value
from ablative.trainer.program.metrics.sources import REPORTED, MetricSource
from ablative.trainer.runner.attempts import RunningTask, run_attempt
from ablative.trainer.runner.record import Result
from ablative.trainer.runner.task_log import say

REPORTED_FILE = "reported.jsonl"
"""File of the exchange to which the client appends what a program reports."""
LATE_SECONDS = 3.0
"""SLURM stops the steps of a job one after the other: a program's `srun` may end before its worker gets the signal."""


def execute(job: JobTask) -> None:
    """Run the task to its end; where there is a record, it is done and nothing happens.

    Raises:
        Interrupted: stopped; call again to go on.
        AblateError, OSError: what the user has to mend; anything else is a fault of this code.
    """
    run_attempt(job, work)


def work(task: RunningTask) -> Result:
    """One attempt at the task: a run of its program."""
    attempt = Attempt(task)
    attempt.prepare()
    return attempt.run()


class Attempt:
    """One run of a task's program."""

    def __init__(self, task: RunningTask) -> None:
        config: ProgramConfig = task.config
        self._task, self._config = task, config
        self._paths: TaskPaths = task.job.paths
        self._stage: StageDefinition = config.job.stage
        self._start = Start(task.job, config)
        self._resumed, self._filling = self._start.resumed, self._start.filling
        # A function looks itself for what an earlier attempt has left.
        self._fresh = not self._resumed and not self._stage.function
        self._tail = outcome.Tail()
        self._restored = False
        """It is written down where this attempt has gone on."""

    def prepare(self) -> None:
        """Make the folders, and write what the program may read of its task.

        A command that does not resume finds an empty output folder: programs take files of an earlier attempt for a
        finished experiment, and the manager would take them for outputs.
        """
        if self._fresh and self._paths.output.exists():
            shutil.rmtree(self._paths.earlier_output, ignore_errors=True)
            self._paths.output.rename(self._paths.earlier_output)
            file = self._stage.resume.file
            why = f"the attempt before left no {file}" if file else "the stage has no resume.file"
            place = self._paths.earlier_output.name
            self._task.journal.event(ANEW, message=f"{why}; what it wrote is in {place} until the next one")
        self._paths.output.mkdir(parents=True, exist_ok=True)
        self._paths.exchange.mkdir(parents=True, exist_ok=True)
        if self._fresh:
            (self._paths.exchange / REPORTED_FILE).unlink(missing_ok=True)
        for name in ("stop", "stopping.jsonl", "returned"):
            (self._paths.exchange / name).unlink(missing_ok=True)
        whole = self._configuration()
        write_atomic(self._paths.config_file, yaml.safe_dump(plain(whole), sort_keys=False))
        folders = {
            word.removesuffix(".out"): str(self._task.job.needs[stage].output)
            for word, stage in self._config.job.folders.items()
        }
        facts = {
            "config": plain(whole),
            "seed": self._task.job.seed,
            "out": str(self._paths.output),
            "stages": folders,
            "stage": self._task.job.stage,
            "resumed": self._resumed,
        }
        write_atomic(self._paths.exchange / "task.json", json.dumps(facts, indent=1, default=str) + "\n")

    def run(self) -> Result:
        """Start the program and follow it to its end."""
        command, env, cwd = self._start.command, self._environment(), self._start.cwd
        facts = {"program": shlex.join(command), "interpreter": self._config.job.python}
        if not self._start.prefix:  # which may bring another interpreter
            facts |= keep_installed(self._config.job.python, env, self._task.job.home)
        say(f"  {'program':<14} {facts['program']}")
        reader = MetricReader(self._sources(), self._paths.output, self._earlier(), self._fresh)
        self._report(reader.begin())
        self._hold()
        if self._start.checkpoint is not None:
            file = self._start.checkpoint.relative_to(self._paths.output)
            self._task.journal.event("resumed from file", file=str(file))
        try:
            child = Child(command, cwd, env)
        except OSError as error:
            raise outcome.cannot_start(command[0], cwd, error) from None
        stop = self._stage.stop

        def line(text: str) -> None:
            self._tail.add(text)
            self._report(reader.line(text))

        def stopping() -> bool:
            return self._asked() or reader.diverged is not None

        try:
            stopped = follow(child, line, lambda: self._look(reader), stopping, stop.number, self._start.grace)
            status = child.status
        finally:
            child.close()
        if status and not stopped and self._stage.launch.by == "srun":
            stopped = self._told_late()
        ended = reader.finish()
        self._report(ended.values)
        self._note_restored(reader)
        self._note_end(reader, ended)
        if diverged := reader.diverged:
            final = {self._full(metric): value for metric, value in ended.final.items()}
            return Result(final, {"step": diverged.step, "culprit": self._full(diverged.name)}, facts)
        if stopped and not self._finished_anyway(status):
            raise Interrupted(outcome.stopped(status, stop.grace))
        return dataclasses.replace(self._result(status, ended), environment=facts)

    def _result(self, status: int, ended: Ended) -> Result:
        name = f"stage '{self._task.job.stage}'"
        if status:
            raise outcome.failure(status, self._tail, name)
        final = {self._full(metric): value for metric, value in ended.final.items()}
        # A declared number that is none is a result: the training diverged.
        if culprit := outcome.not_a_number(final, self._stage.metrics, self._full):
            return Result(final, {"step": self._last_step(), "culprit": culprit})
        missing = [f"no metric {self._stage.name}/{why}" for why in ended.missing.values()]
        for pattern in self._stage.outputs:
            if not any(self._paths.output.glob(self._filling.text(pattern))):
                missing.append(f"no output {pattern} in {self._paths.output}")
        if missing:
            raise outcome.incomplete(missing, self._tail, name)
        self._report(ended.closing)
        return Result(final)

    def _finished_anyway(self, status: int) -> bool:
        """Whether a function returned without having seen that it is to stop."""
        return status == 0 and bool(self._stage.function) and (self._paths.exchange / "returned").exists()

    def _asked(self) -> bool:
        if not self._task.job.stop():
            return False
        (self._paths.exchange / "stop").touch()
        return True

    def _told_late(self) -> bool:
        """Whether the worker is stopped, too, in the moment after its program has failed."""
        until = time.monotonic() + LATE_SECONDS
        while not (asked := self._asked()) and time.monotonic() < until:
            time.sleep(0.1)
        return asked

    def _environment(self) -> dict[str, str]:
        """The whole environment of the program."""
        found = self._start.environment(os.environ)
        if any(source.kind == "mlflow" for source in self._stage.metrics):
            place = self._task.job.home.cache / "empty_mlflow"
            found |= prepare_mlflow(
                self._paths.output, store_template(place, [*self._start.prefix, self._config.job.python], found)
            )
        added = self._start.given
        if path := added.get("PYTHONPATH"):
            # What leads imports to the frozen copy comes first.
            added["PYTHONPATH"] = os.pathsep.join([found["PYTHONPATH"], path])
        return found | added

    def _configuration(self) -> Tree:
        return nested({**self._filling.values})

    def _sources(self) -> tuple[MetricSource, ...]:
        """Where the metrics are; those that the program reports by the client are in a file of the exchange."""
        file = str(self._paths.exchange / REPORTED_FILE)
        return tuple(
            dataclasses.replace(source, kind="jsonl", file=file, key=source.name) if source.kind == REPORTED else source
            for source in self._stage.metrics
        )

    def _earlier(self) -> list[Value]:
        """What earlier attempts have reported."""
        rows = metric_rows(read(self._paths.journal)[0])
        return [Value(name.removeprefix(f"{self._stage.name}/"), step, value) for name, step, value, _ in rows]

    def _look(self, reader: MetricReader) -> None:
        self._report(reader.poll())
        self._note_restored(reader)

    def _note_restored(self, reader: MetricReader) -> None:
        """Write down where the program has gone on: what earlier attempts did after that step is lost."""
        if not (self._fresh or self._restored) and (step := reader.restored) is not None:
            self._restored = True
            self._task.journal.event("checkpoint restored", step=step)

    def _note_end(self, reader: MetricReader, ended: Ended) -> None:
        for note in ended.notes:
            self._task.journal.event("metrics", message=note)
        if again := reader.again:
            self._task.journal.event(COMPUTED_AGAIN, first=again.first, last=again.last, reports=again.reports)

    def _report(self, values: Iterable[Value]) -> None:
        steps: dict[int, dict[str, float]] = {}
        for value in values:
            steps.setdefault(value.step, {})[self._full(value.name)] = value.value
        for step, found in steps.items():
            self._task.journal.metrics(step, found)

    def _full(self, name: str) -> str:
        return f"{self._stage.name}/{name}"

    def _last_step(self) -> int:
        return max((step for _, step, _, _ in metric_rows(read(self._paths.journal)[0])), default=0)

    def _hold(self) -> None:
        visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name not in ("", "-1")]
        processes = self._config.runtime.processes
        gpus = 0 if self._config.runtime.device == "cpu" else min(len(visible), processes)
        device = outcome.gpu_name() if gpus else self._task.device
        self._task.hold(device, gpus, max(1, self._config.runtime.threads) * processes, processes)
