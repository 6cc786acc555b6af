"""Verdicts on claims: sentences of a paper held against the results, by the statistics of `reports.stats`.

- supported: at 5 %, what the statement says (`~`: the two one-sided tests put the difference within ± the margin);
- contradicted: at 5 %, its contrary; of a claim of m comparisons, one of them at 5/m %;
- equivalent: a difference is claimed, and what there is lies within ± the margin: too small to matter;
- undecided: none of these. The effect is printed all the same, and whether it agrees.

What is the same in every seed (FLOPs) has no test: the value itself decides.

A claim of several comparisons (`and`, chains, `every`) is supported only if each is, which needs no correction. Each
verdict is the claim's by itself; `reports.verdicts.claim_runs` adjusts its p for the number of claims.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ablative.reports.stats.compare import Effect, Sample, contrast
from ablative.reports.stats.decide import ALPHA, Seeds, seeds_needed, tost
from ablative.reports.stats.decide import verdict as verdict_of
from ablative.reports.stats.moderated import ROUNDING
from ablative.reports.stats.student import two_sided
from ablative.reports.store.warehouse import cell_key
from ablative.study.plan.outputs.claim_cells import ClaimContrast, Factors, Linear, resolve
from ablative.study.spec.design import Cell, allows
from ablative.study.spec.outputs import ClaimConfig

VERDICTS = ("supported", "contradicted", "equivalent", "undecided")

CellValues = Mapping[str, Sample]
"""Cell's key -> metric -> seed -> value."""


@dataclass(frozen=True)
class Part:
    """One comparison of a claim, on one task where it must hold on every one."""

    text: str
    sign: str
    task: str
    """The metric, where the claim must hold on every task; else empty."""
    effect: Effect
    """The left side's mean less the right's; for absolute values, the left's less the right's. Its interval is of
    90 % where the verdict is about the margin: within ± the margin is what the two one-sided tests ask."""
    target: float
    """The constant that the effect is compared with; mostly 0."""
    verdict: str
    p: float | None
    """Significance of the test behind the verdict; None without one."""
    agrees: bool | None
    """Whether the estimate is as claimed; None without one."""
    favourable: int
    """Number of tasks on which the estimate is as claimed."""
    seeds: Seeds | None
    """What would decide it; None where it is decided."""

    @property
    def reserve(self) -> float:
        """How far the estimate is on the claimed side; NaN without one."""
        gap = self.effect.estimate - self.target
        return {">": gap, "<": -gap, "~": -abs(gap)}[self.sign]


@dataclass(frozen=True)
class ClaimResult:
    """A claim with its verdict and the comparisons that the verdict rests on."""

    name: str
    config: ClaimConfig
    verdict: str
    parts: tuple[Part, ...]
    metrics: tuple[str, ...]
    cells: tuple[Cell, ...]

    @property
    def text(self) -> str:
        return self.config.text or self.config.statement

    @property
    def agrees(self) -> bool | None:
        """Whether all estimates are as claimed; None while one is missing."""
        found = [part.agrees for part in self.parts]
        return None if None in found else all(found)

    @property
    def p(self) -> float | None:
        """Significance of the verdict, by the claim's single comparisons; None for an undecided and an exact claim."""
        if self.verdict == "undecided" or self.exact:
            return None
        if self.verdict == "contradicted":  # one comparison is enough, so that each has a share of the 5 %
            found = [part.p for part in self.parts if part.verdict == self.verdict and part.p is not None]
            return min(1.0, len(self.parts) * min(found))
        return max(part.p for part in self.parts if part.p is not None)

    @property
    def exact(self) -> bool:
        """The verdict rests on no test: what decides is the same in every seed."""
        deciding = [part.effect.exact for part in self.parts if part.verdict == self.verdict]
        if self.verdict == "contradicted":  # one comparison is enough
            return any(deciding)
        return self.verdict != "undecided" and all(part.effect.exact for part in self.parts)

    @property
    def n_seeds(self) -> int:
        return min(part.effect.n_seeds for part in self.parts)


