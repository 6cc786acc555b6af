"""Attempts at a task that failed, from the files that they left."""

from __future__ import annotations

from typing import Any

from ablative.study.core.files import read_json
from ablative.study.home.paths import TaskPaths

OUT_OF_MEMORY = "out of memory"


def failures(paths: TaskPaths) -> list[dict[str, Any]]:
    """Contents of `failure.1.json`, `failure.2.json`, … and `failure.json`: the oldest first."""
    found: list[dict[str, Any]] = []
    while (past := read_json(paths.past_failure(len(found) + 1))) is not None:
        found.append(past)
    last = read_json(paths.failure)
    return found if last is None else [*found, last]


def times_out_of_memory(paths: TaskPaths) -> int:
    """How many attempts at a task ran out of memory: the next one is to take less of it."""
    return sum(failure["cause"] == OUT_OF_MEMORY for failure in failures(paths))
