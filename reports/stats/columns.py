"""One column of a table: which rows are the best, which the second best, and how far each is from the baseline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ablative.reports.stats.decide import ALPHA, holm
from ablative.reports.stats.pooling import against, contrasts, moments, spread
from ablative.reports.stats.student import Floats

LEVEL = 1 - ALPHA


@dataclass(frozen=True)
class Delta:
    """A row less the baseline's row; without interval and p where no spread is known."""

    estimate: float
    low: float | None = None
    high: float | None = None
    p: float | None = None
    """Two-sided, adjusted by Holm for the column's rows."""


@dataclass(frozen=True)
class Compared:
    """What a column's numbers say about each other; sequences by row."""

    best: Sequence[bool]
    """Tested: not distinguishable from the best mean. Untested: the best mean as printed."""
    second: Sequence[bool]
    """The best of the rest, distinguishable from every row that is not bold; never without a test."""
    tested: bool
    halves: Sequence[float | None]
    """Half the width of each mean's interval; None for fewer than two seeds."""
    pooled: bool
    """The intervals rest on the spread of all rows together."""
    deltas: Sequence[Delta | None]
    method: str
    """How the rows were compared; empty where they were not."""


def compare_rows(
    values: Floats, text: Callable[[float], str], order: int, baseline: int | None, paired: bool = True
) -> Compared:
    """Compare the rows of (rows, seeds), NaN where missing; seeds of the same number are paired.

    `text` prints a mean: what looks the same shares its mark. `order`: 1 where larger is better, -1 where smaller is,
    0 where no row is better than another. `baseline`: the row that the others are held against.
    """
    counts, means, _ = moments(values)
    rows = len(values)
    spreads = spread(values)
    repeated = bool(np.any(counts > 1))
    halves = _halves(counts, spreads.sd, spreads.df)
    have = np.flatnonzero(counts > 0)
    ranked = order != 0 and len(have) > 1
    leader = int(have[np.argmax(order * means[have])]) if ranked else None
    references = [row for row in (leader, baseline) if row is not None and counts[row] > 0]
    best, second, method = np.zeros(rows, dtype=np.bool_), np.zeros(rows, dtype=np.bool_), ""
    stacked = None
    if repeated and references:
        weights = np.concatenate([against(rows, row) for row in references])
        stacked = contrasts(values, weights, paired)
        method = stacked.method
    if leader is not None:
        p = _adjusted(stacked.p[:rows], leader) if stacked else np.zeros(rows)
        best[have] = ~(p[have] < ALPHA)  # what cannot be tested counts as alike
        best[leader] = True
        best |= _alike(means, leader, text)
        if stacked is not None:
            second = _second(values, means, best, order, text, paired)
    deltas: list[Delta | None] = [None] * rows
    if baseline is not None and counts[baseline] > 0:
        error = None if stacked is None else (stacked.se[-rows:], stacked.df[-rows:], stacked.p[-rows:])
        deltas = _deltas(means, baseline, error)
    return Compared(best.tolist(), second.tolist(), stacked is not None, halves, spreads.pooled, deltas, method)


def _adjusted(p: Floats, reference: int) -> Floats:
    """Holm's p over the rows other than the reference; NaN where there is none."""
    own = p.copy()
    own[reference] = np.nan
    return np.array(holm(own.tolist()))


def _alike(means: Floats, leader: int, text: Callable[[float], str]) -> np.ndarray:
    """Rows whose mean is printed as the leader's is."""
    printed = text(float(means[leader]))
    return np.array([bool(np.isfinite(mean)) and text(mean) == printed for mean in means.tolist()])


def _second(
    values: Floats, means: Floats, best: np.ndarray, order: int, text: Callable[[float], str], paired: bool
) -> np.ndarray:
    """The best row that is not bold, if it differs significantly from all others that are not."""
    marks = np.zeros(len(values), dtype=np.bool_)
    rest = np.flatnonzero(np.isfinite(means) & ~best)
    if not len(rest):
        return marks
    top = int(rest[np.argmax(order * means[rest])])
    others = rest[rest != top]
    if len(others):
        found = contrasts(values, against(len(values), top)[others], paired)
        different = all(p < ALPHA for p in holm(found.p.tolist()))  # NaN is no difference
        if not different or _alike(means, top, text)[others].any():
            return marks
    marks[top] = True
    return marks


def _halves(counts: Floats, sd: Floats, df: Floats) -> list[float | None]:
    """Half widths; no interval is given to a mean of one seed, even where other rows' spread is known."""
    from scipy.special import stdtrit

    with np.errstate(divide="ignore", invalid="ignore"):
        widths = stdtrit(df, (1 + LEVEL) / 2) * sd / np.sqrt(counts)
    return [width if count > 1 else None for width, count in zip(widths.tolist(), counts.tolist(), strict=True)]


def _deltas(means: Floats, baseline: int, error: tuple[Floats, Floats, Floats] | None) -> list[Delta | None]:
    from scipy.special import stdtrit

    gaps = (means - means[baseline]).tolist()
    if error is None:
        plain = [None if gap != gap else Delta(gap) for gap in gaps]
        return [None if i == baseline else delta for i, delta in enumerate(plain)]
    se, df, p = error
    halves = (stdtrit(df, (1 + LEVEL) / 2) * se).tolist()
    deltas: list[Delta | None] = []
    for i, (gap, half, own) in enumerate(zip(gaps, halves, _adjusted(p, baseline).tolist(), strict=True)):
        if i == baseline or gap != gap:
            deltas.append(None)
        else:
            deltas.append(Delta(gap) if half != half else Delta(gap, gap - half, gap + half, own))
    return deltas
