"""Decisions: verdicts with an equivalence margin, many comparisons at once, and how many seeds would decide."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ablative.reports.stats.compare import ESTIMANDS, Effect
from ablative.reports.stats.exact import SAME
from ablative.reports.stats.moderated import PRIOR
from ablative.reports.stats.student import t_quantile

VERDICTS = ("better", "worse", "equivalent", "inconclusive")
DIRECTIONS = ("higher", "lower")
"""Which values of a metric are the better ones."""
ALPHA = 0.05


@dataclass(frozen=True)
class Seeds:
    """How many seeds an arm needs, in all, for a verdict with the wanted power."""

    n: int | None
    """None where no number of seeds would do, or where nothing is known of the spread."""
    reason: str
    """What the number would decide, or why there is none."""


def tost(effect: Effect, margin: float) -> float | None:
    """p of the two one-sided tests that the difference is at least `margin` away from 0 (Schuirmann 1987).

    The arms are equivalent at 5 % where p < 0.05, which is where the 90 % interval lies inside ±margin. None without a
    standard error; 0 or 1 for a difference that is the same in every seed.
    """
    from ablative.reports.stats.special import stdtr

    if margin <= 0:
        raise ValueError(f"margin {margin:g}: an equivalence margin is above 0")
    if effect.exact:
        return float(abs(effect.estimate) > margin)
    if effect.se is None or effect.df is None:
        return None
    return float(stdtr(effect.df, (abs(effect.estimate) - margin) / effect.se))


def verdict(effect: Effect, margin: float | None = None, direction: str = "higher") -> str:
    """One of VERDICTS on arm a against arm b. Without a margin, nothing is ever equivalent.

    `equivalent` goes before `better`: a difference that is certain, and certainly smaller than what the study declared
    to matter, does not matter.
    """
    if direction not in DIRECTIONS:
        raise ValueError(f"direction '{direction}'; choose one of {', '.join(DIRECTIONS)}")
    if effect.low is None or effect.high is None:
        return "inconclusive"
    p = None if margin is None else tost(effect, margin)
    if p is not None and p < ALPHA:
        return "equivalent"
    if effect.low <= 0 <= effect.high:
        return "inconclusive"
    return "better" if (effect.estimate > 0) == (direction == "higher") else "worse"


def holm(pvalues: Sequence[float]) -> list[float]:
    """p-values adjusted for their number by Holm's step-down method (1979), in the order given.

    NaN (a comparison that could not be made) stays NaN and does not count.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted((i for i, p in enumerate(pvalues) if not math.isnan(p)), key=lambda i: pvalues[i])
    adjusted = [math.nan] * len(pvalues)
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * pvalues[i]))
        adjusted[i] = largest
    return adjusted


def seeds_needed(effect: Effect, margin: float | None = None, power: float = 0.8, limit: int = 1000) -> Seeds:
    """Seeds an arm needs in all for a verdict, if difference and spread are as estimated.

    Within the margin the aim is equivalence, else a difference. Only arms with a weight get more seeds, so that others
    do not help to estimate the spread of those. It is a plan, not a promise: at two seeds the spread itself is known
    poorly.
    """
    if effect.exact:
        return Seeds(None, f"{SAME}: further seeds change nothing")
    if effect.se is None or effect.df is None or not effect.n_seeds:
        return Seeds(None, f"{effect.reason or 'no spread'}: nothing can be planned from it")
    if effect.estimand == ESTIMANDS[1]:
        return Seeds(None, "for tasks like these, tasks decide and not seeds")
    equivalence = margin is not None and abs(effect.estimate) < margin
    aim = f"to show equivalence within ±{margin:g}" if equivalence else "to show the difference"
    if not equivalence and effect.estimate == 0:
        return Seeds(None, "there is no difference to show, and no margin to show equivalence")
    for n in range(2, limit + 1):
        if chance(effect, margin if equivalence else None, n) >= power:
            return Seeds(n, f"{aim} with a power of {100 * power:.0f} %")
    return Seeds(None, f"more than {limit} seeds {aim}")


def _degrees(effect: Effect, n: int) -> float:
    """Degrees of freedom with n seeds of the arms that the effect is about."""
    assert effect.df is not None
    before = max(effect.n_seeds - 1, 1)  # one seed has none
    if effect.free is None:
        return effect.df * (n - 1) / before
    return min(effect.free * (PRIOR + n - 1) / (PRIOR + before), max(effect.arms - 1, 1) * (n - 1))


def chance(effect: Effect, margin: float | None, n: int) -> float:
    """Chance of the verdict with n seeds, true difference and spread being as estimated."""
    from ablative.reports.stats.special import nctdtr, stdtr

    assert effect.se is not None and effect.df is not None
    df = _degrees(effect, n)
    se = max(effect.se * math.sqrt(effect.n_seeds / n), 1e-300)
    if margin is None:
        return 1 - float(nctdtr(df, abs(effect.estimate) / se, t_quantile(df, 1 - ALPHA / 2)))
    critical = t_quantile(df, 1 - ALPHA)
    room = [(margin - abs(effect.estimate)) / se - critical, (margin + abs(effect.estimate)) / se - critical]
    return max(0.0, float(stdtr(df, room[0]) + stdtr(df, room[1]) - 1))
