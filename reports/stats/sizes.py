"""Sizes of effects, free of units."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ablative.reports.stats.student import Floats


def hedges_correction(df: float) -> float:
    """Hedges' small-sample correction of a standardised difference (exact form, 1981); 1 for one degree of freedom."""
    return math.exp(math.lgamma(df / 2) - math.lgamma((df - 1) / 2)) / math.sqrt(df / 2) if df > 1 else 1.0


def hedges_g(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Hedges' g of two independent samples; None for fewer than two values in either, or without spread.

    >>> round(hedges_g([2, 4, 6], [1, 3, 5]), 3)
    0.399
    """
    if min(len(a), len(b)) < 2:
        return None
    df = len(a) + len(b) - 2
    pooled = ((len(a) - 1) * np.var(a, ddof=1) + (len(b) - 1) * np.var(b, ddof=1)) / df
    gap = float(np.mean(a) - np.mean(b))
    return gap / math.sqrt(pooled) * hedges_correction(df) if pooled > 0 else None


def superiority(a: Sequence[float] | Floats, b: Sequence[float] | Floats) -> float:
    """P(A > B): share of pairs in which a's value is the larger; ties count half (Vargha and Delaney 2000).

    >>> superiority([1.0, 3.0], [0.0, 1.0])
    0.875
    """
    gaps = np.subtract.outer(np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64))
    return float(np.mean((gaps > 0) + 0.5 * (gaps == 0)))
