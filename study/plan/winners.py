"""Which of a search's trials wins: one rule for the search, which says so, and for the report, which shows why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean


@dataclass(frozen=True)
class Tried:
    """A complete trial of a search with one goal."""

    number: int
    value: float
    """Mean over the search's seeds, by which the sampler went."""
    repeats: Mapping[int, float]
    """Seed → value, of the seeds with which the best were repeated."""


def winner(trials: Iterable[Tried], direction: str, seeds: Sequence[int]) -> Tried | None:
    """The best by its repeats among those that have one for each of `seeds`; while none has, by its own value.

    Of equals, the first that was tried.

    >>> lucky, good = Tried(3, 9.0, {1: 5.0, 2: 6.0}), Tried(7, 8.0, {1: 7.0, 2: 8.0})
    >>> winner([lucky, good], "maximize", (1, 2)).number, winner([lucky, good], "maximize", ()).number
    (7, 3)
    """
    found = sorted(trials, key=lambda trial: trial.number)
    whole = [trial for trial in found if seeds and set(seeds) <= set(trial.repeats)]
    if not found:
        return None
    choose = max if direction == "maximize" else min
    if whole:
        return choose(whole, key=lambda trial: fmean(trial.repeats[seed] for seed in seeds))
    return choose(found, key=lambda trial: trial.value)
