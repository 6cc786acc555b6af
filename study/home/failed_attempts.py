"""Attempts at a task that failed, from the files that they left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ablative.study.home.paths import TaskPaths
from ablative.study.home.records import read_failure

OUT_OF_MEMORY = "out of memory"


def failures(paths: TaskPaths) -> list[dict[str, Any]]:
    """Contents of `failure.1.json`, `failure.2.json`, … and `failure.json`: the oldest first."""
    places: list[Path] = []
    while (past := paths.past_failure(len(places) + 1)).exists():
        places.append(past)
    return [found for place in [*places, paths.failure] if (found := read_failure(place)) is not None]


def times_out_of_memory(paths: TaskPaths) -> int:
    """How many attempts at a task ran out of memory: the next one is to take less of it."""
    return sum(failure["cause"] == OUT_OF_MEMORY for failure in failures(paths))
