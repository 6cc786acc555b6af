"""`ablate config`: the whole configuration with which the tasks of a cell are run."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from ablative.study.cli import cell_command, example
from ablative.study.core.files import Content

if TYPE_CHECKING:
    from ablative.study.plan.plan import Plan
    from ablative.study.plan.task import Task


@click.command("config", epilog=example("ablate config demo scale=small,method=clip,pooling=map"))
@cell_command
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def config_command(plan: Plan, cell: str, as_json: bool) -> None:
    """Print what each stage of a CELL runs with: the whole configuration, and the command of a program.

    CELL is a task id, or levels such as method=clip,pooling=map [default: the baseline, or the first cell].
    """
    from ablative.study.plan.named_task import tasks_of_run

    tasks = tasks_of_run(plan, cell)
    if cell and "=" not in cell:
        tasks = tuple(task for task in tasks if task.task_id.startswith(cell))
    found = {task.stage: described(plan, task) for task in tasks}
    if as_json:
        click.echo(json.dumps({"study": plan.study.name, "cell": tasks[0].cells[0], "stages": found}, default=str))
        return
    import yaml

    for task in tasks:
        click.echo(f"# {task.name}")
        click.echo(yaml.safe_dump({task.stage: found[task.stage]}, sort_keys=False, allow_unicode=True, width=10**6))


def described(plan: Plan, task: Task) -> Content:
    """What a task runs with, in plain values."""
    from ablative.study.core.identity import shown

    found: Content = {"task": task.task_id, "config": _plain(shown(task.config))}
    if not plan.trainer.executes:
        return found
    started = plan.trainer.started(task.job(plan.home, plan.trainer.name, task.name), task.config)
    if started is not None:
        found["command"] = shlex.join(started.command)
        found["cwd"] = str(started.cwd)
        found["environment"] = dict(started.variables)
    return found


def _plain(value: object) -> object:
    """Values as YAML knows them."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
