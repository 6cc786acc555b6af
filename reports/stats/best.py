"""Which rows of a column can be its best: a step-down set of rows from which no better one can be distinguished.

Each row is tested, one-sided, against every row with a better mean that is still in the set, with Bonferroni's factor
for the size of the set; what falls out makes the factor smaller for the rest (Hansen, Lunde and Nason 2011). The set
ends at the first row that falls out, so that no larger mean is outside while a smaller one is in it.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ablative.reports.stats.decide import ALPHA
from ablative.reports.stats.moderated import Moderated
from ablative.reports.stats.student import Floats

NORMAL = 1.6448
"""Student's t below this has no p below `ALPHA`, whatever its degrees of freedom."""

STEPS = np.geomspace(NORMAL, 100, 640)
"""Student's t between which smallest p-values are looked for."""

BLOCK = 64
"""So many rows are tried against all better ones at once: what that takes fits a processor's cache."""


@dataclass(frozen=True)
class BestSet:
    """The rows that can be the best, and the test that each row came closest to failing. Arrays (rows,)."""

    inside: NDArray[np.bool_]
    p: Floats
    """One-sided, times the size of the set; NaN without a value."""
    rival: NDArray[np.intp]
    """The better row of that test; -1: none is near."""


def best_set(found: Moderated, order: int) -> BestSet:
    """`order`: 1 where larger is better, -1 where smaller is."""
    have = np.flatnonzero(found.counts > 0)
    ranked = have[np.argsort(-order * found.means[have], kind="stable")]
    means, squares, dfs = order * found.means[ranked], found.variances[ranked] / found.counts[ranked], found.df[ranked]
    rows = len(ranked)
    p, smallest, rival = np.ones(rows), np.ones(rows), np.full(rows, -1)

    def test(of: NDArray[np.intp], by: NDArray[np.intp]) -> None:
        """Note the closest test of each of the rows `of` against those of the rows `by` that are better."""
        for start in range(0, len(of), BLOCK):
            block = of[start : start + BLOCK]
            better = by[: max(int(np.searchsorted(by, block[-1])), 1)]  # rows are sorted: those behind are no better
            smallest[block], rival[block] = _closest(means, squares, dfs, found.total, block, better)

    def failed(of: NDArray[np.intp], factor: int) -> NDArray[np.intp]:
        """Rows `of` that are worse than another."""
        p[of] = np.minimum(smallest[of] * factor, 1.0)
        return of[smallest[of] * factor < ALPHA]

    alive, factor = np.arange(rows), max(rows - 1, 1)
    # Most rows of a long table are far below the first or the steadiest of the best: no need to try them against all.
    test(alive, np.array(sorted({0, int(np.argmax(means - 3 * np.sqrt(squares)))})))
    out = failed(alive, factor)
    rest = np.setdiff1d(alive, out, assume_unique=True)
    test(rest, alive)
    out = np.concatenate([out, failed(rest, factor)])
    while len(out):
        alive = np.setdiff1d(alive, out, assume_unique=True)
        test(alive[np.isin(rival[alive], out)], alive)  # the closest test of the others is what it was
        out = failed(alive, max(len(alive) - 1, 1))
    inside = np.logical_and.accumulate(np.isin(np.arange(rows), alive))
    back = np.full(len(found.counts), rows)  # place of each row in the ranking; those without a value are after it
    back[ranked] = np.arange(rows)
    rivals = np.where(rival >= 0, ranked[rival], -1)
    return BestSet(np.append(inside, False)[back], np.append(p, np.nan)[back], np.append(rivals, -1)[back])


def _closest(
    means: Floats, squares: Floats, dfs: Floats, total: float, of: NDArray[np.intp], by: NDArray[np.intp]
) -> tuple[Floats, NDArray[np.intp]]:
    """The smallest p of each row of `of`, one-sided, that it is no worse than a row of `by`, and that row.

    1 and -1 where all p are above `ALPHA` for certain.
    """
    from ablative.reports.stats.special import stdtr

    variance = squares[of][:, None] + squares[by]
    t = (means[by] - means[of][:, None]) / np.sqrt(variance)
    parts, other_parts = squares[of] ** 2 / dfs[of], squares[by] ** 2 / dfs[by]

    def p(i: NDArray[np.intp], j: NDArray[np.intp]) -> Floats:
        return np.asarray(stdtr(np.minimum(variance[i, j] ** 2 / (parts[i] + other_parts[j]), total), -t[i, j]))

    # No t gives a smaller p than with the most degrees of freedom, those of two rows together.
    bounds = _bounds(min(2 * float(dfs.max()), total))
    place = np.searchsorted(-bounds, -p(np.arange(len(of)), t.argmax(axis=1)))
    i, j = np.nonzero(t > STEPS[np.maximum(place - 1, 0)][:, None])
    tried = p(i, j)
    order = np.lexsort((j, tried, i))
    first = order[np.flatnonzero(np.diff(i[order], prepend=-1))]
    smallest, rival = np.ones(len(of)), np.full(len(of), -1)
    smallest[i[first]], rival[i[first]] = tried[first], by[j[first]]
    return smallest, rival


@functools.lru_cache(maxsize=64)
def _bounds(df: float) -> Floats:
    """p of each of `STEPS`."""
    from ablative.reports.stats.special import stdtr

    found: Floats = stdtr(df, -STEPS)
    return found
