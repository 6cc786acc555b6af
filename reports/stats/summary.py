"""Estimates over seeds: pure functions of a handful of numbers.

Sums are exactly rounded (`math.fsum`), so that a mean does not depend on the order in which rows arrived.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
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
    if len(values) < 2:
        return None
    center = mean(values)
    return math.sqrt(math.fsum((value - center) ** 2 for value in values) / (len(values) - 1))


def summarize(values: Sequence[float]) -> Summary | None:
    """Summary of the finite values; None where there are none (a diverged run's NaN is no number)."""
    finite = [value for value in values if math.isfinite(value)]
    return Summary(len(finite), mean(finite), sample_sd(finite)) if finite else None
