"""Exact rank tests by counting, also with ties, and what they can say at all at a small n."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ablative.reports.stats.student import Floats


@dataclass(frozen=True)
class RankTest:
    """An exact two-sided test, or why it was refused."""

    p: float | None
    """None where refused."""
    smallest: float
    """The smallest p that any data of this n could give."""
    method: str
    reason: str = ""


def midranks(values: Sequence[float] | Floats) -> NDArray[np.int64]:
    """Ranks from 1 on, int64, **doubled**, so that the mean rank of ties is whole too."""
    array = np.asarray(values, dtype=np.float64)
    _, inverse, counts = np.unique(array, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((2 * last - counts + 1)[inverse], dtype=np.int64)


def signed_rank(deltas: Sequence[float], alpha: float = 0.05) -> RankTest:
    """Wilcoxon's signed-rank test of paired differences; zeros are left out, ties share their mean rank.

    >>> signed_rank([1.0, 2.0, 3.0]).reason
    'the smallest p at n = 3 is 0.25, above 0.05'
    """
    nonzero = [delta for delta in deltas if delta != 0]
    method = "Wilcoxon signed-rank, exact"
    smallest = min(1.0, 2.0 ** (1 - len(nonzero)))
    if smallest > alpha:
        return RankTest(None, smallest, method, _refusal(smallest, f"n = {len(nonzero)}", alpha))
    ranks = midranks(np.abs(nonzero))
    ways = np.zeros(int(ranks.sum()) + 1)
    ways[0] = 1.0
    for rank in ranks:  # each difference may have either sign
        ways[rank:] = ways[rank:] + ways[:-rank]
    found = int(ranks[np.asarray(nonzero) > 0].sum())
    return RankTest(_two_sided(ways, found), smallest, method)


def rank_sum(a: Sequence[float], b: Sequence[float], alpha: float = 0.05) -> RankTest:
    """Wilcoxon's rank-sum (Mann-Whitney) test of two independent samples; ties share their mean rank.

    >>> round(rank_sum([1, 2, 3], [4, 5, 6]).smallest, 3)
    0.1
    """
    method = "Wilcoxon rank-sum, exact"
    smallest = min(1.0, 2 / math.comb(len(a) + len(b), len(a)))
    if smallest > alpha:
        return RankTest(None, smallest, method, _refusal(smallest, f"n = {len(a)} and {len(b)}", alpha))
    ranks = midranks([*a, *b])
    ways = np.zeros((len(a) + 1, int(ranks.sum()) + 1))
    ways[0, 0] = 1.0
    for rank in ranks:  # each value may belong to either sample
        ways[1:, rank:] = ways[1:, rank:] + ways[:-1, :-rank]
    return RankTest(_two_sided(ways[-1], int(ranks[: len(a)].sum())), smallest, method)


def _two_sided(ways: Floats, found: int) -> float:
    """Twice the smaller tail, at most 1. `ways[s]` counts the arrangements whose sum of ranks is s."""
    below, above = ways[: found + 1].sum(), ways[found:].sum()
    return float(min(1.0, 2 * min(below, above) / ways.sum()))


def _refusal(smallest: float, size: str, alpha: float) -> str:
    return f"the smallest p at {size} is {smallest:.2g}, above {alpha:g}"
