"""What every kind of MLflow store is asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ablative.reports.store.store_tables import Point


@dataclass
class Run:
    """One MLflow run as its store has it."""

    run_id: str
    status: str
    name: str = ""
    started: int | None = None
    ended: int | None = None
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


class RunStore(ABC):
    """A store of runs: names of its experiments, the runs of one, and the points of their metrics."""

    @abstractmethod
    def experiments(self) -> Mapping[str, str]:
        """Name → id of every active experiment."""

    @abstractmethod
    def runs(self, experiment: str) -> Iterable[Run]:
        """The active runs of an experiment (its id)."""

    @abstractmethod
    def points(self, runs: Sequence[str], metrics: Sequence[str]) -> list[Point]:
        """Every logged point of these metrics of these runs."""

    def link(self, experiment: str, run: str) -> str:
        """Address of a page that shows the run; empty: there is none."""
        return ""
