"""The configuration that lies in a task's directory: what the task is run with, and what it is known by."""

from __future__ import annotations

from pathlib import Path

from ablative.study.core.damage import DamagedError, set_aside
from ablative.study.core.errors import ConfigError
from ablative.study.core.files import read_text, write_atomic
from ablative.study.core.identity import content
from ablative.study.core.typed import dump, read_config
from ablative.study.plan.task import Task
from ablative.study.trainers import Trainer


def keep_config(task: Task, trainer: Trainer, path: Path) -> None:
    """Write a task's configuration, unless it is there; one that is damaged is set aside, and written again.

    A file that was cut off may well be YAML, and would have the task run with defaults: so what counts is what the id
    is made of. The rest (device, paths) stays as it was.
    """
    text = dump(task.config)
    try:
        known = read_text(path)
        if known == text or content(trainer.load(task.stage, read_config(path))) == content(task.config):
            return
        set_aside(path, "not the task's configuration")
    except FileNotFoundError:
        pass
    except (DamagedError, ConfigError) as error:
        set_aside(path, error.reason if isinstance(error, DamagedError) else "not the task's configuration")
    write_atomic(path, text, durable=False)
