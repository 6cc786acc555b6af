"""Estimates over seeds: pure functions of a handful of numbers.

Sums are exactly rounded (`math.fsum`), so that a mean does not depend on the order in which rows arrived.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

DECIMALS, MOST_DECIMALS = 1, 9
"""Decimals of a column of which nothing is known; the most that are printed."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Mean and spread over seeds."""

    n: int
    mean: float
    sd: float | None
    """Sample standard deviation (n - 1); None for a single seed."""


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean of at least one number."""
    return math.fsum(values) / len(values)


def sample_sd(values: Sequence[float]) -> float | None:
    """Standard deviation with n - 1; None for fewer than two numbers, which say nothing of a spread."""
    return _sd(values, mean(values)) if values else None


def _sd(values: Sequence[float], center: float) -> float | None:
    if len(values) < 2:
        return None
    return math.sqrt(math.fsum([(value - center) ** 2 for value in values]) / (len(values) - 1))


def summarize(values: Sequence[float]) -> Summary | None:
    """Summary of the finite values; None where there are none (a diverged run's NaN is no number)."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return None
    center = mean(finite)
    return Summary(len(finite), center, _sd(finite, center))


def decimals(rows: Sequence[Sequence[float]]) -> int:
    """Decimals that a column needs: for three significant digits of its values, and two of their spread over seeds.

    A spread that is far smaller than the values asks for no more than two decimals further.

    >>> decimals([[0.0355, 0.0401], [0.31]]), decimals([[812.0, 907.0]]), decimals([[5.0, 5.0]]), decimals([])
    (4, 0, 2, 1)
    """
    kept = [found for row in rows if (found := [value for value in row if math.isfinite(value)])]
    size = statistics.median([abs(math.fsum(row) / len(row)) for row in kept]) if kept else 0.0
    if not size:
        return DECIMALS
    spreads = [statistics.stdev(row) for row in kept if len(row) > 1]
    spread = statistics.median(spreads) if spreads else 0.0
    by_size = 2 - math.floor(math.log10(size))
    by_spread = 1 - math.floor(math.log10(spread)) if spread else by_size
    return min(max(by_size, min(by_spread, by_size + 2), 0), MOST_DECIMALS)