def evaluate(
    name: str,
    config: ClaimConfig,
    factors: Factors,
    cells: Sequence[Cell],
    metrics: Sequence[str],
    results: CellValues,
    exact: bool | None = None,
    paired: bool = True,
) -> ClaimResult:
    """The verdict on one claim; `metrics`: the tasks that its patterns mean; `exact`: what is declared of them;
    `paired`: a seed is the same in all cells.

    Only seeds that have every task in every cell of a comparison count: an average never changes its set of tasks.
    Raises ConfigError for a statement that the grid cannot answer.
    """
    comparisons = resolve(config, factors, cells, f"claims.{name}.statement")
    kept = {cell_key(cell) for cell in cells if allows(cell, config.where)}
    results = {key: arm for key, arm in results.items() if key in kept}
    tasks = [(metric,) for metric in metrics] if config.every else [tuple(metrics)]
    level = 1 - ALPHA / (len(comparisons) * len(tasks))
    measure = functools.partial(_measure, estimand=config.estimand, results=results, exact=exact, paired=paired)
    parts = tuple(_part(each, config, group, results, level, measure) for each in comparisons for group in tasks)
    used = {cell_key(cell): cell for each in comparisons for cell in each.cells}
    return ClaimResult(name, config, _together(parts), parts, tuple(metrics), tuple(used.values()))


def without_result(config: ClaimConfig) -> Part:
    """The comparison of a claim that could not be judged: undecided, without a number."""
    effect = Effect(math.nan, None, None, 1 - ALPHA, 0, 0, None, None, None, None, None, "", config.estimand)
    return Part(config.statement, ">", "", effect, 0.0, "undecided", None, None, 0, None)


def _together(parts: Sequence[Part]) -> str:
    found = {part.verdict for part in parts}
    if "contradicted" in found:
        return "contradicted"
    if "undecided" in found:
        return "undecided"
    return "equivalent" if "equivalent" in found else "supported"


def _part(
    comparison: ClaimContrast,
    config: ClaimConfig,
    tasks: tuple[str, ...],
    results: CellValues,
    level: float,
    measure: Callable[..., Effect],
) -> Part:
    seeds = _common_seeds(comparison.cells, tasks, results)
    target = 0.0 if comparison.absolute else comparison.right.constant
    linear, mirror = comparison.left, None
    if comparison.absolute:
        one, other = (_signed(side, tasks, results, seeds) for side in (comparison.left, comparison.right))
        linear, mirror = _sum(one, other, -1.0), _sum(one, other, 1.0)
    effect = measure(linear, tasks=tasks, seeds=seeds)
    verdict, p = _judge(comparison.sign, _shifted(effect, target), config.margin, level)
    if mirror is not None and verdict in ("supported", "contradicted"):
        # |x| > |y| where x - y and x + y have the same sign: both must be certain (an intersection-union test).
        turned = measure(mirror, tasks=tasks, seeds=seeds)
        low, _ = turned.interval(level) or (-math.inf, math.inf)
        verdict = verdict if low > 0 else "undecided"
        p = max((each for each in (p, _two_sided(turned, 0.0)) if each is not None), default=None)
    gaps = [_value(linear, (task,), results, seeds) - target for task in tasks] if seeds else []
    return Part(
        comparison.text,
        comparison.sign,
        tasks[0] if config.every else "",
        _at(effect, 0.9) if comparison.sign == "~" or verdict == "equivalent" else effect,
        target,
        verdict,
        p,
        _agrees(comparison.sign, effect.estimate - target, config.margin) if seeds else None,
        sum(_agrees(comparison.sign, gap, config.margin) for gap in gaps),
        seeds_needed(_shifted(effect, target), config.margin or None) if verdict == "undecided" else None,
    )


def _judge(sign: str, effect: Effect, margin: float, level: float) -> tuple[str, float | None]:
    """The verdict on `effect > 0`, `< 0` or `~ 0`, and p of its test; its contrary must be certain at `level`."""
    if effect.exact:
        return _by_value(sign, effect.estimate, margin), None
    interval = effect.interval(level)
    if interval is None:
        return "undecided", None
    p = tost(effect, margin) if margin else None
    same = p is not None and p < ALPHA
    if sign == "~":
        outside = interval[0] > margin or interval[1] < -margin
        return ("contradicted", _two_sided(effect, margin)) if outside else ("supported" if same else "undecided", p)
    if same:
        return "equivalent", p
    claimed, contrary = ("better", interval[1] < 0) if sign == ">" else ("worse", interval[0] > 0)
    verdict = "supported" if verdict_of(effect) == claimed else "contradicted" if contrary else "undecided"
    return verdict, _two_sided(effect, 0.0)


