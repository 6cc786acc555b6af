"""Student's t for arrays: quantiles, p-values, Welch and Satterthwaite's degrees of freedom.

`scipy.special` alone: `scipy.stats` takes a second longer to import.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@functools.lru_cache(maxsize=4096)
def t_quantile(df: float, probability: float) -> float:
    """Quantile of Student's t; `df` may be fractional."""
    from ablative.reports.stats.special import stdtrit

    return float(stdtrit(df, probability))


def two_sided(estimate: Any, se: Any, df: Any) -> Any:
    """p of no difference, elementwise; NaN where the standard error is."""
    from ablative.reports.stats.special import stdtr

    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(np.equal(estimate, 0), 0.0, np.abs(estimate) / np.asarray(se, dtype=np.float64))
    return 2 * stdtr(df, -t) + 0 * np.asarray(se)


def satterthwaite(parts: Sequence[float] | Floats, dfs: Sequence[float] | Floats) -> float:
    """Degrees of freedom of a sum of independent variance estimates (Satterthwaite 1946)."""
    parts, dfs = np.asarray(parts, dtype=np.float64), np.asarray(dfs, dtype=np.float64)
    below = float(np.sum(parts**2 / dfs))
    return float(np.sum(parts)) ** 2 / below if below > 0 else float(np.sum(dfs))
