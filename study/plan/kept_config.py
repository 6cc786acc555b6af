"""The configuration that lies in a task's directory: what the task is run with, and what it is known by."""

from __future__ import annotations

from ablative.study.core.damage import DamagedError, set_aside
from ablative.study.core.errors import ConfigError
from ablative.study.core.files import read_text, write_atomic
from ablative.study.core.identity import content
from ablative.study.core.typed import dump, read_config
from ablative.study.home.paths import TaskPaths
from ablative.study.home.records import read_record
from ablative.study.plan.task import Task
from ablative.study.trainers import Trainer


def keep_config(task: Task, trainer: Trainer, paths: TaskPaths) -> None:
    """Write a task's configuration as the study has it now, unless the task is finished.

    A finished task keeps that which made its result. An attempt that is still to come goes by what the study says
    since: a metric's pattern, a program's variables, threads, which are no part of the id. A file with another id's
    content is set aside in any case; one that was cut off may well be YAML, and would have the task run with defaults.
    """
    text = dump(task.config)
    try:
        known = read_text(paths.config)
        if known == text:
            return
        if content(trainer.load(task.stage, read_config(paths.config))) != content(task.config):
            set_aside(paths.config, "not the task's configuration")
        elif read_record(paths) is not None:
            return
    except FileNotFoundError:
        pass
    except (DamagedError, ConfigError) as error:
        set_aside(paths.config, error.reason if isinstance(error, DamagedError) else "not the task's configuration")
    write_atomic(paths.config, text, durable=False)
