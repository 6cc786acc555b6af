"""Contrasts of the rows of one column, with an error pooled over all rows where their spreads allow it.

Two seeds know next to nothing of their spread (t = 12.7); nine rows of two seeds know it well (t = 2.3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ablative.reports.stats.student import Floats, bartlett, satterthwaite, two_sided

EQUAL_SPREAD = 0.05
"""Bartlett's p below which the spreads of a column's rows are taken for different, and nothing is pooled."""

ROUNDING = 1e-12
"""Relative size below which a difference is what rounding left of none."""


@dataclass(frozen=True)
class Contrasts:
    """Weighted sums of rows. Arrays (contrasts,); NaN where nothing can be said."""

    estimate: Floats
    se: Floats
    df: Floats
    sd: Floats
    """Standard deviation of one seed's contrast."""
    p: Floats
    """Two-sided, of a contrast of 0."""
    method: str


@dataclass(frozen=True)
class Spread:
    """Standard deviations over seeds that the cells of a column share, or separate ones of each cell."""

    sd: Floats
    """(rows,); NaN where a row has one seed and shares no spread."""
    df: Floats
    pooled: bool
    p_equal: float
    """Bartlett's p of equal spreads."""


def spread(values: Floats) -> Spread:
    """Spread of each row of (rows, seeds), NaN where missing, pooled over rows unless Bartlett's test objects."""
    counts, _, variances = moments(values)
    many, some = counts > 1, counts > 0
    dfs = counts[many] - 1
    p_equal = bartlett(variances[many], dfs)
    if many.any() and p_equal >= EQUAL_SPREAD:
        variance = float(np.sum(dfs * variances[many]) / np.sum(dfs))
        shared = np.where(some, variance, np.nan), np.where(some, float(np.sum(dfs)), np.nan)
        return Spread(np.sqrt(shared[0]), shared[1], bool(many.sum() > 1), p_equal)
    return Spread(np.sqrt(variances), np.where(many, counts - 1, np.nan), False, p_equal)


def against(rows: int, reference: int) -> Floats:
    """Weights (rows, rows) of every row less one of them, for `contrasts`."""
    weights = np.eye(rows)
    weights[:, reference] -= 1
    return weights


def contrasts(values: Floats, weights: Floats, paired: bool) -> Contrasts:
    """`weights` (contrasts, rows) times the means of `values` (rows, seeds), NaN where missing.

    Paired by seed where that is asked for, the weights cancel, and all rows that have any seed have the same two or
    more of them; else rows are independent samples. The error is pooled over all rows, also those of weight 0, unless
    their spreads differ; two independent rows are Welch's.
    """
    counts, means, variances = moments(values)
    some = counts > 0
    used = weights != 0
    estimate = weights @ np.where(some, means, 0.0)
    size = np.abs(weights) @ np.where(some, np.abs(means), 0.0)
    estimate = np.where(np.abs(estimate) <= ROUNDING * size, 0.0, estimate)
    present = np.isfinite(values[some])
    complete = bool(len(present)) and bool(np.all(present == present[0])) and int(present[0].sum()) > 1
    if paired and complete and bool(np.all(np.abs(weights.sum(axis=1)) < ROUNDING)):
        se, df, sd, method = _paired(values[some][:, present[0]], weights[:, some])
    else:
        se, df, sd, method = _independent(counts, variances, weights)
    unknown = (used & ~some).any(axis=1) | ~used.any(axis=1)
    estimate, se, df, sd = (np.where(unknown, np.nan, array) for array in (estimate, se, df, sd))
    return Contrasts(estimate, se, df, sd, two_sided(estimate, se, df), method)


def moments(values: Floats) -> tuple[Floats, Floats, Floats]:
    """Counts, means and sample variances (n - 1) of the finite values of each row; NaN where there are too few."""
    finite = np.isfinite(values)
    counts = finite.sum(axis=1).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.where(finite, values, 0.0).sum(axis=1) / counts
        squares = np.where(finite, (values - means[:, None]) ** 2, 0.0).sum(axis=1)
        return counts, np.where(counts > 0, means, np.nan), np.where(counts > 1, squares / (counts - 1), np.nan)


def _paired(found: Floats, weights: Floats) -> tuple[Floats, Floats, Floats, str]:
    """Two-way layout of rows and seeds, nothing missing; (se, df, sd, method)."""
    rows, n = found.shape
    residuals = found - found.mean(axis=1, keepdims=True) - found.mean(axis=0) + found.mean()
    squares = np.sum(residuals**2, axis=1)
    squares[squares <= n * (ROUNDING * np.max(np.abs(found))) ** 2] = 0.0
    # Spreads of the rows as they are: residuals of a two-way layout carry every row's noise into all others. Two rows
    # have one spread, that of their difference.
    if rows == 2 or bartlett(np.var(found, axis=1, ddof=1), np.full(rows, n - 1.0)) >= EQUAL_SPREAD:
        freedom = (rows - 1) * (n - 1)
        sd = np.sqrt(np.sum(squares) / freedom * np.sum(weights**2, axis=1))
        method = f"seed-paired t, error pooled over {rows} rows" if rows > 2 else "seed-paired t"
        return sd / np.sqrt(n), np.full(len(weights), float(freedom)), sd, method
    sd = np.std(weights @ found, axis=1, ddof=1)
    return sd / np.sqrt(n), np.full(len(weights), n - 1.0), sd, "seed-paired t, own error (the rows' spreads differ)"


def _independent(counts: Floats, variances: Floats, weights: Floats) -> tuple[Floats, Floats, Floats, str]:
    """One-way layout; (se, df, sd, method)."""
    many: NDArray[np.bool_] = counts > 1
    dfs = counts[many] - 1
    squares = weights**2
    alone = int((counts > 0).sum()) <= 2
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.where(weights != 0, squares / counts, 0.0)
    if many.any() and not alone and bartlett(variances[many], dfs) >= EQUAL_SPREAD:
        freedom = float(np.sum(dfs))
        variance = float(np.sum(dfs * variances[many])) / freedom
        sd = np.sqrt(variance * squares.sum(axis=1))
        method = f"t, error pooled over {int(many.sum())} rows"
        return np.sqrt(variance * shares.sum(axis=1)), np.full(len(weights), freedom), sd, method
    parts = np.where(weights != 0, shares * variances, 0.0)  # NaN for a row of one seed
    df = np.array([satterthwaite(part[w != 0], counts[w != 0] - 1) for part, w in zip(parts, weights, strict=True)])
    sd = np.sqrt(np.where(weights != 0, squares * variances, 0.0).sum(axis=1))
    method = "Welch's t" if alone else "Welch's t, own error (the rows' spreads differ)"
    return np.sqrt(parts.sum(axis=1)), df, sd, method
