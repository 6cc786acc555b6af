"""Attempts at a task that failed, from the files that they left, and the memory that the next one may use."""

from __future__ import annotations

import math
from typing import Any

from ablative.study.clip.config import RunConfig
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


def halvings(paths: TaskPaths) -> int:
    """How often the micro-batch has to be halved for what earlier attempts ran out of memory with."""
    return sum(failure["cause"] == OUT_OF_MEMORY for failure in failures(paths))


def micro_batch(config: RunConfig, halved: int) -> int:
    """Samples per forward pass after so many halvings, rounded up; at least 1. The batch stays as it is."""
    rows = math.ceil(config.schedule.batch_size / config.runtime.processes)
    return max(1, math.ceil((config.runtime.micro_batch or rows) / 2.0**halved))
