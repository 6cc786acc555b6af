"""Studies of small programs as people have them, and attempts at their tasks in this process or in one to kill."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ablative.study.core.files import write_atomic
from ablative.study.core.registry import load
from ablative.study.core.typed import dump
from ablative.study.home.journal import metric_rows, read
from ablative.study.home.paths import Home, TaskPaths
from ablative.study.plan.plan import Plan, make_plan
from ablative.study.plan.task import Task
from ablative.study.trainers import JobTask

EXAMPLES = Path(__file__).parents[2] / "examples"


def folder_with(place: Path, **files: str) -> Path:
    """A user's folder; `study` is the study file, `conf_config` is `conf/config.yaml`, others are programs."""
    place.mkdir(exist_ok=True)
    for name, text in files.items():
        write(place / ("study.yaml" if name == "study" else f"{name}.py"), text)
    return place


def write(path: Path, text: str) -> None:
    """As if some time ago: a probe is not trusted to have read what was written as it started."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, ns=(path.stat().st_mtime_ns - 10**9,) * 2)


def example(name: str, place: Path) -> Path:
    """A copy of one of the examples."""
    shutil.copytree(EXAMPLES / name, place)
    return place


def planned(folder: Path, *words: str) -> Plan:
    return make_plan(str(folder / "study.yaml"), words, home=Home(folder.parent / "home"))


def planned_without_data(folder: Path) -> Plan:
    return make_plan(str(folder / "study.yaml"), home=Home(folder.parent / "home"), without_data=True)


def tasks_of(plan: Plan, stage: str) -> list[Task]:
    return [task for task in plan.tasks if task.stage == stage]


def ids(plan: Plan, stage: str) -> list[str]:
    return [task.task_id for task in tasks_of(plan, stage)]


def paths_of(plan: Plan, task: Task) -> TaskPaths:
    return task.paths(plan.home)


def attempt(plan: Plan, task: Task, stop: Callable[[], bool] = lambda: False) -> dict[str, Any]:
    """Run a task's program once; the record that it leaves."""
    paths = paths_of(plan, task)
    paths.root.mkdir(parents=True, exist_ok=True)
    write_atomic(paths.config, dump(task.config), durable=False)
    own = (task.task_id, task.stage, task.seed, paths, plan.home, task.needed(plan.home), plan.trainer.name)
    load(plan.trainer.entry)(JobTask(*own, stop, task.opens))
    found: dict[str, Any] = json.loads(paths.record.read_text())
    return found


def killed_attempt(plan: Plan, task: Task, when: Callable[[], bool]) -> int:
    """An attempt whose worker is killed as soon as something holds; returns the id of the process that it was."""
    pid = os.fork()
    if pid == 0:
        try:
            attempt(plan, task)
        finally:
            os._exit(1)
    wait_for(when)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return pid


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "that did not come to be"
        time.sleep(0.01)


def series(plan: Plan, task: Task, metric: str) -> list[tuple[int, float]]:
    """What the journal has of a metric, in the order of its entries."""
    rows = metric_rows(read(paths_of(plan, task).journal)[0])
    return [(step, value) for name, step, value, _ in rows if name == metric]
