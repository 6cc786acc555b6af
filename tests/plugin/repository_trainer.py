"""A trainer whose stages run a program of a user's repository, in the copy that the job finds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from command_trainer import CommandConfigurations, CommandTrainer

from ablative.study.trainers import Code, JobTask, Request
from ablative.trainer.runner import frozen_code
from ablative.trainer.runner.attempts import RunningTask, run_attempt
from ablative.trainer.runner.record import Result


class RepositoryConfigurations(CommandConfigurations):
    @property
    def code(self) -> Code:
        return Code(Path(str(self._request.own["folder"])))


class RepositoryTrainer(CommandTrainer):
    name = "repository"
    entry = "repository_trainer:execute"
    packages = ("command_trainer", "repository_trainer")
    study_keys: tuple[str, ...] = ("settings", "folder")

    def configurations(self, request: Request) -> RepositoryConfigurations:
        return RepositoryConfigurations(request)


TRAINER = RepositoryTrainer()


def execute(job: JobTask) -> None:
    run_attempt(job, work)


def work(task: RunningTask) -> Result:
    place = frozen_code.folder(Path("/nowhere"))
    command = [sys.executable, "main.py", task.job.stage, json.dumps({**task.config, "seed": task.job.seed})]
    where = frozen_code.variables(os.environ)
    printed = subprocess.run(command, cwd=place, env=where, check=True, stdout=subprocess.PIPE, text=True).stdout
    return Result(json.loads(printed))
