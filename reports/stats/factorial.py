"""Which factor moves a metric by how much: exact factorial analysis of variance of a full grid with seeds.

Balanced, so that sums of squares of main effects and two-way interactions are orthogonal and add up; what is left of
the cells' sum (interactions of more factors) is reported too. The error is the seeds' spread within cells.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ablative.reports.stats.decide import holm
from ablative.reports.stats.student import Floats, t_quantile, two_sided

Cell = Mapping[str, str]
LEVEL = 0.95


@dataclass(frozen=True)
class Term:
    """One factor, or two together."""

    factors: tuple[str, ...]
    df: int
    share: float
    """η²: of the sum of squares of all runs."""
    range: float
    """Largest less smallest level mean, in the metric's units; of two factors, of the interaction's deviations."""
    f: float | None
    p: float | None
    """P-value of the F test against the spread over seeds; None without repeated seeds."""


@dataclass(frozen=True)
class Contrast:
    """The mean over the grid at one level of a factor less that at another."""

    factor: str
    level: str
    reference: str
    estimate: float
    low: float | None
    high: float | None
    p: float | None
    """Adjusted by Holm for the contrasts of the table."""


@dataclass(frozen=True)
class Grid:
    """A full grid: every combination of the levels, each with the same seeds."""

    levels: Mapping[str, tuple[str, ...]]
    seeds: tuple[int, ...]
    values: Floats
    """Shape: one axis for each factor, then seeds."""
    left_out: tuple[str, ...]
    """Levels that the grid lacks in some combination, as `factor=level`: nothing here is about them."""


@dataclass(frozen=True)
class Analysis:
    grid: Grid
    terms: tuple[Term, ...]
    higher: float
    """Share of interactions of three factors and more."""
    within: float
    """Share of the seeds' spread within cells, and of what seeds do to all cells alike (`seeds`)."""
    seeds: float
    contrasts: tuple[Contrast, ...]


def full_grid(
    levels: Mapping[str, Sequence[str]], values: Mapping[tuple[str, ...], Mapping[int, float]]
) -> Grid | None:
    """The largest full grid in what is there: levels are left out, the emptiest first, until nothing is missing.

    `values`: levels in the order of the factors -> seed -> value. Seeds that not every cell has are left out as well.
    None where fewer than two levels of any factor would stay.
    """
    kept = {factor: list(own) for factor, own in levels.items()}
    left_out: list[str] = []
    while True:
        cells = list(itertools.product(*kept.values()))
        missing = [cell for cell in cells if not values.get(cell)]
        if not missing:
            break
        name, level = _emptiest(kept, missing)
        kept[name].remove(level)
        left_out.append(f"{name}={level}")
    kept = {factor: own for factor, own in kept.items() if own}
    single = [factor for factor, own in kept.items() if len(own) < 2]
    if not cells or len(single) == len(kept):
        return None
    seeds = sorted(set.intersection(*(set(values[cell]) for cell in cells)))
    if not seeds:
        return None
    table = np.array([[values[cell][seed] for seed in seeds] for cell in cells])
    shape = [len(own) for own in kept.values()]
    found = table.reshape(*shape, len(seeds))
    axes = tuple(i for i, factor in enumerate(kept) if factor in single)
    own = {factor: tuple(names) for factor, names in kept.items() if factor not in single}
    return Grid(own, tuple(seeds), np.squeeze(found, axis=axes), tuple(left_out))


def _emptiest(kept: Mapping[str, Sequence[str]], missing: Sequence[tuple[str, ...]]) -> tuple[str, str]:
    """The level that most of its cells lack; of equals, the last of the last factor."""
    shares = []
    cells = int(np.prod([len(own) for own in kept.values()]))
    for i, (factor, own) in enumerate(kept.items()):
        for j, level in enumerate(own):
            lacking = sum(cell[i] == level for cell in missing)
            shares.append((lacking / (cells / len(own)), i, j, factor, level))
    return max(shares)[3:]


