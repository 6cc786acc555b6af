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
    """Say what this attempt holds while it runs; 0 threads are as many as the library takes."""
    gpus = processes if device.type == "cuda" else 0
    cores = processes * (threads or torch.get_num_threads())
    journal.tags({tracking_tags.DEVICE: device_name(device), tracking_tags.GPUS: gpus, tracking_tags.CORES: cores})


def settle(paths: TaskPaths, journal: Journal) -> dict[str, Any]:
    """Say what the task has cost, when an attempt has told its end; returns what the record keeps.

    Of an attempt that failed, the time since its last checkpoint is lost; should the task never be finished, all of
    it is, which the next attempt would have to say.
    """
    spent = TaskUsage.unfinished(paths)
    assert spent is not None, paths.journal
    journal.tags(spent.tags())
    return {"wasted": round(spent.wasted, 3), "gpus": spent.gpus, "cores": spent.cores}
