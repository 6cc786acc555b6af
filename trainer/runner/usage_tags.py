"""What an attempt holds and what its task has cost so far, as tags of its MLflow run and in its record."""

from __future__ import annotations

from typing import Any

import torch

from ablative.study.costs.usage import TaskUsage
from ablative.study.home import tracking_tags
from ablative.study.home.journal import Journal
from ablative.study.home.paths import TaskPaths
from ablative.trainer.runner.environment import device_name


def begin(journal: Journal, device: torch.device, threads: int, processes: int = 1) -> None:
    """Tag the run with the device, GPUs and cores that this attempt holds; `threads` 0 means torch's own number."""
    gpus = processes if device.type == "cuda" else 0
    cores = processes * (threads or torch.get_num_threads())
    journal.tags({tracking_tags.DEVICE: device_name(device), tracking_tags.GPUS: gpus, tracking_tags.CORES: cores})


def settle(paths: TaskPaths, journal: Journal) -> dict[str, Any]:
    """Tag the run with the usage of the task so far, after the closing event of an attempt; return it for the record.

    For a failed attempt, the time since its last checkpoint counts as wasted. If the task is never finished all of its
    time is wasted, but that is known to a later attempt only.
    """
    spent = TaskUsage.unfinished(paths)
    assert spent is not None, paths.journal
    journal.tags(spent.tags())
    return {"wasted": round(spent.wasted, 3), "gpus": spent.gpus, "cores": spent.cores}
