"""The difference of two arms over tasks and seeds, with its estimand named.

*These tasks*: the tasks are fixed, only seeds vary. *Tasks like these*: the tasks are a sample too. The two differ
exactly where the arms' order depends on the task. An arm is a mapping task -> seed -> value; what is missing is absent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reports.stats.pooling import contrasts
from reports.stats.ranks import RankTest, rank_sum, signed_rank
from reports.stats.student import Floats, satterthwaite, t_quantile, two_sided

Arm = Mapping[str, Mapping[int, float]]
"""task -> seed -> value. The same seed in two tasks is the same run, evaluated twice."""

ESTIMANDS = ("these tasks", "tasks like these")


@dataclass(frozen=True)
class Effect:
    """A difference a - b, in the units of the metric, and what is known of it."""

    estimate: float
    """Mean over tasks, each of the same weight; NaN where no task has both arms."""
    low: float | None
    """Interval; None where there can be none, and `reason` says why."""
    high: float | None
    level: float
    n_seeds: int
    """Seeds (pairs of seeds, where paired) that the task with the fewest has in both arms."""
    n_tasks: int
    df: float | None
    se: float | None
    """Standard error of the estimate."""
    sd: float | None
    """Standard deviation of a seed's difference (these tasks) or of the tasks' differences (tasks like these)."""
    p: float | None
    """Two-sided, of no difference, by the t test that belongs to the interval."""
    rank: RankTest | None
    """Wilcoxon's test over tasks or seeds; refused where it could not reach significance. None without data."""
    method: str
    estimand: str
    tasks: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    """Tasks that only one of the arms has: they are in no number here."""
    reason: str = ""

    @property
    def size(self) -> float | None:
        """Standardised effect: Hedges' correction of estimate / sd; None without a spread."""
        if not self.sd or self.df is None:
            return None
        return self.estimate / self.sd * hedges_correction(self.df)

    def interval(self, level: float) -> tuple[float, float] | None:
        """The interval of another level, from the same standard error."""
        if self.se is None or self.df is None:
            return None
        half = t_quantile(self.df, (1 + level) / 2) * self.se
        return self.estimate - half, self.estimate + half


BANCROFT = 0.25
"""p of the F test below which seeds count as moving all tasks together (Bancroft's level for preliminary tests)."""


def difference(
    a: Arm,
    b: Arm,
    paired: bool,
    estimand: str = "these tasks",
    level: float = 0.95,
    others: Sequence[Arm] = (),
    together: bool | None = None,
) -> Effect:
    """The mean difference a - b over the tasks that both arms have.

    `paired`: the same seed in both arms means the same data order and initialisation; differences are taken by seed.
    `others`: further arms of the same table; where all have the same spread, the error is pooled over them, which
    narrows the interval at two or three seeds. `together`: a seed's run moves all its tasks together, so that its
    mean over tasks is the unit; None decides by an F test. Values that are not finite count as missing.
    """
    if estimand not in ESTIMANDS:
        raise ValueError(f"estimand '{estimand}'; choose one of {', '.join(ESTIMANDS)}")
    tasks, values = _aligned([a, b, *others], paired)
    used = frozenset(tasks)
    dropped = tuple(sorted((set(a) | set(b)) - used))
    if not tasks:
        reason = "no task has both arms" + (" at a common seed" if paired else "")
        found = _Found(math.nan, None, None, None, None, "", reason)
        return _effect(found, level, estimand, 0, tasks, dropped)
    found = _these_tasks(values, paired, together) if estimand == "these tasks" else _tasks_like_these(values)
    n_seeds = int(np.isfinite(values[:2]).sum(axis=2).min())
    return _effect(found, level, estimand, n_seeds, tasks, dropped)


@dataclass(frozen=True)
class _Found:
    estimate: float
    se: float | None
    df: float | None
    sd: float | None
    rank: RankTest | None
    method: str
    reason: str = ""


def _effect(
    found: _Found, level: float, estimand: str, n_seeds: int, tasks: tuple[str, ...], dropped: tuple[str, ...]
) -> Effect:
    low = high = p = None
    if found.se is not None and found.df is not None:
        half = t_quantile(found.df, (1 + level) / 2) * found.se
        low, high = found.estimate - half, found.estimate + half
        p = float(two_sided(found.estimate, found.se, found.df))
    return Effect(
        found.estimate, low, high, level, n_seeds, len(tasks), found.df, found.se, found.sd, p, found.rank,
        found.method, estimand, tasks, dropped, found.reason,
    )  # fmt: skip


def _aligned(arms: Sequence[Arm], paired: bool) -> tuple[tuple[str, ...], Floats]:
    """The tasks that the first two arms have, and values (arms, tasks, seeds) with NaN where missing.

    Paired, what only one of the two has is left out, and so are other arms that lack any of the rest.
    """
    tasks = sorted(set(arms[0]) & set(arms[1]))
    seeds = sorted({seed for arm in arms for task in tasks for seed in arm.get(task, {})})
    values = np.array(
        [[[arm.get(task, {}).get(seed, math.nan) for seed in seeds] for task in tasks] for arm in arms]
    ).reshape(len(arms), len(tasks), len(seeds))
    values[~np.isfinite(values)] = np.nan
    if paired:
        values[:2, np.isnan(values[:2]).any(axis=0)] = np.nan
    there = np.isfinite(values[:2]).any(axis=2).all(axis=0)
    values = values[:, there]
    if paired and values.size:
        values[:, np.isnan(values[0])] = np.nan
        values = values[[True, True, *(np.isfinite(values[2:]) == np.isfinite(values[0])).all(axis=(1, 2))]]
    return tuple(task for task, kept in zip(tasks, there, strict=True) if kept), values


