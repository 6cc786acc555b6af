"""How a task, or an attempt at it, ended: `record.json` and `failure.json`, read by all through these functions.

A damaged file is named, and taken as absent: its task is run again, and nothing else notices.
"""

from __future__ import annotations

from pathlib import Path

from ablative.study.core.files import Content, is_damaged, read_json
from ablative.study.home.paths import TaskPaths

FINISHED = ("completed", "diverged")
"""States with a result: divergence is one."""

_NUMBER = (float, None)
_TEXT = (str, None)
RECORD = {
    "state": frozenset(FINISHED),
    "seconds?": _NUMBER,
    "metrics?": ({str: _NUMBER}, None),
    "diverged?": (dict, None),
    "environment?": (
        {"processes?": _NUMBER, "device?": _TEXT, "packages?": (dict, None), "scheduler?": (dict, None)},
        None,
    ),
    "cost?": ({str: _NUMBER}, None),
    "spent?": ({"wasted?": float, "gpus?": int, "cores?": int}, None),
    "alike?": ({"like": str, "loose": str, "work": float}, None),
}
"""What readers rely on; trainers and versions add to it."""
FAILURE = {
    "cause": str,
    "type?": _TEXT,
    "message?": _TEXT,
    "fingerprint?": _TEXT,
    "traceback?": _TEXT,
    "claim?": _TEXT,
    "snapshot?": _TEXT,
}


def read_record(paths: TaskPaths) -> Content | None:
    """Content of the task's record; None: it is not finished."""
    record: Content | None = read_json(paths.record, RECORD)
    return record


def read_failure(path: Path) -> Content | None:
    """Content of `failure.json`, or of an earlier attempt's; None: that attempt did not fail."""
    failure: Content | None = read_json(path, FAILURE)
    return failure


def damaged(paths: TaskPaths) -> list[Path]:
    """Which of the two files of the task's last attempt are there and are taken as absent."""
    shapes = ((paths.record, RECORD), (paths.failure, FAILURE))
    return [path for path, shape in shapes if is_damaged(path, shape)]
