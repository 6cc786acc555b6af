"""Contrasts of the rows of one column, with variances that are moderated: each row's is drawn towards the column's.

Two seeds know next to nothing of their spread (t = 12.7), and rows do not all scatter alike. A row's variance is
averaged with the column's, each weighted by its degrees of freedom (`PRIOR` for the column's), and is never taken for
smaller than the row itself shows. Rows that do not vary at all, such as those at chance, are no evidence on the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ablative.reports.stats.student import Floats, satterthwaite, two_sided

PRIOR = 2.0
"""Degrees of freedom of the column's variance in a row's: rows are taken to scatter by a factor of about 1.9."""

ROUNDING = 1e-12
"""Relative size below which a difference is what rounding left of none."""

GRID_ROUNDING = 1e-7
"""Relative size of what rounding leaves of a value that lies on a grid; grids finer than its hundredfold are none."""
COARSEST = 100
"""A grid is taken for no coarser than the largest value's hundredth part: few values may share a large divisor."""


@dataclass(frozen=True)
class Moderated:
    """Means of rows and the variances of their seeds. Arrays (rows,)."""

    counts: Floats
    means: Floats
    """NaN where a row has no value."""
    variances: Floats
    df: Floats
    """Degrees of freedom of each variance."""
    total: float
    """Degrees of freedom of all rows together, more than which no contrast has."""
    live: int
    """Number of rows that vary at all."""
    paired: bool
    """Variances are free of what a seed does to all rows alike."""


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
    free: Floats
    """Degrees of freedom before `Moderated.total` limits them."""
    method: str


def moderate(values: Floats, paired: bool = True) -> Moderated | None:
    """Moderated variances of (rows, seeds), NaN where missing; None where nothing is known of any spread.

    Paired by seed where that is asked for and all rows that have any seed have the same ones; else rows are
    independent samples, and what a seed does to all of them counts as spread.
    """
    counts, means, variances = moments(values)
    if not counts.any():
        return None
    freedom = np.maximum(counts - 1, 0.0)
    own = np.where(freedom > 0, variances, 0.0)
    zero = (ROUNDING * float(np.max(np.abs(values[np.isfinite(values)])))) ** 2
    floor = _floor(values)
    live = own > zero
    if not live.any():
        live = (freedom > 0) & (floor > 0)
    if not live.any():
        return None
    present = np.isfinite(values[counts > 0])
    paired = paired and int(live.sum()) > 1 and bool(np.all(present == present[0]))
    total = float(np.sum(freedom[live]))
    if paired:
        own[live] = _residual_variances(values[live][:, present[0]])
        own[own <= zero] = 0.0
        total -= float(present[0].sum()) - 1
    pool = float(np.sum((freedom * own)[live]) / np.sum(freedom[live]))
    if max(pool, floor) == 0:
        return None
    moderated = np.maximum((PRIOR * pool + freedom * own) / (PRIOR + freedom), own)
    return Moderated(counts, means, np.maximum(moderated, floor), PRIOR + freedom, total, int(live.sum()), paired)


def _residual_variances(found: Floats) -> Floats:
    """Each row's variance about its mean and the seeds' common effect; `found` (rows, seeds) has nothing missing.

    Their mean is the rows' mean variance; a single one is itself drawn towards it, by a share of 1 / rows.
    """
    rows, n = found.shape
    residuals = found - found.mean(axis=1, keepdims=True) - found.mean(axis=0) + found.mean()
    return np.asarray(np.sum(residuals**2, axis=1) / (n - 1) * rows / (rows - 1))


def _floor(values: Floats) -> float:
    """The variance that rounding to the values' grid has by itself."""
    return resolution(values) ** 2 / 12


def resolution(values: Floats) -> float:
    """Step of the grid that all values lie on: 100 / N of accuracies over N samples. 0 where there is none."""
    found = np.sort(np.abs(values[np.isfinite(values)]))  # `np.unique` would import NumPy's masked arrays
    found = found[found > 0]
    if not len(found):
        return 0.0
    top = float(found[-1])
    noise = GRID_ROUNDING * top
    while True:  # Euclid's algorithm for all values together
        step = float(found.min())
        if step < 100 * noise:
            return 0.0
        rest = np.abs(found - step * np.round(found / step))
        rest = rest[rest > noise]
        if not len(rest):
            return min(step, top / COARSEST)
        found = np.append(rest, step)


def against(rows: int, reference: int) -> Floats:
    """Weights (rows, rows) of every row less one of them, for `contrasts`."""
    weights = np.eye(rows)
    weights[:, reference] -= 1
    return weights


def contrasts(values: Floats, weights: Floats, paired: bool) -> Contrasts:
    """`weights` (contrasts, rows) times the means of `values` (rows, seeds), NaN where missing.

    Paired by seed where that is asked for, the weights cancel, and no row lacks a seed of the others. All rows help to
    estimate the error, also those of weight 0. Two rows alone have their own error: the paired t's, or Welch's.
    """
    counts, means, _ = moments(values)
    some = counts > 0
    used = weights != 0
    estimate = weights @ np.where(some, means, 0.0)
    size = np.abs(weights) @ np.where(some, np.abs(means), 0.0)
    estimate = np.where(np.abs(estimate) <= ROUNDING * size, 0.0, estimate)
    found = moderate(values, paired and bool(np.all(np.abs(weights.sum(axis=1)) < ROUNDING)))
    if found is None:
        nothing = np.full(len(weights), np.nan)
        return Contrasts(estimate, nothing, nothing, nothing, nothing, nothing, "")
    variances, dfs = found.variances, found.df
    alone = int(some.sum()) <= 2 and not found.paired
    if alone:
        variances, dfs = np.where(counts > 1, np.maximum(moments(values)[2], _floor(values)), np.nan), counts - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.where(used, weights**2 * variances / counts, 0.0)
        free = np.array([satterthwaite(part[use], dfs[use]) for part, use in zip(parts, used, strict=True)])
    se, sd = np.sqrt(parts.sum(axis=1)), np.sqrt(np.where(used, weights**2 * variances, 0.0).sum(axis=1))
    df = np.minimum(free, found.total)
    unknown = (used & ~some).any(axis=1) | ~used.any(axis=1)
    estimate, se, df, sd, free = (np.where(unknown, np.nan, each) for each in (estimate, se, df, sd, free))
    return Contrasts(estimate, se, df, sd, two_sided(estimate, se, df), free, "Welch's t" if alone else method(found))


def method(found: Moderated) -> str:
    """How contrasts of these rows are compared, in words."""
    kind = "seed-paired t" if found.paired else "t"
    if found.live == 1:
        return f"{kind}, with the spread of the only row that varies"
    if found.live == 2 and found.paired:
        return f"{kind}, own error of two rows alone"
    return f"{kind}, each row's spread drawn towards the column's"


def moments(values: Floats) -> tuple[Floats, Floats, Floats]:
    """Counts, means and sample variances (n - 1) of the finite values of each row; NaN where there are too few."""
    finite = np.isfinite(values)
    counts = finite.sum(axis=1).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.where(finite, values, 0.0).sum(axis=1) / counts
        squares = np.where(finite, (values - means[:, None]) ** 2, 0.0).sum(axis=1)
        return counts, np.where(counts > 0, means, np.nan), np.where(counts > 1, squares / (counts - 1), np.nan)
