"""Rows of one column against one of them, with an error pooled over all rows where their spreads allow it.

Two seeds know next to nothing of their spread (t = 12.7); sixty cells of two seeds know it well (t = 2.0).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reports.stats.student import Floats, bartlett, satterthwaite, two_sided

EQUAL_SPREAD = 0.05
"""Bartlett's p below which the spreads of a column's rows are taken for different, and nothing is pooled."""


@dataclass(frozen=True)
class Contrasts:
    """Row i less the reference row, for every row. Arrays (rows,); NaN where nothing can be said."""

    estimate: Floats
    se: Floats
    df: Floats
    sd: Floats
    """Standard deviation of one seed's difference (paired), or of one row's seeds."""
    p: Floats
    """Two-sided, of no difference."""
    method: str


@dataclass(frozen=True)
class Spread:
    """Standard deviations over seeds that the cells of a column share, or that each has of its own."""

    sd: Floats
    """(rows,); NaN where a row of one seed stands alone."""
    df: Floats
    pooled: bool
    p_equal: float
    """Bartlett's p of equal spreads."""


def spread(values: Floats) -> Spread:
    """Spread of each row of (rows, seeds), NaN where missing, pooled over rows unless Bartlett's test objects."""
    counts, _, variances = moments(values)
    many = counts > 1
    dfs = counts[many] - 1
    p_equal = bartlett(variances[many], dfs)
    if many.any() and p_equal >= EQUAL_SPREAD:
        pooled = float(np.sum(dfs * variances[many]) / np.sum(dfs))
        some = counts > 0
        sd, df = np.where(some, np.sqrt(pooled), np.nan), np.where(some, float(np.sum(dfs)), np.nan)
        return Spread(sd, df, True, p_equal)
    return Spread(np.sqrt(variances), np.where(many, counts - 1, np.nan), False, p_equal)


def contrasts(values: Floats, reference: int, paired: bool) -> Contrasts:
    """Every row of (rows, seeds) less one of them; NaN where missing.

    Paired where that is asked for and all rows that have any seed have the same two or more of them; else as
    independent samples. Estimates are always differences of the rows' means.
    """
    counts, means, variances = moments(values)
    estimate = means - means[reference]
    # What rounding leaves of two equal rows is no difference.
    estimate[np.abs(estimate) <= 1e-12 * np.nanmax(np.abs(means), initial=0.0)] = 0.0
    some = counts > 0
    present = np.isfinite(values[some])
    if paired and counts[reference] > 1 and bool(np.all(present == present[0])):
        se, df, sd, method = _paired(values[:, present[0]], np.asarray(some), reference)
    else:
        se, df, sd, method = _independent(counts, variances, reference)
    se[reference] = df[reference] = sd[reference] = np.nan
    return Contrasts(estimate, se, df, sd, two_sided(estimate, se, df), method)


def moments(values: Floats) -> tuple[Floats, Floats, Floats]:
    """Counts, means and sample variances (n - 1) of the finite values of each row; NaN where there are too few."""
    finite = np.isfinite(values)
    counts = finite.sum(axis=1).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.where(finite, values, 0.0).sum(axis=1) / counts
        squares = np.where(finite, (values - means[:, None]) ** 2, 0.0).sum(axis=1)
        return counts, np.where(counts > 0, means, np.nan), np.where(counts > 1, squares / (counts - 1), np.nan)


def _paired(values: Floats, some: NDArray[np.bool_], reference: int) -> tuple[Floats, Floats, Floats, str]:
    """Two-way layout of rows and seeds; (se, df, sd, method)."""
    n, rows = values.shape[1], int(some.sum())
    found = values[some]
    residuals = found - found.mean(axis=1, keepdims=True) - found.mean(axis=0) + found.mean()
    squares = np.sum(residuals**2, axis=1)
    noise = (1e-12 * np.max(np.abs(found))) ** 2
    squares[squares <= n * noise] = 0.0
    # Of two rows the residuals mirror each other: there is nothing to compare.
    equal = rows == 2 or bartlett(squares / (n - 1), np.full(rows, n - 1.0)) >= EQUAL_SPREAD
    sd, df = np.full(len(values), np.nan), np.full(len(values), np.nan)
    if equal:
        df[some] = (rows - 1) * (n - 1)
        sd[some] = np.sqrt(2 * np.sum(squares) / max((rows - 1) * (n - 1), 1))
        method = f"seed-paired t, error pooled over {rows} rows" if rows > 2 else "seed-paired t"
    else:
        df[some] = n - 1
        sd[some] = np.std(found - values[reference], axis=1, ddof=1)
        method = "seed-paired t, each row its own error (spreads differ)"
    return sd / np.sqrt(n), df, sd, method


def _independent(counts: Floats, variances: Floats, reference: int) -> tuple[Floats, Floats, Floats, str]:
    """One-way layout; (se, df, sd, method)."""
    many = counts > 1
    dfs = counts[many] - 1
    if many.any() and bartlett(variances[many], dfs) >= EQUAL_SPREAD:
        total = float(np.sum(dfs))
        pooled = float(np.sum(dfs * variances[many])) / total
        with np.errstate(divide="ignore"):
            se = np.sqrt(pooled * (1 / counts + 1 / counts[reference]))
        se[counts == 0] = np.nan
        return (
            se,
            np.full(len(counts), total),
            np.full(len(counts), np.sqrt(pooled)),
            (f"t, error pooled over {int(many.sum())} rows"),
        )
    se, df = np.full(len(counts), np.nan), np.full(len(counts), np.nan)
    for i in np.flatnonzero(many & many[reference]):
        parts = [variances[i] / counts[i], variances[reference] / counts[reference]]
        se[i], df[i] = np.sqrt(sum(parts)), satterthwaite(parts, [counts[i] - 1, counts[reference] - 1])
    sd = np.sqrt((variances + variances[reference]) / 2)
    return se, df, sd, "Welch's t" if len(counts) == 2 else "Welch's t, each row its own error (spreads differ)"
