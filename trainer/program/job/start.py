"""How a task of a user's program is started: its command with the words filled in, its folder, its environment."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from ablative.study.home.failed_attempts import times_out_of_memory
from ablative.study.syntax.words import Tree
from ablative.study.trainers import JobTask
from ablative.trainer.program.config import ProgramConfig, dotted
from ablative.trainer.program.interpreter import client_folder, with_interpreter
from ablative.trainer.program.job import outcome
from ablative.trainer.program.job.launchers import launched, without_step
from ablative.trainer.program.words import Filling
from ablative.trainer.runner import frozen_code

RESERVE_SECONDS = 10.0
"""What is left of a job's time when a program that does not stop is killed."""
CALL = "ablative.call"
"""Module that runs a function in the study's interpreter."""


class Start:
    """The start of one attempt at a task; nothing is written or run."""

    def __init__(self, job: JobTask, config: ProgramConfig) -> None:
        self._job, self._config = job, config
        self._stage = config.job.stage
        self._code = frozen_code.folder(Path(config.job.code))
        self.checkpoint = self._newest(self.filling.text(self._stage.resume.file))
        """File that an earlier attempt has left, from which the program goes on."""

    @property
    def resumed(self) -> bool:
        """Whether the program goes on from what an earlier attempt has left."""
        return self.checkpoint is not None

    @property
    def command(self) -> list[str]:
        """Program and arguments."""
        own, python = self._stage, self._config.job.python
        if own.function:
            command = [python, "-m", CALL, own.function]
        else:
            words = [*self.filling.words(own.command), *self._resume_words()]
            command = with_interpreter([*map(frozen_code.moved, words)], python)
        command = launched(command, own.launch.by, self._config.runtime.processes, python, os.environ)
        return [*self.prefix, *command]

    @property
    def prefix(self) -> list[str]:
        """Words before the command, filled in."""
        return list(map(self.filling.text, self._stage.prefix))

    @property
    def cwd(self) -> Path:
        """Folder that it runs in."""
        return self._code / frozen_code.moved(self.filling.text(self._stage.cwd))

    @property
    def given(self) -> dict[str, str]:
        """Variables that the study adds."""
        return {name: self.filling.text(value) for name, value in self._stage.env.items()}

    @property
    def added(self) -> dict[str, str]:
        """Variables with what the program may know of its task."""
        job, paths = self._job, self._job.paths
        found = {
            "ABLATE_TASK": str(paths.exchange),
            "ABLATE_OUT": str(paths.output),
            "ABLATE_SEED": str(job.seed),
            "ABLATE_RESUMED": "1" if self.resumed else "0",
            "ABLATE_STOP": str(paths.exchange / "stop"),
        }
        for word, stage in self._config.job.folders.items():
            found[f"ABLATE_STAGE_{outcome.variable(word.removesuffix('.out'))}"] = str(job.needs[stage].output)
        return found

    def grace(self) -> float:
        """Seconds that the program may take to stop now: the job has to end in time to be put back into the queue."""
        end = float(os.environ.get("SLURM_JOB_END_TIME") or "inf")
        return max(0.0, min(self._stage.stop.grace, end - time.time() - RESERVE_SECONDS))

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """Variables of the program, but for those that the study adds.

        Args:
            base: variables of this process.
        """
        own = without_step(frozen_code.variables(base), self._stage.launch.by)
        found = own | self.added | {"PYTHONUNBUFFERED": "1"}
        client = str(client_folder(self._job.home))
        found["PYTHONPATH"] = os.pathsep.join(filter(None, [found.get("PYTHONPATH"), client]))
        if end := base.get("SLURM_JOB_END_TIME"):
            found["ABLATE_DEADLINE"] = end
        if self._config.runtime.threads:
            found.setdefault("OMP_NUM_THREADS", str(self._config.runtime.threads))
        return found

    def _newest(self, pattern: str) -> Path | None:
        """The file of the output folder that was written last, of those that a pattern means."""
        found = list(self._job.paths.output.glob(pattern)) if pattern else []
        # Of one moment, as in a copied folder: `epoch_10` after `epoch_9`.
        return max(found, key=lambda path: (path.stat().st_mtime_ns, len(path.name), path), default=None)

    def _resume_words(self) -> list[str]:
        """Words that are added to the command of an attempt that resumes."""
        if self.checkpoint is None:
            return []
        where = {"resume.file": str(self.checkpoint), "resume.folder": str(self.checkpoint.parent)}
        filling = dataclasses.replace(self.filling, fixed={**self.filling.fixed, **where})
        return filling.words(self._stage.resume.args)

    @cached_property
    def filling(self) -> Filling:
        """What placeholders are filled with."""
        config, paths, own = self._config, self._job.paths, self._job
        folders = {word: str(own.needs[stage].output) for word, stage in config.job.folders.items()}
        fixed = {
            "seed": str(own.seed),
            "out": str(paths.output),
            "config_file": str(paths.config_file),
            "processes": str(config.runtime.processes),
            "python": config.job.python,
            "code": str(self._code),
            **folders,
        }
        # What a program was asked with in place of the seed and of folders has their names.
        named = Filling({}, {}, fixed, {}, {})

        def value(item: object) -> object:
            return named.text(item) if isinstance(item, str) and named.knows(item) else item

        smaller = self._smaller()
        values = {key: value(item) for key, item in {**dotted(config.config), **config.unhashed}.items()} | smaller
        given = {key: smaller.get(key, value(item)) for key, item in {**config.given, **smaller}.items()}
        return Filling({**values, **config.program.each}, given, fixed, config.job.stage.rename, config.options)

    def _smaller(self) -> Tree:
        """Values of keys that attempts which ran out of memory have made smaller (or larger, as accumulation)."""
        times = times_out_of_memory(self._job.paths)
        known = {**dotted(self._config.config), **self._config.unhashed}
        found: Tree = {}
        for key, factor in self._stage.on_oom.items() if times else ():
            value = known[key] * factor**times
            found[key] = max(1, round(value)) if isinstance(known[key], int) else value
        return found
