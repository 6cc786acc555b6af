"""Finished runs under former ids, taken over: a copy under the planned id, without training again."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from ablative.study.core.errors import StoreError
from ablative.study.core.files import write_atomic, write_json
from ablative.study.core.identity import flatten
from ablative.study.core.typed import dump
from ablative.study.home.journal import Entry, read
from ablative.study.home.paths import RunPaths, TaskPaths
from ablative.study.home.records import read_record
from ablative.study.plan.former_runs import FormerRun
from ablative.study.plan.plan import Plan
from ablative.study.plan.task import Task


def take_over(plan: Plan, runs: tuple[FormerRun, ...]) -> int:
    """Copy runs, with their finished tasks, to the ids that the plan gives them. Returns the number of tasks.

    Large files are linked, not copied, where the file system allows it. The former runs stay as they are. A run appears
    in one step, so a kill leaves either nothing of it or the whole.

    Raises:
        StoreError: the home cannot be written, or a worker has begun a run meanwhile.
    """
    try:
        for each in runs:
            _take(plan, each)
    except OSError as error:
        place = error.filename or plan.home.runs
        raise StoreError(f"{place}: {error.strerror}; nothing of the run was taken over") from error
    return sum(len(each.tasks) for each in runs)


def _take(plan: Plan, each: FormerRun) -> None:
    target = plan.home.run(each.run.task_id)
    building = RunPaths(plan.home.taken_over(each.run.task_id))
    shutil.rmtree(building.root, ignore_errors=True)
    former = plan.home.run(each.former_id)
    names = {item.name for item in former.root.iterdir()} - {former.evaluations.name}
    _link(former.root, building.root, names)
    _relabel(building, each.run, each.former_id)
    for task, former_id in each.tasks[1:]:
        source, copy = former.evaluation(former_id), building.evaluation(task.task_id)
        _link(source.root, copy.root, {item.name for item in source.root.iterdir()})
        _relabel(copy, task, former_id)
    _clear(target.root)
    # Refused by the system where anything is left: a worker may have begun the run meanwhile.
    os.rename(building.root, target.root)


def _clear(folder: Path) -> None:
    """Remove what a submission has written of a run that no worker has begun: configurations and their folders."""
    for path in folder.rglob(TaskPaths(folder).config.name):
        path.unlink()
    for path in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
        if not any(path.iterdir()):
            path.rmdir()


def _link(source: Path, target: Path, names: set[str]) -> None:
    """Link the files of a folder, those below it included, but none that says where it was uploaded or who has it."""
    left = {"shipped", TaskPaths(source).lease.name}
    target.mkdir(parents=True, exist_ok=True)
    for name in sorted(names - left):
        if (source / name).is_dir():
            _link(source / name, target / name, {item.name for item in (source / name).iterdir()})
        else:
            try:
                os.link(source / name, target / name)
            except OSError:
                shutil.copy2(source / name, target / name)


def _relabel(paths: TaskPaths, task: Task, former_id: str) -> None:
    """Give a copy its planned id and configuration; every file written anew takes the place of a link."""
    write_atomic(paths.config, dump(task.config))
    record = dict(read_record(paths) or {})
    write_json(paths.record, {**record, "task_id": task.task_id, "taken_over": former_id})
    params = {key: str(value) for key, value in flatten(task.config).items()}
    entries: list[Entry] = []
    for entry in read(paths.journal)[0]:
        if entry["kind"] == "params":
            entry = {**entry, "values": {key: params.get(key, value) for key, value in entry["values"].items()}}
        entries.append(entry)
    entries.append({"t": entries[-1]["t"], "kind": "event", "name": "taken over", "former_id": former_id})
    write_atomic(paths.journal, "".join(json.dumps(entry) + "\n" for entry in entries))
