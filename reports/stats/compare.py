"""Differences of arms over tasks and seeds, with their estimand named.

*These tasks*: the tasks are fixed, only seeds vary. *Tasks like these*: the tasks are a sample too. The two differ
exactly where the arms' order depends on the task. An arm is a mapping task -> seed -> value; what is missing is absent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ablative.reports.stats.exact import SAME, same_in_every_seed
from ablative.reports.stats.moderated import ROUNDING, contrasts
from ablative.reports.stats.ranks import RankTest, rank_sum, signed_rank
from ablative.reports.stats.student import Floats, satterthwaite, t_quantile, two_sided

Sample = Mapping[str, Mapping[int, float]]
"""task -> seed -> value. The same seed in two tasks is the same run, evaluated twice."""

ESTIMANDS = ("these tasks", "tasks like these")
ONE_SEED = "one seed (n = 1) tells nothing of the spread over seeds"
NO_SPREAD = "the seeds do not differ: nothing is known of their spread"


@dataclass(frozen=True)
class Effect:
    """A difference a - b (or another contrast), in the units of the metric, and what is known of it."""

    estimate: float
    """Mean over tasks, each of the same weight; NaN where no task has all arms."""
    low: float | None
    """Interval; None where there can be none, and `reason` says why."""
    high: float | None
    level: float
    n_seeds: int
    """Seeds (pairs of seeds, where paired) of the arm and task that has the fewest."""
    n_tasks: int
    df: float | None
    se: float | None
    """Standard error of the estimate."""
    sd: float | None
    """Standard deviation of a seed's difference (these tasks) or of the tasks' differences (tasks like these)."""
    p: float | None
    """Two-sided, of no difference, by the t test that belongs to the interval."""
    rank: RankTest | None
    """Wilcoxon's test over seeds or tasks; refused where it could not reach significance. None for other contrasts."""
    method: str
    estimand: str
    tasks: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    """Tasks that not every arm has: they are in no number here."""
    reason: str = ""
    free: float | None = None
    """Degrees of freedom before those of all arms together limit them; None where variances are not moderated."""
    arms: int = 0
    """Number of arms with a weight."""
    alone: bool = False
    """No other arm helps to estimate the spread of a difference of two."""
    exact: bool = False
    """The same in every seed: both ends of the interval are the estimate, and there is no test."""

    @property
    def size(self) -> float | None:
        """Standardised effect: estimate / sd with Hedges' correction; None without a spread."""
        if not self.sd or self.df is None:
            return None
        return self.estimate / self.sd * hedges_correction(self.df)

    def interval(self, level: float) -> tuple[float, float] | None:
        """The interval of another level, from the same standard error."""
        if self.exact:
            return self.estimate, self.estimate
        if self.se is None or self.df is None:
            return None
        half = t_quantile(self.df, (1 + level) / 2) * self.se
        return self.estimate - half, self.estimate + half


def difference(
    a: Sample,
    b: Sample,
    paired: bool,
    estimand: str = "these tasks",
    level: float = 0.95,
    others: Sequence[Sample] = (),
    together: bool = True,
    exact: bool | None = None,
) -> Effect:
    """The mean difference a - b over the tasks that both arms have; see `contrast`."""
    weights = [1.0, -1.0] + [0.0] * len(others)
    return contrast([a, b, *others], weights, paired, estimand, level, together, exact)


def contrast(
    arms: Sequence[Sample],
    weights: Sequence[float],
    paired: bool,
    estimand: str = "these tasks",
    level: float = 0.95,
    together: bool = True,
    exact: bool | None = None,
) -> Effect:
    """A weighted sum of arms, averaged over the tasks that all arms with a weight have.

    `paired`: the same seed means the same data order and initialisation in all arms; contrasts are taken by seed.
    Arms of weight 0 only add to the estimate of the spread: each arm's variance is drawn towards that of all, which
    narrows the interval at two or three seeds. Two arms alone have their own error. `together`: the tasks of a seed are
    evaluations of one run, which moves them together, so that a seed's mean over tasks is the unit; False where every
    task has separate runs, whose variances are pooled. Treating evaluations of one run as independent covers 40 to 80 %
    instead of 95 % (`tests/benchmarks/bench_statistics.py`). Values that are not finite count as missing.
    `exact`: what is declared of the metrics, for values that no seed changes (`same_in_every_seed`).
    """
    if estimand not in ESTIMANDS:
        raise ValueError(f"estimand '{estimand}'; choose one of {', '.join(ESTIMANDS)}")
    chosen = np.asarray(weights, dtype=np.float64)
    used = [arm for arm, weight in zip(arms, weights, strict=True) if weight]
    paired = paired and abs(float(chosen.sum())) < ROUNDING
    tasks, values = _aligned(used, [arm for arm, weight in zip(arms, weights, strict=True) if not weight], paired)
    dropped = tuple(sorted({task for arm in used for task in arm} - set(tasks)))
    chosen = chosen[chosen != 0]
    if not tasks:
        reason = "no task has every arm" + (" at a common seed" if paired else "")
        return _effect(_Found(math.nan, "", reason=reason), level, estimand, 0, tasks, dropped, len(used))
    estimator = _these_tasks if estimand == ESTIMANDS[0] else _sampled
    found = estimator(values, chosen, paired, together, exact)
    n_seeds = int(np.isfinite(values[: len(used)]).sum(axis=2).min())
    return _effect(found, level, estimand, n_seeds, tasks, dropped, len(used))