def _by_value(sign: str, gap: float, margin: float) -> str:
    """The verdict on a difference that is the same in every seed."""
    if abs(gap) <= margin:
        return "supported" if sign == "~" else "equivalent"
    return "supported" if sign != "~" and (gap > 0) == (sign == ">") else "contradicted"


def _two_sided(effect: Effect, margin: float) -> float | None:
    """p of an effect within ± the margin, by the interval that lies outside of it; 1 for an estimate within."""
    if effect.se is None:
        return None
    return float(two_sided(max(abs(effect.estimate) - margin, 0.0), effect.se, effect.df))


def _agrees(sign: str, gap: float, margin: float) -> bool:
    return gap > 0 if sign == ">" else gap < 0 if sign == "<" else abs(gap) <= margin + 1e-9


def _common_seeds(cells: Sequence[Cell], tasks: Sequence[str], results: CellValues) -> tuple[int, ...]:
    """Seeds with a finite value of every task in every cell."""
    arms = [results.get(cell_key(cell), {}) for cell in cells]
    found = [{seed for seed, v in arm.get(task, {}).items() if math.isfinite(v)} for arm in arms for task in tasks]
    return tuple(sorted(set.intersection(*found))) if found else ()


def _measure(
    linear: Linear,
    estimand: str,
    tasks: Sequence[str],
    results: CellValues,
    seeds: Sequence[int],
    exact: bool | None,
    paired: bool,
) -> Effect:
    """The weighted sum; the other cells that the claim's `where` keeps help to estimate the spread."""
    weights = {cell_key(cell): weight for weight, cell in linear.weights}
    others = [key for key in results if key not in weights]
    arms = [
        {task: {seed: results.get(key, {}).get(task, {}).get(seed, math.nan) for seed in seeds} for task in tasks}
        for key in (*weights, *others)
    ]
    every = [*weights.values(), *([0.0] * len(others))]
    effect = contrast(arms, every, paired=paired, estimand=estimand, exact=exact)
    return _shifted(effect, -linear.constant)


def _at(effect: Effect, level: float) -> Effect:
    """The effect with the interval of another level."""
    low, high = effect.interval(level) or (None, None)
    return dataclasses.replace(effect, low=low, high=high, level=level)


def _shifted(effect: Effect, target: float) -> Effect:
    """The effect less the constant that it is compared with."""
    low, high = (None if end is None else end - target for end in (effect.low, effect.high))
    gap = effect.estimate - target
    if effect.exact and abs(gap) <= ROUNDING * abs(target):  # what rounding left of none
        low = high = gap = 0.0
    return dataclasses.replace(effect, estimate=gap, low=low, high=high)


def _value(linear: Linear, tasks: Sequence[str], results: CellValues, seeds: Sequence[int]) -> float:
    """The weighted sum, averaged over tasks and seeds."""
    terms = [
        weight * math.fsum(results[cell_key(cell)][task][seed] for task in tasks for seed in seeds)
        for weight, cell in linear.weights
    ]
    return math.fsum(terms) / (len(tasks) * len(seeds)) + linear.constant


def _signed(side: Linear, tasks: Sequence[str], results: CellValues, seeds: Sequence[int]) -> Linear:
    """The side as it counts in its absolute value: turned where its estimate is negative."""
    return _sum(Linear(()), side, -1.0 if seeds and _value(side, tasks, results, seeds) < 0 else 1.0)


def _sum(one: Linear, other: Linear, factor: float) -> Linear:
    """one + factor × other; a cell of both has the sum of its weights."""
    weights: dict[str, float] = {}
    cells: dict[str, Cell] = {}
    for scale, linear in ((1.0, one), (factor, other)):
        for weight, cell in linear.weights:
            cells[cell_key(cell)] = cell
            weights[cell_key(cell)] = weights.get(cell_key(cell), 0.0) + scale * weight
    kept = tuple((weight, cells[key]) for key, weight in weights.items() if abs(weight) > 1e-12)
    return Linear(kept, one.constant + factor * other.constant)
