"""What the metrics of a study are, as its trainer declares them: stage, unit, and which values are better."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ablative.study.trainers import Metric

if TYPE_CHECKING:
    from ablative.study.plan.plan import Plan


@dataclass(frozen=True)
class Measures:
    """Declarations of the metrics that a plan's tasks may report."""

    declared: Mapping[str, Metric]
    stages: Sequence[str]
    """Stages of the plan's tasks."""
    opening: str
    """Stage that opens runs: it is taken for the one of a metric that is not declared, and named after no stage."""

    @classmethod
    def planned(cls, plan: Plan) -> Measures:
        return cls(plan.declared, plan.stages, next((run.stage for run in plan.runs), ""))

    def metric(self, name: str) -> Metric:
        """The declaration; of what is logged without one, no more than the stage."""
        first = name.partition("/")[0]
        return self.declared.get(name) or Metric(name, first if first in self.stages else self.opening, ranked=False)

    def stages_of(self, names: Iterable[str]) -> tuple[str, ...]:
        """The stages that yield these metrics, in alphabetical order."""
        return tuple(sorted({self.metric(name).stage for name in names}))

    def unit(self, names: Iterable[str]) -> str:
        """The unit that they share; empty: none."""
        return shared(self.metric(name).unit for name in names)

    def difference_unit(self, names: Iterable[str]) -> str:
        """The unit of their differences; empty: they share none."""
        return shared(self.metric(name).difference_unit for name in names)

    def better(self, names: Iterable[str]) -> str:
        """`higher` or `lower`, where all of them are ranked so; else empty."""
        metrics = map(self.metric, names)
        return shared(metric.better if metric.ranked else "" for metric in metrics)

    def exact(self, names: Iterable[str]) -> bool | None:
        """Whether no seed changes them, as declared; None where their values have to show it."""
        found = {_exact(self.metric(name)) for name in names}
        return found.pop() if len(found) == 1 else False if False in found else None


def _exact(metric: Metric) -> bool | None:
    """Shares of samples tie by chance: what has an upper bound is exact only where that is declared."""
    if metric.exact is None and (metric.high is not None or metric.unit == "%"):
        return False
    return metric.exact


def shared(values: Iterable[str]) -> str:
    """The text that all are; empty where they differ, or there are none."""
    found = set(values)
    return found.pop() if len(found) == 1 else ""
