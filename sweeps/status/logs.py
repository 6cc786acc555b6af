"""A task's log, found by the beginning of its id and followed while the task runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from ablative.study.core.errors import ConfigError
from ablative.study.home.paths import TaskPaths, home
from ablative.study.home.task_state import FINISHED, directory_state

POLL_SECONDS = 0.25
SHOWN = 5


def find_task(prefix: str) -> TaskPaths:
    """The task of the home whose id begins like this.

    Raises ConfigError when there is none, or more than one.
    """
    found: dict[str, TaskPaths] = {}
    where = home()
    for run_id in _names(where.runs):
        run = where.run(run_id)
        if run_id.startswith(prefix):
            found[run_id] = run
        found.update((name, run.evaluation(name)) for name in _names(run.evaluations) if name.startswith(prefix))
    if not found:
        raise ConfigError(f"no task of {where.root} has an id that begins with '{prefix}' (`ablate status` lists ids)")
    if len(found) > 1 and prefix not in found:
        raise ConfigError(f"task '{prefix}' is ambiguous: {', '.join(sorted(found)[:SHOWN])}")
    return found.get(prefix) or next(iter(found.values()))


def follow_log(paths: TaskPaths, follow: bool) -> Iterator[str]:
    """What the task printed; with `follow`, also what it goes on to print until it ends."""
    if not paths.log.exists() and not follow:
        raise ConfigError(f"task {paths.root.name} has printed nothing: it was not begun yet")
    position = 0
    while True:
        # Asked before reading, so that nothing printed before the end is missed.
        ended = directory_state(paths).state in (*FINISHED, "failed", "cancelled")
        if paths.log.exists():
            with paths.log.open(errors="replace") as file:
                file.seek(position)
                yield file.read()
                position = file.tell()
        if ended or not follow:
            return
        time.sleep(POLL_SECONDS)


def job_log(paths: TaskPaths) -> str:
    """What the job that last had the task printed outside the task's log."""
    from ablative.sweeps.queue.executors import output

    text = output(home(), paths)
    if not text:
        raise ConfigError(f"no SLURM job of task {paths.root.name} has printed anything")
    return text


def _names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
