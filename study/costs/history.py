"""Which tasks take about the same time for the same amount of work, and what the finished ones of a home took.

The trainer says what tasks have in common that are exactly similar, and what if they are so approximately, and how much
work each is (`study.trainers.Trainer.alike` and `work`). A record keeps a hash for each similarity, so that finished
tasks of other studies are compared without reading their configurations, which is slow.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ablative.study.core.identity import canonical, digest
from ablative.study.costs.devices import label
from ablative.study.costs.usage import TaskUsage
from ablative.study.home.paths import Home, TaskPaths
from ablative.study.home.records import read_record
from ablative.study.home.tried import Tried
from ablative.study.trainers import Config, Trainer

NEWEST_RUNS = 50
"""So many runs of other studies are looked at: a median needs no more."""
RECORD_KEYS = ("like", "loose")
"""Keys of the exact and the approximate similarity hash in a task's record."""


def similarity_keys(trainer: Trainer, stage: str, config: Config, needs: Mapping[str, Config]) -> tuple[str, str]:
    """Hashes that alike tasks share, exact and approximate.

    Args:
        trainer: of the task.
        stage: of the task.
        config: of the task.
        needs: stage → configuration of a task that it needs.
    """
    exact, approximate = trainer.alike(stage, config, needs)
    return _hash(exact), _hash(approximate)


def facts(trainer: Trainer, stage: str, config: Config, needs: Mapping[str, Config]) -> dict[str, Any]:
    """Similarity hashes and work, as a task's record keeps them."""
    keys = similarity_keys(trainer, stage, config, needs)
    return {**dict(zip(RECORD_KEYS, keys, strict=True)), "work": trainer.work(stage, config)}


def _hash(value: object) -> str:
    return value if isinstance(value, str) else digest(canonical(value))


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

    def add_tried(self, tried: Tried) -> None:
        """Add what `ablate try` has measured of a stage, where it is known how long the whole task takes."""
        if tried.process_seconds is not None and tried.work > 0:
            self.add((tried.like, tried.loose), tried.work, RunTime(tried.process_seconds, tried.gpu))

    def rate(self, key: str, gpu: str) -> float | None:
        """Their median: one run on a machine that was busy otherwise does not spoil it. None: there are none."""
        from statistics import median  # imports fractions and decimals

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
            if alike and alike["work"] > 0 and record["state"] == "completed":
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
        yield from filter(None, map(read_record, tasks))
