"""Every damaged file of a home, found by the checks that its readers make."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ablative.study.core.damage import DamagedError, Shape
from ablative.study.core.errors import ConfigError
from ablative.study.core.files import load_json
from ablative.study.core.typed import read_config
from ablative.study.home import journal
from ablative.study.home.paths import Home, TaskPaths
from ablative.study.home.records import FAILURE, RECORD
from ablative.study.plan.task import REF
from ablative.study.plan.tuned_levels import RESULT
from ablative.sweeps.queue import manifest
from ablative.sweeps.upkeep.folders import names, task_folders

PLAN = {"tasks": [{"task_id": str, "run_id": str, "needs?": [str]}]}
"""What is read of a study's last plan."""


def damaged_files(home: Home) -> Iterator[str]:
    """`PATH (reason)` of each damaged file that has to do with runs and studies; caches mend themselves."""
    for task in task_folders(home):
        yield from _of_task(task)
    for study in names(home.studies):
        yield from _of_study(home, study)


def _of_task(task: TaskPaths) -> Iterator[str]:
    yield from _json(task.record, RECORD)
    for failure in sorted(task.root.glob("failure*.json")):
        yield from _json(failure, FAILURE)
    if reason := journal.damaged(task.journal):
        yield f"{task.journal} ({reason})"
    if task.config.exists():
        try:
            read_config(task.config)
        except ConfigError as error:
            yield str(error)


def _of_study(home: Home, study: str) -> Iterator[str]:
    paths = home.study(study)
    yield from _json(paths.plan, PLAN)
    for stamp in names(paths.submissions):
        yield from _json(paths.submission(stamp).manifest, manifest.SHAPE)
    for pattern, shape in (("*/result.json", RESULT), ("*/trials/**/tasks.json", [REF])):
        for path in sorted(paths.search.root.glob(pattern)):
            yield from _json(path, shape)


def _json(path: Path, shape: Shape) -> Iterator[str]:
    try:
        load_json(path, shape)
    except FileNotFoundError:
        return
    except DamagedError as error:
        yield f"{path} ({error.reason})"
