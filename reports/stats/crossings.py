"""Where two curves cross: between measured places, on a logarithmic axis; of the means, and of each seed by itself."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ablative.reports.stats.summary import mean

Line = Mapping[float, Mapping[int, float]]
"""Place -> seed -> value."""


@dataclass(frozen=True)
class Crossing:
    """One crossing of two lines."""

    place: float
    value: float
    """Height at which the lines of the means meet."""
    single: tuple[float, ...]
    """Places at which single seeds cross, in order; a seed that crosses not once, but never or twice, is left out."""
    seeds: int
    """Seeds that have both lines everywhere."""
    supported: bool
    """The lines differ on both sides, with opposite signs."""
    lines: tuple[str, str] = ("", "")
    """Levels that the lines are of."""


def crossings(one: Line, other: Line, order: Callable[[float], int]) -> tuple[Crossing, ...]:
    """Every crossing of the means of two lines, at the places and with the seeds that both have.

    `order`: at a place, 1 where the first line is higher, -1 where it is lower, 0 where the seeds do not decide it.
    """
    places = sorted(set(one) & set(other))
    shared = [set(one[place]) & set(other[place]) for place in places]
    seeds = sorted(set.intersection(*shared)) if shared else []
    if not seeds:
        return ()
    heights = [mean([one[place][seed] for seed in seeds]) for place in places]
    means = [mean([other[place][seed] for seed in seeds]) for place in places]
    single = []
    for seed in seeds:
        own = meetings(places, [one[p][seed] for p in places], [other[p][seed] for p in places])
        single += [place for place, _ in own] if len(own) == 1 else []
    found = meetings(places, heights, means)
    ends = [-math.inf, *(place for place, _ in found), math.inf]
    sides = [{order(place) for place in places if low < place < high} for low, high in itertools.pairwise(ends)]
    supported = [
        (1 in before and -1 in after) or (-1 in before and 1 in after) for before, after in itertools.pairwise(sides)
    ]
    return tuple(
        Crossing(place, value, tuple(sorted(single)), len(seeds), sure)
        for (place, value), sure in zip(found, supported, strict=True)
    )


def meetings(places: Sequence[float], one: Sequence[float], other: Sequence[float]) -> list[tuple[float, float]]:
    """(place, height) where straight lines between points meet, places on a logarithmic axis.

    >>> meetings([10, 1000], [0.0, 1.0], [1.0, 0.0])
    [(100.0, 0.5)]
    """
    found = []
    points = zip(map(math.log10, places), one, other, strict=True)
    for (x0, a0, b0), (x1, a1, b1) in itertools.pairwise(points):
        before, after = a0 - b0, a1 - b1
        if before * after < 0:
            share = before / (before - after)
            found.append((round(10 ** (x0 + share * (x1 - x0)), 9), a0 + share * (a1 - a0)))
    return found
