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


def interquartile_mean(values: Floats) -> Floats:
    """Mean of the middle half of all values, those at its ends counted in part (Agarwal et al. 2021).

    As the two functions below, it is of (…, tasks, seeds): one number for each resample.

    >>> interquartile_mean(np.array([[0.0, 1.0, 3.0, 100.0]]))
    array(2.)
    """
    ordered = np.sort(_flat(values), axis=-1)
    n = ordered.shape[-1]
    place = np.arange(n)
    weights = np.clip(np.minimum(place + 1 - n / 4, 3 * n / 4 - place), 0.0, 1.0)
    return np.asarray(np.sum(weights * ordered, axis=-1) / np.sum(weights))


def suite_mean(values: Floats) -> Floats:
    """Mean over tasks and seeds."""
    return np.asarray(np.mean(_flat(values), axis=-1))


def improvement(a: Floats, b: Floats) -> Floats:
    """P(A > B) on a task of the suite: mean over tasks of the share of pairs of seeds."""
    gaps = a[..., :, None] - b[..., None, :]
    return np.asarray(np.mean((gaps > 0) + 0.5 * (gaps == 0), axis=(-3, -2, -1)))


def _flat(values: Floats) -> Floats:
    """(…, tasks, seeds) → (…, tasks × seeds), seed after seed."""
    return np.swapaxes(values, -1, -2).reshape(*values.shape[:-2], -1)


def aggregate(
    values: Floats, what: Callable[[Floats], Floats], rng: np.random.Generator, over: str = "seeds", draws: int = 2000
) -> Aggregate:
    """An aggregate of (tasks, seeds), nothing missing. A seed is drawn with all its tasks: they share its run.

    A percentile bootstrap of few seeds is too narrow (two: 80 % instead of 95 %); it is for suites and figures, and
    decides nothing.
    """
    return _bootstrap((values,), what, rng, over, draws)


def improves(a: Floats, b: Floats, rng: np.random.Generator, over: str = "seeds", draws: int = 2000) -> Aggregate:
    """`improvement` with its interval; seeds of a and b are drawn apart, tasks together."""
    return _bootstrap((a, b), improvement, rng, over, draws)


def _bootstrap(
    arrays: tuple[Floats, ...], what: Callable[..., Floats], rng: np.random.Generator, over: str, draws: int
) -> Aggregate:
    if over not in OVER:
        raise ValueError(f"over '{over}'; choose one of {', '.join(OVER)}")
    tasks, value = len(arrays[0]), float(what(*arrays))
    repeated = any(array.shape[1] > 1 for array in arrays) or (over == OVER[1] and tasks > 1)
    if not repeated:
        return Aggregate(value, None, None, over)
    # One resample a row: its tasks, where they are drawn, then the seeds of each array.
    sizes = [tasks if over == OVER[1] else 0, *(array.shape[1] for array in arrays)]
    picks = rng.integers(np.repeat(sizes, sizes), size=(draws, sum(sizes)))
    rows, *seeds = np.split(picks, np.cumsum(sizes)[:-1], axis=1)
    rows = rows if rows.size else np.arange(tasks)[None]
    drawn = (array[rows[:, :, None], own[:, None, :]] for array, own in zip(arrays, seeds, strict=True))
    low, high = np.quantile(what(*drawn), [0.025, 0.975])
    return Aggregate(value, float(low), float(high), over)