@dataclass(frozen=True)
class _Found:
    estimate: float
    method: str
    se: float | None = None
    df: float | None = None
    sd: float | None = None
    rank: RankTest | None = None
    reason: str = ""
    free: float | None = None
    alone: bool = False
    exact: bool = False


def _effect(
    found: _Found,
    level: float,
    estimand: str,
    n_seeds: int,
    tasks: tuple[str, ...],
    dropped: tuple[str, ...],
    arms: int,
) -> Effect:
    if found.se == 0:
        found = replace(found, se=None, df=None, sd=None, reason=NO_SPREAD)
    low = high = p = None
    if found.exact:
        low = high = found.estimate
    if found.se is not None and found.df is not None:
        half = t_quantile(found.df, (1 + level) / 2) * found.se
        low, high = found.estimate - half, found.estimate + half
        p = float(two_sided(found.estimate, found.se, found.df))
    return Effect(
        found.estimate, low, high, level, n_seeds, len(tasks), found.df, found.se, found.sd, p, found.rank,
        found.method, estimand, tasks, dropped, found.reason, found.free, arms, found.alone, found.exact,
    )  # fmt: skip


def _aligned(used: Sequence[Sample], others: Sequence[Sample], paired: bool) -> tuple[tuple[str, ...], Floats]:
    """The tasks that all used arms have, and values (arms, tasks, seeds), used arms first, NaN where missing.

    Paired, only seeds stay that all used arms have, and only those other arms that have all of these.
    """
    arms, k = [*used, *others], len(used)
    tasks = sorted(set.intersection(*(set(arm) for arm in used)))
    seeds = sorted({seed for arm in arms for task in tasks for seed in arm.get(task, {})})
    values = np.array(
        [[[arm.get(task, {}).get(seed, math.nan) for seed in seeds] for task in tasks] for arm in arms],
        dtype=np.float64,
    ).reshape(len(arms), len(tasks), len(seeds))
    values[~np.isfinite(values)] = np.nan
    if paired:
        values[:, np.isnan(values[:k]).any(axis=0)] = np.nan
    there = np.asarray(np.isfinite(values[:k]).any(axis=2).all(axis=0))
    values = values[:, there]
    if paired:
        same = (np.isfinite(values) == np.isfinite(values[:1])).all(axis=(1, 2))
        values = values[same]
    return tuple(task for task, kept in zip(tasks, there, strict=True) if kept), values


def _these_tasks(values: Floats, weights: Floats, paired: bool, together: bool, exact: bool | None) -> _Found:
    """Only seeds vary. Either a seed's mean over tasks is the unit, or the tasks are independent."""
    k = len(weights)
    units = values.mean(axis=1)  # (arms, seeds): NaN where a seed lacks a task
    rank = _rank(units[:k], weights, paired)
    if not together and values.shape[1] > 1:
        return _by_task(values[:k], weights, paired, rank)
    if not np.isfinite(units[:k]).any(axis=1).all():
        estimate = float(np.mean(weights @ np.nanmean(values[:k], axis=2)))
        return _Found(estimate, "", reason="some arm has no seed with every task")
    found = contrasts(units, np.concatenate([weights, np.zeros(len(units) - k)])[None], paired)
    method = found.method if values.shape[1] == 1 else f"{found.method}, over each seed's mean of the tasks"
    estimate, se, df, sd, free = (
        float(array[0]) for array in (found.estimate, found.se, found.df, found.sd, found.free)
    )
    if same_in_every_seed(values, k, paired, exact):
        return _Found(estimate, SAME, exact=True)
    if not math.isfinite(se):
        repeated = bool((np.isfinite(units[:k]).sum(axis=1) > 1).all())
        return _Found(estimate, method, rank=rank, reason=NO_SPREAD if repeated else ONE_SEED)
    alone = k == 2 and int(np.isfinite(units).any(axis=1).sum()) == 2
    return _Found(estimate, method, se, df, sd, rank, free=free, alone=alone)