def _these_tasks(values: Floats, paired: bool, together: bool | None) -> _Found:
    """Only seeds vary. Either the tasks of a seed are independent, or its mean over tasks is the unit."""
    estimate = float(np.mean(np.nanmean(values[0], axis=1) - np.nanmean(values[1], axis=1)))
    units = values.mean(axis=1)  # (arms, seeds): NaN where a seed lacks a task
    rank = _rank(units, paired)
    if together is None:
        together = len(values) > 2 or values.shape[1] == 1 or _moves_together(values, paired) < BANCROFT
    if not together:
        return _by_task(values, estimate, paired, rank)
    if not np.isfinite(units[:2]).any(axis=1).all():
        return _Found(estimate, None, None, None, None, "", "no seed has every task in both arms")
    found = contrasts(units, 1, paired)
    method = found.method if values.shape[1] == 1 else f"{found.method}, each seed's mean over tasks"
    if not math.isfinite(found.se[0]):
        return _Found(float(found.estimate[0]), None, None, None, rank, method, ONE_SEED)
    return _Found(float(found.estimate[0]), float(found.se[0]), float(found.df[0]), float(found.sd[0]), rank, method)


ONE_SEED = "one seed (n = 1) tells nothing of the spread over seeds"


def _rank(units: Floats, paired: bool) -> RankTest:
    a, b = units[0], units[1]
    if paired:
        return signed_rank([float(d) for d in a - b if math.isfinite(d)])
    return rank_sum([float(v) for v in a if math.isfinite(v)], [float(v) for v in b if math.isfinite(v)])


def _by_task(values: Floats, estimate: float, paired: bool, rank: RankTest) -> _Found:
    """Variances of all tasks pooled, each of its own size, with Welch and Satterthwaite's degrees of freedom."""
    samples = values[0] - values[1] if paired else values[:2].reshape(-1, values.shape[2])
    counts = np.isfinite(samples).sum(axis=1)
    many = counts > 1
    method = "t, variance pooled over tasks (Welch-Satterthwaite)"
    method = f"seed-paired {method}" if paired else method
    if not many.any():
        return _Found(estimate, None, None, None, rank, method, ONE_SEED)
    variances = np.nanvar(samples[many], axis=1, ddof=1)
    parts = np.full(len(samples), float(np.mean(variances)))  # a task of one seed is given the others' variance
    parts[many] = variances
    parts /= counts
    se = math.sqrt(float(np.sum(parts))) / values.shape[1]
    df = satterthwaite(parts[many], counts[many] - 1)
    return _Found(estimate, se, df, math.sqrt(float(np.mean(variances))), rank, method)


def _moves_together(values: Floats, paired: bool) -> float:
    """p of the F test that seeds have no effect common to the tasks; 1 where that cannot be asked."""
    from scipy.special import fdtrc

    between = within = 0.0
    dfs = 0
    tables = [values[0] - values[1]] if paired else [values[0], values[1]]
    for table in tables:
        whole = table[:, np.isfinite(table).all(axis=0)]
        tasks, seeds = whole.shape
        if min(tasks, seeds) < 2:
            continue
        centred = whole - whole.mean(axis=1, keepdims=True)
        common = centred.mean(axis=0)
        between += tasks * float(np.sum(common**2))
        within += float(np.sum((centred - common) ** 2))
        dfs += seeds - 1
    if not dfs:
        return 1.0
    if within <= 0:
        return 0.0 if between > 0 else 1.0
    tasks = values.shape[1]
    return float(fdtrc(dfs, dfs * (tasks - 1), between / within * (tasks - 1)))


def _tasks_like_these(values: Floats) -> _Found:
    """The tasks are a sample: Student's t over the tasks' differences, however many seeds stand behind each."""
    deltas = np.nanmean(values[0], axis=1) - np.nanmean(values[1], axis=1)
    estimate, n = float(np.mean(deltas)), len(deltas)
    rank = signed_rank([float(delta) for delta in deltas])
    if n < 2:
        return _Found(estimate, None, None, None, rank, "paired t over tasks", "one task tells nothing of other tasks")
    sd = float(np.std(deltas, ddof=1))
    return _Found(estimate, sd / math.sqrt(n), n - 1.0, sd, rank, "paired t over tasks")


def hedges_correction(df: float) -> float:
    """Hedges' small-sample correction of a standardised difference (exact form: Hedges 1981)."""
    return math.exp(math.lgamma(df / 2) - math.lgamma((df - 1) / 2)) / math.sqrt(df / 2) if df > 1 else 1.0


def hedges_g(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Hedges' g of two independent samples; None for fewer than two values in either, or without spread.

    >>> round(hedges_g([2, 4, 6], [1, 3, 5]), 3)
    0.399
    """
    if min(len(a), len(b)) < 2:
        return None
    df = len(a) + len(b) - 2
    pooled = ((len(a) - 1) * np.var(a, ddof=1) + (len(b) - 1) * np.var(b, ddof=1)) / df
    gap = float(np.mean(a) - np.mean(b))
    return gap / math.sqrt(pooled) * hedges_correction(df) if pooled > 0 else None


def superiority(a: Sequence[float], b: Sequence[float]) -> float:
    """P(A > B): share of pairs in which a's value is the larger; ties count half (Vargha and Delaney 2000).

    >>> superiority([1.0, 3.0], [0.0, 1.0])
    0.875
    """
    gaps = np.subtract.outer(np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64))
    return float(np.mean((gaps > 0) + 0.5 * (gaps == 0)))