def analyse(grid: Grid, baseline: Mapping[str, str], paired: bool = True) -> Analysis:
    """Main effects, two-way interactions, and the contrasts of each level to the baseline's (else the first).

    `paired`: the same seed in all cells is a block, whose common effect is no error.
    """
    values = grid.values
    n, k = values.shape[-1], values.ndim - 1
    means = values.mean(axis=-1)
    total = float(np.sum((values - values.mean()) ** 2)) or 1.0
    effects = {axes: _effect(means, axes) for size in (1, 2) for axes in itertools.combinations(range(k), size)}
    blocks = values.mean(axis=tuple(range(k))) - values.mean()
    block = means.size * float(np.sum(blocks**2)) if paired else 0.0
    within = max(float(np.sum((values - means[..., None]) ** 2)) - block, 0.0)
    df = (means.size - 1) * (n - 1) if paired else means.size * (n - 1)
    error = within / df if df > 0 else None
    names = tuple(grid.levels)
    terms = tuple(
        _term(tuple(names[i] for i in axes), effect, means, n, total, error, df) for axes, effect in effects.items()
    )
    cells = n * float(np.sum((means - means.mean()) ** 2))
    explained = n * sum(_squares(effect, means) for effect in effects.values())
    higher = max(cells - explained, 0.0) / total if k > 2 else 0.0
    contrasts = _contrasts(grid, means, baseline, error, df)
    return Analysis(grid, terms, higher, within / total, block / total, contrasts)


def _effect(means: Floats, axes: tuple[int, ...]) -> Floats:
    """Deviations of a main effect or a two-way interaction, with size 1 along all other axes."""
    others = tuple(i for i in range(means.ndim) if i not in axes)
    effect: Floats = means.mean(axis=others, keepdims=True) - means.mean()
    if len(axes) == 2:
        effect = effect - _effect(means, axes[:1]) - _effect(means, axes[1:])
    return effect


def _squares(effect: Floats, means: Floats) -> float:
    return float(np.sum(effect**2)) * means.size / effect.size


def _term(
    factors: tuple[str, ...], effect: Floats, means: Floats, n: int, total: float, error: float | None, error_df: int
) -> Term:
    from ablative.reports.stats.special import fdtrc

    squares = n * _squares(effect, means)
    df = int(np.prod([size - 1 for size in effect.shape if size > 1]))
    f = p = None
    if error:
        f = squares / df / error
        p = float(fdtrc(df, error_df, f))
    return Term(factors, df, squares / total, float(np.ptp(effect)), f, p)


def _contrasts(
    grid: Grid, means: Floats, baseline: Mapping[str, str], error: float | None, df: int
) -> tuple[Contrast, ...]:
    found: list[Contrast] = []
    for axis, (factor, levels) in enumerate(grid.levels.items()):
        by_level = means.mean(axis=tuple(i for i in range(means.ndim) if i != axis))
        reference = levels.index(baseline[factor]) if baseline.get(factor) in levels else 0
        size = grid.values.size / len(levels)
        for i, level in enumerate(levels):
            if i == reference:
                continue
            gap = float(by_level[i] - by_level[reference])
            if not error:  # one seed, or seeds that do not differ
                found.append(Contrast(factor, level, levels[reference], gap, None, None, None))
                continue
            se = (2 * error / size) ** 0.5
            half = t_quantile(float(df), (1 + LEVEL) / 2) * se
            p = float(two_sided(gap, se, float(df)))
            found.append(Contrast(factor, level, levels[reference], gap, gap - half, gap + half, p))
    if not error:
        return tuple(found)
    adjusted = holm([contrast.p if contrast.p is not None else 1.0 for contrast in found])
    return tuple(
        Contrast(c.factor, c.level, c.reference, c.estimate, c.low, c.high, p)
        for c, p in zip(found, adjusted, strict=True)
    )
