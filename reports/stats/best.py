"""Which rows of a column can be its best: a step-down set of rows from which no better one can be distinguished.

Each row is tested, one-sided, against every row with a better mean that is still in the set, with Bonferroni's factor
for the size of the set; what falls out makes the factor smaller for the rest (Hansen, Lunde and Nason 2011). The set
ends at the first row that falls out, so that no larger mean is outside while a smaller one is in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ablative.reports.stats.decide import ALPHA
from ablative.reports.stats.moderated import Moderated
from ablative.reports.stats.student import Floats

NORMAL = 1.6448
"""Student's t below this has no p below `ALPHA`, whatever its degrees of freedom."""

STEPS = np.geomspace(NORMAL, 100, 80)
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
    p, rival = np.ones(rows), np.full(rows, -1)

    def test(of: NDArray[np.intp], by: NDArray[np.intp], factor: int) -> NDArray[np.intp]:
        """Rows `of` that are worse than one of the rows `by`; notes the closest test of each."""
        failed = []
        for block in np.split(of, range(BLOCK, len(of), BLOCK)):
            better = by[: max(int(np.searchsorted(by, block[-1])), 1)]  # rows are sorted: those behind are no better
            every = _one_sided(means, squares, dfs, found.total, block, better)
            closest = np.argmin(every, axis=1)
            own = every[np.arange(len(block)), closest]
            p[block] = np.minimum(own * factor, 1.0)
            rival[block] = np.where(own < 1, better[closest], -1)
            failed.append(block[own * factor < ALPHA])
        return np.concatenate(failed)

    alive, factor = np.arange(rows), max(rows - 1, 1)
    # Most rows of a long table are far below the first or the steadiest of the best: no need to try them against all.
    pilots = np.unique([0, int(np.argmax(means - 3 * np.sqrt(squares)))])
    out = test(alive, pilots, factor)
    out = np.concatenate([out, test(np.setdiff1d(alive, out), alive, factor)])
    while len(out):
        alive = np.setdiff1d(alive, out)
        out = test(alive, alive, max(len(alive) - 1, 1))
    inside = np.logical_and.accumulate(np.isin(np.arange(rows), alive))
    back = np.full(len(found.counts), rows)  # place of each row in the ranking; those without a value are after it
    back[ranked] = np.arange(rows)
    rivals = np.where(rival >= 0, ranked[rival], -1)
    return BestSet(np.append(inside, False)[back], np.append(p, np.nan)[back], np.append(rivals, -1)[back])


def _one_sided(
    means: Floats, squares: Floats, dfs: Floats, total: float, of: NDArray[np.intp], by: NDArray[np.intp]
) -> Floats:
    """p (of, by) that a row of `of` is no worse than one of `by`; 1 where it is above `ALPHA`, or not the row's
    smallest, for certain."""
    from scipy.special import stdtr

    variance = squares[of][:, None] + squares[by]
    t = (means[by] - means[of][:, None]) / np.sqrt(variance)
    parts, other_parts = squares[of] ** 2 / dfs[of], squares[by] ** 2 / dfs[by]

    def p(i: NDArray[np.intp], j: NDArray[np.intp]) -> Floats:
        return np.asarray(stdtr(np.minimum(variance[i, j] ** 2 / (parts[i] + other_parts[j]), total), -t[i, j]))

    # No t gives a smaller p than with the most degrees of freedom, those of two rows together.
    bounds = stdtr(min(2 * dfs.max(), total), -STEPS)
    place = np.searchsorted(-bounds, -p(np.arange(len(of)), t.argmax(axis=1)))
    i, j = np.nonzero(t > STEPS[np.maximum(place - 1, 0)][:, None])
    found = np.ones(t.shape)
    found[i, j] = p(i, j)
    return found
