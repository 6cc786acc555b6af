"""Aggregates of one arm over a suite of tasks, with a seeded bootstrap of seeds, or of seeds and tasks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ablative.reports.stats.student import Floats

OVER = ("seeds", "seeds+tasks")


@dataclass(frozen=True)
class Aggregate:
    """An aggregate with its percentile bootstrap interval."""

    value: float
    low: float | None
    """None where nothing is repeated that could be drawn."""
    high: float | None
    over: str
    """What was drawn: `seeds` (these tasks) or `seeds+tasks` (tasks like these)."""


def interquartile_mean(values: Floats) -> float:
    """Mean of the middle half of all values, those at its ends counted in part (Agarwal et al. 2021).

    >>> interquartile_mean(np.array([0.0, 1.0, 3.0, 100.0]))
    2.0
    """
    ordered = np.sort(values, axis=None)
    n = len(ordered)
    place = np.arange(n)
    weights = np.clip(np.minimum(place + 1 - n / 4, 3 * n / 4 - place), 0.0, 1.0)
    return float(np.sum(weights * ordered) / np.sum(weights))


def suite_mean(values: Floats) -> float:
    """Mean over tasks and seeds, (tasks, seeds)."""
    return float(np.mean(values))


def improvement(a: Floats, b: Floats) -> float:
    """P(A > B) on a task of the suite: mean over tasks of the share of pairs of seeds; both (tasks, seeds)."""
    gaps = a[:, :, None] - b[:, None, :]
    return float(np.mean((gaps > 0) + 0.5 * (gaps == 0)))


def aggregate(
    values: Floats, what: Callable[[Floats], float], rng: np.random.Generator, over: str = "seeds", draws: int = 2000
) -> Aggregate:
    """An aggregate of (tasks, seeds), nothing missing. A seed is drawn with all its tasks: they share its run.

    A percentile bootstrap of few seeds is too narrow (two: 80 % instead of 95 %); it is for suites and figures, and
    decides nothing.
    """
    return _bootstrap((values,), lambda drawn: what(drawn[0]), rng, over, draws)


def improves(a: Floats, b: Floats, rng: np.random.Generator, over: str = "seeds", draws: int = 2000) -> Aggregate:
    """`improvement` with its interval; seeds of a and b are drawn apart, tasks together."""
    return _bootstrap((a, b), lambda drawn: improvement(*drawn), rng, over, draws)


def _bootstrap(
    arrays: tuple[Floats, ...],
    what: Callable[[tuple[Floats, ...]], float],
    rng: np.random.Generator,
    over: str,
    draws: int,
) -> Aggregate:
    if over not in OVER:
        raise ValueError(f"over '{over}'; choose one of {', '.join(OVER)}")
    tasks, value = len(arrays[0]), what(arrays)
    repeated = any(array.shape[1] > 1 for array in arrays) or (over == OVER[1] and tasks > 1)
    if not repeated:
        return Aggregate(value, None, None, over)
    found = []
    for _ in range(draws):
        rows = rng.integers(tasks, size=tasks) if over == OVER[1] else np.arange(tasks)
        drawn = tuple(array[rows][:, rng.integers(array.shape[1], size=array.shape[1])] for array in arrays)
        found.append(what(drawn))
    low, high = np.quantile(found, [0.025, 0.975])
    return Aggregate(value, float(low), float(high), over)
