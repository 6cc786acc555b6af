"""Whether a search's trials differ by more than their seeds do, and what would distinguish the best from the rest."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ablative.reports.search.results import ArmTrials, Trial
from ablative.reports.stats.decide import ALPHA
from ablative.reports.stats.student import t_quantile
from ablative.study.core.plurals import plural

POWER = 0.8
MOST_SEEDS = 1000


@dataclass(frozen=True)
class SeedSpread:
    """How far seeds move a trial, against how far the trials are apart."""

    sd: float
    """Standard deviation of a seed's value around its trial's, without what a seed does to all trials alike."""
    df: int
    low: float
    high: float
    """Smallest and largest value of any trial, by the search's own seeds."""
    between: float
    """Standard deviation of the trials' values."""
    f: float
    p: float
    """F test that all trials have the same mean."""

    @property
    def distinguishes(self) -> bool:
        return self.p < ALPHA


def seed_spread(arm: ArmTrials) -> SeedSpread | None:
    """The spread of an arm with one goal; None where no trial has a second seed, or there is one trial alone."""
    from ablative.reports.stats.special import fdtrc

    values = [trial.goal_values[0] for trial in arm.complete]
    found = _within(arm)
    if found is None or len(values) < 2:
        return None
    sd, df = found
    each = max(len(trial.seeds) for trial in arm.complete)
    between = float(np.std(values, ddof=1))
    f = each * between**2 / sd**2 if sd else math.inf
    p = float(fdtrc(len(values) - 1, df, f)) if math.isfinite(f) else 0.0
    return SeedSpread(sd, df, min(values), max(values), between, f, p)


def comparable_values(arm: ArmTrials) -> dict[int, float]:
    """Trial → its value, as if all complete trials had the seeds of the repeats.

    A seed moves all trials alike by more than they differ, so those without repeats are moved by what the repeated ones
    have moved by on average, from the search's seeds to the repeats'.
    """
    moves = [trial.value - trial.goal_values[0] for trial in arm.complete if trial.repeats]
    shift = float(np.mean(moves)) if moves else 0.0
    return {trial.number: trial.value + (0.0 if trial.repeats else shift) for trial in arm.complete}


def _within(arm: ArmTrials) -> tuple[float, int] | None:
    """Standard deviation and degrees of freedom of seeds within trials: of the trials that have the most seeds."""
    tables = [{seed: own[0] for seed, own in {**trial.seeds, **trial.repeats}.items()} for trial in arm.complete]
    most = max((len(own) for own in tables), default=0)
    kept = [own for own in tables if len(own) == most]
    kept = [own for own in kept if set(own) == set(kept[0])]
    if most < 2:
        return None
    table = np.array([[own[seed] for seed in sorted(own)] for own in kept])
    rest = table - table.mean(axis=1, keepdims=True)
    df = len(kept) * (most - 1)
    if len(kept) > 1:
        rest = rest - rest.mean(axis=0)
        df = (len(kept) - 1) * (most - 1)
    return math.sqrt(float(np.sum(rest**2)) / df), df


def seeds_a_trial(sd: float, difference: float) -> int | None:
    """Seeds with which a paired t test finds the difference of two trials with the wanted power; None: too many."""
    from ablative.reports.stats.special import nctdtr

    if not difference or not sd:
        return None
    for n in range(2, MOST_SEEDS + 1):
        shift = abs(difference) / (sd * math.sqrt(2 / n))
        if 1 - float(nctdtr(n - 1, shift, t_quantile(n - 1, 1 - ALPHA / 2))) >= POWER:
            return n
    return None


def verdict(arm: ArmTrials) -> str:
    """Whether the arm's trials distinguish the parameters' values; empty for several goals, and without trials."""
    if len(arm.search.objective) > 1 or not arm.complete:
        return ""
    spread = seed_spread(arm)
    if spread is None:
        return f"{arm.title}: no trial has a second seed; nothing says whether these trials differ by more than luck."
    test = f"F test of equal means: p = {spread.p:.2g}"
    facts = (
        f"by the search's seeds they range from {spread.low:.4g} to {spread.high:.4g}, with a standard deviation of "
        f"{spread.between:.2g}; seeds alone move one trial against the others by {spread.sd:.2g} ({spread.df} "
        f"{plural('degree', spread.df)} of freedom; {test})"
    )
    if spread.distinguishes:
        return f"{arm.title}: these {len(arm.complete)} trials differ by more than their seeds explain: {facts}."
    head = f"{arm.title}: these {len(arm.complete)} trials cannot distinguish the values of the parameters: {facts}."
    return f"{head} {_remedy(arm, spread)}"


def _remedy(arm: ArmTrials, spread: SeedSpread) -> str:
    """What would distinguish the winner from the best of what was tried first: seeds a trial, runs and hours."""
    best, first = arm.best, best_first(arm)
    same = best is None or first is None or best.number == first.number
    gap = 0.0 if same or best is None or first is None else abs(best.value - first.value)
    words = "as large as the winner's to the best of those tried first"
    if not gap:
        gap, words = spread.high - spread.low, "as large as these trials' range"
    n = seeds_a_trial(spread.sd, gap)
    if n is None:
        return f"A difference {words} ({gap:.2g}) would need more than {MOST_SEEDS} seeds a trial."
    runs = sum(len(trial.seeds) + len(trial.repeats) or 1 for trial in arm.trials)
    whole = n * len(arm.trials)
    return (
        f"A difference {words} ({gap:.2g}) needs {n} seeds a trial for a power of {100 * POWER:.0f} %: {whole:,} runs, "
        f"about {arm.hours / max(runs, 1) * whole:.2g} hours; these were {runs}, in {arm.hours:.2g} hours."
    )


def best_first(arm: ArmTrials) -> Trial | None:
    """The best of what was tried before the sampler was asked."""
    sign = 1 if arm.search.objective[0].direction == "maximize" else -1
    return max((t for t in arm.complete if t.first), key=lambda t: sign * t.value, default=None)
