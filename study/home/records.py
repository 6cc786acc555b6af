"""How a task, or an attempt at it, ended: `record.json` and `failure.json`, read by all through these functions.

A damaged file is named, and taken as absent: its task is run again, and nothing else notices.
"""

from __future__ import annotations

import functools
from pathlib import Path

from ablative.study.core.files import Content, is_damaged, read_json
from ablative.study.core.typed import Settings
from ablative.study.home.paths import Home, TaskPaths

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
        {"processes?": _NUMBER, "device?": _TEXT, "packages?": (dict, None), "scheduler?": (dict, None)}
        | {"installed?": _TEXT},
        None,
    ),
    "cost?": ({str: _NUMBER}, None),
    "spent?": ({"wasted?": float, "gpus?": int, "cores?": int}, None),
    "alike?": ({"like": str, "loose": str, "work": float}, None),
}
"""What readers rely on; trainers and versions add to it."""
ENVIRONMENT = {"python": str, "packages": {str: str}}
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


def environment_of(record: Content, home: Home) -> Content:
    """Where a task ran: device, host, versions; those of a user's program are of the interpreter that ran it."""
    own: Content = record.get("environment") or {}
    found = _installed(home.environment(own["installed"])) if own.get("installed") else None
    if found is None:
        return own
    ours = {name: version for name, version in (own.get("packages") or {}).items() if name == "ablate"}
    return {**own, "python": found["python"], "packages": {**ours, **found["packages"]}}


@functools.cache
def _installed(path: Path) -> Content | None:
    found: Content | None = read_json(path, ENVIRONMENT)
    return found


def changed_versions(one: Settings, other: Settings) -> dict[str, tuple[str | None, str | None]]:
    """Name → versions in two environments, of what differs; None: it is not in that one."""
    a, b = (
        {"python": environment.get("python"), **(environment.get("packages") or {})} for environment in (one, other)
    )
    return {name: (a.get(name), b.get(name)) for name in {**a, **b} if a.get(name) != b.get(name)}


def read_failure(path: Path) -> Content | None:
    """Content of `failure.json`, or of an earlier attempt's; None: that attempt did not fail."""
    failure: Content | None = read_json(path, FAILURE)
    return failure


def damaged(paths: TaskPaths) -> list[Path]:
    """Which of the two files of the task's last attempt are there and are taken as absent."""
    shapes = ((paths.record, RECORD), (paths.failure, FAILURE))
    return [path for path, shape in shapes if is_damaged(path, shape)]
