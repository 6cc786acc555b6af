"""Which tasks take about the same time for the same amount of work, and what the finished ones of a home took.

A run's work is its floating-point operations, an evaluation's is one. Two runs are exactly similar if they have the
same model and objective, two evaluations if they have the same protocol, data sets and model; they are approximately
similar if only the model (and objective) differs. A record keeps a hash for each, so that finished tasks of other
studies are compared without reading their configurations, which is slow.
"""

from __future__ import annotations

import functools
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from ablative.study.clip.config import DatasetConfig, EvaluationConfig, ModelConfig, ProtocolConfig, RunConfig
from ablative.study.core import registry
from ablative.study.core.files import read_json
from ablative.study.core.identity import canonical, digest, identity
from ablative.study.costs.devices import label
from ablative.study.costs.usage import TaskUsage
from ablative.study.home.paths import Home, TaskPaths

NEWEST_RUNS = 50
"""So many runs of other studies are looked at: a median needs no more."""
RECORD_KEYS = ("like", "loose")
"""Keys of the exact and the approximate similarity hash in a task's record."""


def work(config: RunConfig | EvaluationConfig) -> float:
    """FLOPs of a pretraining; 1 for an evaluation, and for a run that is not trained."""
    return registry.run_flops(config) or 1.0 if isinstance(config, RunConfig) else 1.0


def similarity_keys(config: RunConfig | EvaluationConfig, model: ModelConfig) -> tuple[str, str]:
    """Hashes that alike tasks share, exact and approximate; `model` is the one that is trained or evaluated."""
    if isinstance(config, RunConfig):
        return _of_run(model, config.objective.name, config.schedule.precision, config.schedule.steps > 0)
    return _of_evaluation(config.protocol, config.datasets, model)


def facts(config: RunConfig | EvaluationConfig, model: ModelConfig) -> dict[str, Any]:
    """Similarity hashes and work, as a task's record keeps them."""
    return {**dict(zip(RECORD_KEYS, similarity_keys(config, model), strict=True)), "work": work(config)}


@functools.lru_cache(maxsize=4096)
def _of_run(model: ModelConfig, objective: str, precision: str, trained: bool) -> tuple[str, str]:
    loose = ["pretrain", precision, trained]
    return digest(canonical([*loose, identity(model), objective])), digest(canonical(loose))


@functools.lru_cache(maxsize=4096)
def _of_evaluation(
    protocol: ProtocolConfig, datasets: tuple[DatasetConfig, ...], model: ModelConfig
) -> tuple[str, str]:
    loose = ["evaluate", identity(protocol), identity(datasets)]
    return digest(canonical([*loose, identity(model)])), digest(canonical(loose))


@dataclass(frozen=True)
class RunTime:
    """What a record says of the time that its task took."""

    seconds: float
    """Seconds by the clock without wasted ones, times the processes that shared the work."""
    gpu: str
    """Label of its GPU; empty: it ran on CPUs."""

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> RunTime:
        spent = TaskUsage.of(record)
        processes = (record.get("environment") or {}).get("processes") or 1
        wasted = 0.0 if record["state"] == "diverged" else spent.wasted
        return cls(max(0.0, spent.seconds - wasted) * processes, label(spent.device) if spent.gpus else "")


@dataclass
class WorkRates:
    """Process-seconds for a unit of work, of finished tasks, by similarity hash and GPU."""

    rates: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, keys: Iterable[str], amount: float, took: RunTime) -> None:
        """Add a finished task with these similarity hashes and this amount of work."""
        for key in keys:
            self.rates[key, took.gpu].append(took.seconds / amount)

    def rate(self, key: str, gpu: str) -> float | None:
        """Their median: one run on a machine that was busy otherwise does not spoil it. None: there are none."""
        found = self.rates.get((key, gpu))
        return median(found) if found else None

    @property
    def gpus(self) -> tuple[str, ...]:
        """Labels of the GPUs that tasks ran on, the most used first."""
        counts: dict[str, int] = defaultdict(int)
        for (_, gpu), rates in self.rates.items():
            counts[gpu] += len(rates)
        return tuple(sorted((gpu for gpu in counts if gpu), key=lambda gpu: (-counts[gpu], gpu)))

    def add_others(self, home: Home, own: Iterable[str]) -> None:
        """Add finished tasks of the home's newest runs, except those of the runs `own` (ids)."""
        for record in _others(home, frozenset(own)):
            alike = record.get("alike")
            if alike and record["state"] == "completed":
                self.add([alike[level] for level in RECORD_KEYS], alike["work"], RunTime.of(record))


def _others(home: Home, own: frozenset[str]) -> Iterator[dict[str, Any]]:
    try:
        with os.scandir(home.runs) as folder:
            entries = [(entry.stat().st_mtime, entry.name) for entry in folder if entry.name not in own]
    except FileNotFoundError:
        return
    for _, name in sorted(entries, reverse=True)[:NEWEST_RUNS]:
        run = home.run(name)
        names = os.listdir(run.evaluations) if run.evaluations.is_dir() else []
        tasks: list[TaskPaths] = [run, *(run.evaluation(evaluation) for evaluation in names)]
        yield from filter(None, (read_json(task.record) for task in tasks))