def _rank(units: Floats, weights: Floats, paired: bool) -> RankTest | None:
    """Wilcoxon's test over seeds, where the contrast is a plain difference."""
    if sorted(weights) != [-1.0, 1.0]:
        return None
    a, b = units
    if paired:
        return signed_rank([float(delta) for delta in a - b if math.isfinite(delta)])
    return rank_sum([float(v) for v in a if math.isfinite(v)], [float(v) for v in b if math.isfinite(v)])


def _by_task(values: Floats, weights: Floats, paired: bool, rank: RankTest | None) -> _Found:
    """Variances of all tasks pooled, each with its size, with Welch and Satterthwaite's degrees of freedom."""
    means = np.nanmean(values, axis=2)
    estimate = float(np.mean(weights @ means))
    # Samples (samples, seeds) whose errors are independent, and the factor with which each enters a task's contrast.
    samples = np.tensordot(weights, values, 1) if paired else values.reshape(-1, values.shape[2])
    factors = np.ones(len(samples)) if paired else np.repeat(weights, values.shape[1])
    counts = np.isfinite(samples).sum(axis=1)
    many = counts > 1
    method = ("seed-paired " if paired else "") + "t, variance pooled over tasks (Welch-Satterthwaite)"
    if not many.any():
        return _Found(estimate, method, rank=rank, reason=ONE_SEED)
    variances = np.full(len(samples), np.nan)
    variances[many] = np.nanvar(samples[many], axis=1, ddof=1)
    variances[~many] = float(np.mean(variances[many]))  # one seed is given the spread of the others
    parts = factors**2 * variances / counts
    se = math.sqrt(float(np.sum(parts))) / values.shape[1]
    sd = math.sqrt(float(np.sum(factors**2 * variances)) / values.shape[1])
    return _Found(estimate, method, se, satterthwaite(parts[many], counts[many] - 1), sd, rank)


def _sampled(values: Floats, weights: Floats, paired: bool, together: bool, exact: bool | None) -> _Found:
    """The tasks are a sample: Student's t over the tasks' contrasts; where runs move tasks together, seeds are too."""
    k = len(weights)
    deltas = weights @ np.nanmean(values[:k], axis=2)
    estimate, n, method = float(np.mean(deltas)), len(deltas), "paired t over tasks"
    rank = signed_rank([float(delta) for delta in deltas]) if abs(float(weights.sum())) < ROUNDING else None
    if n < 2:
        return _Found(estimate, method, rank=rank, reason="one task tells nothing of other tasks")
    sd = float(np.std(deltas, ddof=1))
    tasks = _Found(estimate, method, sd / math.sqrt(n), n - 1.0, sd, rank)
    if not together:
        return tasks
    seeds = _these_tasks(values, weights, paired, together, exact)
    if seeds.exact:
        return tasks
    if seeds.se is None:
        return replace(tasks, method=f"{method} (what moves all tasks of a run is not in it: {seeds.reason})")
    shared = _residual(values[:k], weights, paired)
    assert tasks.se is not None and seeds.df is not None
    square = max(tasks.se**2 + seeds.se**2 - shared, tasks.se**2, seeds.se**2)
    se, df = math.sqrt(square), satterthwaite([tasks.se**2, seeds.se**2], [n - 1.0, seeds.df])
    if se * t_quantile(df, 0.975) < seeds.se * t_quantile(seeds.df, 0.975):
        # What is not known of these tasks is not known of tasks like these: never the narrower interval.
        se, df = seeds.se, seeds.df
    return _Found(estimate, "t over tasks and seeds (crossed, Satterthwaite)", se, df, sd, rank)


def _residual(values: Floats, weights: Floats, paired: bool) -> float:
    """What the errors over tasks and over seeds share: the variance of the mean due to task and seed together."""
    tables = [(1.0, np.tensordot(weights, values, 1))] if paired else list(zip(weights, values, strict=True))
    total = 0.0
    for weight, table in tables:
        whole = table[:, np.isfinite(table).all(axis=0)]
        tasks, seeds = whole.shape
        if seeds > 1:
            rest = whole - whole.mean(axis=1, keepdims=True) - whole.mean(axis=0) + whole.mean()
            total += weight**2 * float(np.sum(rest**2)) / ((tasks - 1) * (seeds - 1) * tasks * seeds)
    return total


def hedges_correction(df: float) -> float:
    """Hedges' small-sample correction of a standardised difference (exact form, 1981); 1 for one degree of freedom."""
    return math.exp(math.lgamma(df / 2) - math.lgamma((df - 1) / 2)) / math.sqrt(df / 2) if df > 1 else 1.0
