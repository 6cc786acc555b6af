"""Statistics against values worked out by hand, against scipy, and against small simulations of what they promise."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from ablative.reports.stats.best import best_set
from ablative.reports.stats.columns import compare_rows
from ablative.reports.stats.compare import difference
from ablative.reports.stats.decide import holm, seeds_needed, tost, verdict
from ablative.reports.stats.factorial import analyse, full_grid
from ablative.reports.stats.moderated import against, contrasts, moderate, resolution
from ablative.reports.stats.ranks import rank_sum, signed_rank
from ablative.reports.stats.suite import aggregate, improvement, improves, interquartile_mean, suite_mean

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from bench_statistics import Setting, arm, cell_coverage, coverage, false_equivalence

A, B = np.array([[71.0, 73.0, 72.5]]), np.array([[70.0, 70.5, 71.0]])


UNRUN = """
import sys
from ablative.reports.stats import special
assert "scipy.special._basic" not in sys.modules, "the whole package was imported"
import scipy
from scipy.special import logsumexp
assert scipy.special.stdtrit is special.stdtrit and logsumexp([0.0]) == 0
with scipy.special.errstate(all="raise"):
    try:
        scipy.special.gamma(-1)
        raise SystemExit("errors of other modules' functions are not raised")
    except scipy.special.SpecialFunctionError:
        pass
import scipy.stats
assert scipy.stats.t.ppf(0.975, 5.5) == special.stdtrit(5.5, 0.975)
del scipy.special._ufuncs.stdtrit, sys.modules["ablative.reports.stats.special"]
from ablative.reports.stats.special import stdtrit
assert stdtrit is special.stdtrit, "a SciPy that keeps it elsewhere"
"""


def test_scipys_functions_come_without_their_package_and_leave_it_whole() -> None:
    subprocess.run([sys.executable, "-c", UNRUN], check=True, timeout=60)


def test_one_task_is_scipys_t_test() -> None:
    paired = difference(arm(A), arm(B), paired=True)
    theirs = stats.ttest_rel(A[0], B[0])
    assert paired.p == pytest.approx(theirs.pvalue, rel=1e-10)
    assert (paired.low, paired.high) == pytest.approx(tuple(theirs.confidence_interval()), rel=1e-10)
    apart = difference(arm(A), arm(B), paired=False)
    welch = stats.ttest_ind(A[0], B[0], equal_var=False)
    assert (apart.p, apart.df) == pytest.approx((welch.pvalue, welch.df), rel=1e-10)
    assert apart.method == "Welch's t" and apart.estimate == pytest.approx(5 / 3)


def test_the_two_estimands_by_hand() -> None:
    a = np.array([[1.0, 3.0], [10.0, 12.0]])
    b = np.array([[0.0, 0.0], [10.0, 9.0]])  # differences 1, 3 and 0, 3: seeds' means .5 and 3
    these = difference(arm(a), arm(b), paired=True)
    assert (these.estimate, these.df, these.sd) == pytest.approx((1.75, 1, math.sqrt(3.125)))
    apart = difference(arm(a), arm(b), paired=True, together=False)
    # variances 2 and 4.5 of two seeds each: se² = (1 + 2.25) / 4, df = 3.25² / (1 + 2.25²)
    assert (apart.se, apart.df) == pytest.approx((math.sqrt(3.25) / 2, 3.25**2 / (1 + 2.25**2)))
    alike = difference(arm(a), arm(b), paired=True, estimand="tasks like these", together=False)
    theirs = stats.ttest_1samp([2.0, 1.5], 0)
    assert alike.p == pytest.approx(theirs.pvalue) and alike.df == 1


def test_what_is_missing_is_said_and_never_averaged_over() -> None:
    a = {"x": {0: 1.0, 1: 2.0}, "y": {0: 5.0, 1: 6.0}, "only a": {0: 50.0}}
    b = {"x": {0: 0.0, 1: 1.5, 2: 9.0}, "y": {0: 4.0, 1: math.nan}, "only b": {0: 1.0}}
    found = difference(a, b, paired=True)
    assert found.tasks == ("x", "y") and found.dropped == ("only a", "only b")
    assert found.n_seeds == 1 and found.low is None and "n = 1" in found.reason
    assert found.estimate == 1.0  # seed 0 of both tasks; seed 1 lacks y in b
    none = difference({"x": {0: 1.0}}, {"x": {1: 1.0}}, paired=True)
    assert math.isnan(none.estimate) and none.reason == "no task has every arm at a common seed"


def test_one_seed_gets_no_interval() -> None:
    one = difference({"x": {0: 3.0}}, {"x": {0: 1.0}}, paired=True)
    assert (one.estimate, one.low, one.p, one.size) == (2.0, None, None, None)
    assert verdict(one, 5.0) == "inconclusive" and tost(one, 5.0) is None
    assert seeds_needed(one).n is None and "one seed" in seeds_needed(one).reason
    assert np.isnan(contrasts(np.array([[1.0], [2.0], [4.0]]), against(3, 0), paired=True).se).all()


Rule = tuple[np.ndarray, np.ndarray, np.ndarray, float]


def by_the_rule(values: np.ndarray) -> Rule:
    """Means, variances of the means, their degrees of freedom and the column's, one row after the other."""
    rows = [row[np.isfinite(row)] for row in values]
    moving = [i for i, row in enumerate(rows) if len(row) > 1 and np.ptp(row) > 0]
    complete = len({tuple(np.isfinite(row)) for row in values if np.isfinite(row).any()}) == 1 and len(moving) > 1
    variances = np.array([np.var(row, ddof=1) if len(row) > 1 else 0.0 for row in rows])
    total = sum(len(rows[i]) - 1 for i in moving)
    if complete:
        n, k = len(rows[0]), len(moving)
        block = np.mean([rows[i] - rows[i].mean() for i in moving], axis=0)
        for i in moving:
            variances[i] = np.sum((rows[i] - rows[i].mean() - block) ** 2) / (n - 1) * k / (k - 1)
        total = (k - 1) * (n - 1)
    freedom = np.array([max(len(row) - 1, 0) for row in rows])
    shared = sum(freedom[i] * variances[i] for i in moving) / sum(freedom[i] for i in moving)
    drawn = [max((2 * shared + f * own) / (2 + f), own) for f, own in zip(freedom, variances, strict=True)]
    means = np.array([row.mean() if len(row) else math.nan for row in rows])
    return means, np.array(drawn) / np.array([max(len(row), 1) for row in rows]), 2.0 + freedom, float(total)


def no_worse(rule: Rule, i: int, j: int) -> float:
    """One-sided p that row i is no worse than row j."""
    means, squares, dfs, total = rule
    variance = squares[i] + squares[j]
    df = min(variance**2 / (squares[i] ** 2 / dfs[i] + squares[j] ** 2 / dfs[j]), total)
    return float(stats.t.sf((means[j] - means[i]) / math.sqrt(variance), df))


def possible_best(values: np.ndarray) -> list[bool]:
    """The step-down set by single t tests."""
    rule = by_the_rule(values)
    means = rule[0]
    ranking = sorted((i for i in range(len(values)) if math.isfinite(means[i])), key=lambda i: -means[i])
    left, before = set(ranking), set[int]()
    while left != before:
        before = set(left)
        for i in before:
            for j in before - {i}:
                if no_worse(rule, i, j) * max(len(before) - 1, 1) < 0.05:
                    left.discard(i)
    upper = list(itertools.takewhile(lambda i: i in left, ranking))
    return [i in upper for i in range(len(values))]


def columns_of_all_kinds(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(16)
    found = []
    for _ in range(count):
        rows, seeds = int(rng.choice([2, 3, 5, 9])), int(rng.choice([2, 3, 5]))
        scales = np.exp(rng.normal(0, rng.choice([0, 1]), (rows, 1)))
        values = rng.normal(50, rng.choice([0, 3]), (rows, 1)) + scales * rng.normal(size=(rows, seeds)) + math.pi / 100
        values += rng.normal(size=seeds)
        if rng.random() < 0.3:
            values[rng.random(values.shape) < 0.15] = math.nan
        if rng.random() < 0.3:
            values[int(rng.integers(rows))] = 1.25
        found.append(values)
    return found


def test_marks_and_contrasts_follow_the_rule() -> None:
    """Against the rule written out row by row; and whatever order rows and seeds have, in whatever unit."""
    sizes = set()
    for values in columns_of_all_kinds(120):
        found = moderate(values)
        if found is None:
            continue
        inside = best_set(found, 1).inside.tolist()
        assert inside == possible_best(values)
        sizes.add(sum(inside))
        means, squares, dfs, total = by_the_rule(values)
        there = np.flatnonzero(np.isfinite(means))
        if len(there) > 2:
            weights = np.zeros(len(values))
            weights[there[:3]] = [1.0, -0.5, -0.5]
            own = contrasts(values, weights[None], paired=True)
            parts = (weights**2 * squares)[there[:3]]
            assert own.se[0] == pytest.approx(math.sqrt(parts.sum()))
            assert own.df[0] == pytest.approx(min(parts.sum() ** 2 / np.sum(parts**2 / dfs[there[:3]]), total))
        turned = moderate(7 - 0.01 * values[::-1, ::-1])
        assert turned is not None and best_set(turned, -1).inside.tolist() == inside[::-1]
    assert {1, 2, 3} <= sizes


def test_the_test_that_a_mark_quotes_is_the_closest_of_all() -> None:
    """Freedoms and variances differ, so that the largest t need not have the smallest p."""
    rng, quoted = np.random.default_rng(3), 0
    for _ in range(30):
        values = 50 + rng.normal(size=(8, 4)) * np.exp(rng.normal(0, 1.5, (8, 1)))
        values[rng.random(values.shape) < 0.25] = math.nan
        found = moderate(values)
        if found is None or not (found.counts > 0).all() or not (sets := best_set(found, 1)).inside.all():
            continue
        rule = by_the_rule(values)
        for i in range(len(values)):
            tests = {j: no_worse(rule, i, j) for j in range(len(values)) if found.means[j] > found.means[i]}
            rival = min(tests, key=lambda j: tests[j], default=None)
            if rival is not None and tests[rival] < 0.05:
                assert sets.rival[i] == rival
                assert sets.p[i] == pytest.approx(min(7 * tests[rival], 1))
                quoted += 1
    assert quoted > 20


def test_one_row_of_equal_seeds_changes_nothing_for_the_others() -> None:
    rows = np.array([[30.25, 31.0], [29.5, 30.75], [17.25, 19.0], [8.5, 9.25]])
    marks = [compare_rows(np.vstack([rows, [[at, at]]]), "{:.1f}".format, 1, None).best for at in (1.25, 12.5)]
    assert marks[0] == marks[1] == [True, True, False, False, False]
    # a noisy leader does not shield what a steady second is certain to beat
    noisy = np.array([[26.7, 34.5], [29.75, 29.75], [18.0, 18.75], [17.25, 16.75], [15.5, 16.25], [1.25, 1.25]])
    assert compare_rows(noisy, "{:.1f}".format, 1, None).best[:2] == [True, True]
    assert not any(compare_rows(noisy, "{:.1f}".format, 1, None).best[2:])


def test_two_rows_alone_have_their_own_error() -> None:
    two = np.array([[71.0, 73.0, 72.5], [70.0, 70.5, 71.0]])
    alone = difference(arm(two[:1]), arm(two[1:]), paired=True)
    assert alone.alone and alone.method == "seed-paired t, own error of two rows alone" and alone.df == 2
    more = difference(arm(two[:1]), arm(two[1:]), paired=True, others=[arm(np.array([[60.0, 63.0, 61.0]]))])
    assert not more.alone and more.df is not None and 2 < more.df <= 4


def test_too_few_seeds_are_not_tested_and_marked_as_printed() -> None:
    two = compare_rows(np.array([[90.5, 91.5], [20.25, 23.0]]), "{:.1f}".format, 1, 1)
    assert not two.tested and two.too_few == 2 and two.best == [True, False]
    assert two.deltas[0] is not None and two.deltas[0].low is not None  # the interval is as wide as it has to be
    three = compare_rows(np.array([[90.5, 91.5, 91.0], [20.25, 23.0, 21.0]]), "{:.1f}".format, 1, None)
    assert three.tested and not three.too_few and three.best == [True, False]


def test_a_column_of_equals_has_no_mark() -> None:
    close = np.array([[50.0, 52.25, 51.0], [52.0, 50.5, 51.5], [51.5, 50.0, 52.5]])
    found = compare_rows(close, "{:.1f}".format, 1, None)
    assert found.tested and found.alike and not any(found.best)
    assert compare_rows(close[:, :1] * 0 + 4.0, "{:.1f}".format, 1, None).alike  # one seed, all print the same
    alone = compare_rows(close[:1], "{:.1f}".format, 1, None)
    assert not alone.alike and alone.best == [False]


@pytest.mark.parametrize(
    ("marks", "best"), [("tested", [True, True, False]), ("best", [True, False, False]), ("none", [False] * 3)]
)
def test_rules_of_marks(marks: str, best: list[bool]) -> None:
    rows = np.array([[80.1, 79.6, 80.6], [80.0, 79.5, 80.3], [60.0, 61.0, 60.5]])
    found = compare_rows(rows, "{:.1f}".format, 1, 2, marks=marks)
    assert found.best == best and found.tested == (marks == "tested")
    assert found.deltas[0] is not None and found.halves[0] is not None


def test_ties_on_the_grid_of_a_test_set_are_no_certainty() -> None:
    """Accuracies over 400 samples: equal seeds, and equal differences of seeds."""
    assert resolution(np.array([[71.25, 73.5], [12.5, 0.0]])) == pytest.approx(0.25)
    assert resolution(np.random.default_rng(0).normal(60, 5, (4, 3))) == 0
    tied = difference(arm(np.array([[71.25, 73.5]])), arm(np.array([[71.0, 73.25]])), paired=True)
    half = stats.t.ppf(0.975, 1) * math.sqrt(2 * 0.25**2 / 12 / 2)
    assert (tied.low, tied.high) == pytest.approx((0.25 - half, 0.25 + half)) and tied.p is not None and tied.p > 0.05
    whole = compare_rows(
        np.array([[71.25, 71.25, 71.25], [12.5, 12.5, 12.5], [13.0, 13.0, 13.0]]), "{:.1f}".format, 1, 1
    )
    assert whole.best == [True, False, False] and all(half is not None and half > 0 for half in whole.halves)
    gap = whole.deltas[0]
    assert gap is not None and gap.low is not None and gap.low < 58.75 and gap.p is not None and gap.p > 0
    zeros = difference(arm(np.zeros((1, 2))), arm(np.zeros((1, 2))), paired=True)
    assert not zeros.exact and zeros.low is None and "do not differ" in zeros.reason


def test_what_no_seed_changes_needs_no_interval() -> None:
    """FLOPs, a deterministic time: off any grid by their values, or declared; never what is declared otherwise."""
    one, other = arm(np.array([[math.pi, math.pi]])), arm(np.array([[math.e, math.e]]))
    found = difference(one, other, paired=True)
    gap = math.pi - math.e
    assert found.exact and (found.low, found.high, found.p) == (pytest.approx(gap), pytest.approx(gap), None)
    assert found.interval(0.9) == (found.estimate, found.estimate)
    assert (tost(found, 0.5), tost(found, 0.4), verdict(found)) == (0, 1, "better")
    assert not difference(one, other, paired=True, exact=False).exact
    # a time with what a seed adds to all arms alike; one seed, and another arm with a spread of its own
    times = [arm(np.array([[2.0137, 2.0513, 2.0071]]) + math.e * i) for i in range(3)]
    assert difference(times[0], times[1], paired=True, others=times[2:]).exact
    assert not difference(times[0], times[1], paired=False, others=times[2:]).exact
    assert not difference(arm(np.array([[math.pi]])), arm(np.array([[math.e]])), paired=True, exact=True).exact
    noisy = arm(np.array([[3.1, 3.3]]) * math.pi)
    assert not difference(one, other, paired=True, others=[noisy]).exact
    assert difference(one, other, paired=True, others=[noisy], exact=True).exact
    # round numbers lie on a grid, as accuracies do: a declaration tells them apart
    flops = arm(np.array([[4e9, 4e9]])), arm(np.array([[17e9, 17e9]]))
    assert not difference(*flops, paired=True).exact and difference(*flops, paired=True, exact=True).exact
    # a mean over test sets of several sizes lies on no coarse grid, and each of its parts does
    k, n = np.array([[31, 47], [12, 9]])[:, :, None], np.array([997, 1009])[:, None]
    means = [arm(np.repeat(row / n, 2, axis=1)) for row in k]
    assert not difference(means[0], means[1], paired=True).exact

    column = compare_rows(np.array([[math.pi] * 2, [math.e] * 2, [1 / 3] * 2]), "{:.1f}".format, -1, 0)
    assert column.exact and not column.tested and column.best == [False, False, True]
    assert column.deltas[1] is not None and column.deltas[1].low is None and set(column.halves) == {None}


def test_rank_tests_are_exact_and_refuse_what_they_cannot_show() -> None:
    rng = np.random.default_rng(1)
    deltas, a, b = rng.normal(0.5, 1, 9), rng.normal(1, 1, 5), rng.normal(0, 1, 6)
    assert signed_rank(deltas.tolist()).p == pytest.approx(stats.wilcoxon(deltas, method="exact").pvalue)
    assert rank_sum(a.tolist(), b.tolist()).p == pytest.approx(stats.mannwhitneyu(a, b, method="exact").pvalue)
    refused = rank_sum([1, 2, 3], [4, 5, 6])
    assert refused.p is None and refused.smallest == pytest.approx(0.1) and "0.1, above 0.05" in refused.reason
    assert signed_rank([1.0] * 5).p is None and signed_rank([1.0] * 6).p == pytest.approx(2 / 64)
    # ties by hand: of the 20 ways to choose 3 of the ranks 1, 2.5, 2.5, 4, 5, 6, one sums to 6
    assert rank_sum([1, 2, 2], [3, 4, 5], alpha=0.2).p == pytest.approx(0.1)


def test_equivalence_is_the_90_percent_interval_within_the_margin() -> None:
    effect = difference(arm(A), arm(B), paired=True)
    ends = effect.interval(0.9)
    assert ends is not None
    edge = max(abs(ends[0]), abs(ends[1]))
    assert tost(effect, edge) == pytest.approx(0.05, abs=1e-9)
    assert verdict(effect, edge * 1.01) == "equivalent" and verdict(effect, edge * 0.99) != "equivalent"
    with pytest.raises(ValueError, match="above 0"):
        tost(effect, 0.0)


def test_verdicts() -> None:
    clear = difference(arm(A + 20), arm(B), paired=True)
    assert (verdict(clear), verdict(clear, direction="lower")) == ("better", "worse")
    assert verdict(difference(arm(B), arm(A + 20), paired=True)) == "worse"
    assert verdict(difference(arm(A), arm(B - 0.5 + A - A[0, 0]), paired=True)) in ("inconclusive", "better")
    with pytest.raises(ValueError, match="direction 'up'"):
        verdict(clear, direction="up")


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, math.nan])[:3] == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0] and holm([]) == []


def test_seeds_needed_has_the_power_it_promises() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(1.0, 1.0, (1, 8)), rng.normal(0.0, 1.0, (1, 8))
    effect = difference(arm(a), arm(b), paired=True)
    assert effect.se is not None and effect.sd is not None
    n = seeds_needed(effect).n
    assert n is not None
    power = [
        float(1 - stats.nct.cdf(stats.t.ppf(0.975, m - 1), m - 1, abs(effect.estimate) / effect.sd * math.sqrt(m)))
        for m in (n - 1, n)
    ]
    assert power[0] < 0.8 <= power[1]
    assert "equivalence" in seeds_needed(effect, margin=10.0).reason
    assert seeds_needed(difference(arm(a), arm(a), paired=True)).n is None


def test_a_column_is_marked_where_it_is_distinguished() -> None:
    noise = np.array([[0.0, 0.2, -0.1], [0.1, -0.1, 0.1], [-0.1, 0.1, 0.0], [0.0, 0.1, 0.1]])
    found = compare_rows(np.array([[80.0], [79.95], [60.0], [50.0]]) + noise, "{:.1f}".format, 1, 3)
    assert found.tested and found.best == [True, True, False, False]
    gap = found.deltas[0]
    assert gap is not None and gap.low is not None and gap.high is not None and gap.low < 30 < gap.high
    assert found.deltas[3] is None
    lower = compare_rows(np.array([[80.0], [79.95], [60.0], [50.0]]) + noise, "{:.1f}".format, -1, None)
    assert lower.best == [False, False, False, True]
    test = lower.tests[0]
    assert test is not None and test.rival == 3 and test.p < 0.001 and 0.05 < test.sd < 0.3


def test_what_prints_alike_shares_its_mark() -> None:
    """Rows that print like the first or like the last that is bold are bold; what is bold stays an upper set."""
    rows = np.array([[80.3, 80.1, 80.2], [79.5, 79.3, 79.4], [79.33, 79.35, 79.37], [60.0, 60.2, 60.1]])
    exact = compare_rows(rows, "{:.3f}".format, 1, None).best
    rounded = compare_rows(rows, "{:.0f}".format, 1, None).best
    assert exact == [True, False, False, False] and rounded == [True, False, False, False]
    coarse = compare_rows(rows, lambda mean: str(round(mean, -1)), 1, None).best
    assert coarse == [True, True, True, False]


def test_one_seed_marks_the_largest_and_tests_nothing() -> None:
    found = compare_rows(np.array([[80.04], [79.96], [70.0], [np.nan]]), "{:.1f}".format, 1, 2)
    assert not found.tested and found.method == ""
    assert found.best == [True, True, False, False]  # both print 80.0
    assert found.halves == [None] * 4 and found.deltas[0] is not None and found.deltas[0].low is None
    assert found.deltas[3] is None


def test_suite_aggregates() -> None:
    values = np.array([[0.0, 1.0], [3.0, 100.0]])
    assert interquartile_mean(values) == 2.0 and suite_mean(values) == 26.0
    many = np.random.default_rng(0).normal(size=40)
    assert interquartile_mean(many[None]) == pytest.approx(stats.trim_mean(many, 0.25))
    assert improvement(np.array([[1.0, 2.0], [0.0, 0.0]]), np.array([[0.0, 2.0], [0.0, 0.0]])) == pytest.approx(
        ((1 + 0 + 1 + 0.5) / 4 + 0.5) / 2
    )
    one = aggregate(values, suite_mean, np.random.default_rng(3), draws=200)
    assert one == aggregate(values, suite_mean, np.random.default_rng(3), draws=200)  # seeded
    assert one.low is not None and one.high is not None and one.low <= one.value <= one.high
    assert aggregate(values[:, :1], suite_mean, np.random.default_rng(0)).low is None
    assert improves(values, values, np.random.default_rng(0), "seeds+tasks", 50).value == 0.5


def _grid(rng: np.random.Generator) -> dict[tuple[str, ...], dict[int, float]]:
    effect = {"map": 0.0, "gap": 4.0, "clip": 0.0, "mae": 1.0}
    return {
        (p, m): {s: effect[p] + effect[m] + 2.0 * (p == "gap") * (m == "mae") + rng.normal(0, 0.1) for s in range(3)}
        for p, m in itertools.product(("map", "gap"), ("clip", "mae"))
    }


def test_factorial_analysis_by_hand() -> None:
    cells = {("x", "u"): {0: 0.0, 1: 2.0}, ("x", "v"): {0: 1.0, 1: 3.0}, ("y", "u"): {0: 5.0, 1: 5.0},
             ("y", "v"): {0: 10.0, 1: 10.0}}  # fmt: skip
    grid = full_grid({"a": ("x", "y"), "b": ("u", "v")}, cells)
    assert grid is not None
    found = analyse(grid, {"a": "x"}, paired=False)
    # means 1, 2, 5, 10 (4.5): a ±3, b ±1.5, interaction ±1; sums of squares 72, 18, 8; within 4; all 102
    assert [(term.factors, term.df) for term in found.terms] == [(("a",), 1), (("b",), 1), (("a", "b"), 1)]
    assert [term.share for term in found.terms] == pytest.approx([72 / 102, 18 / 102, 8 / 102])
    assert [term.f for term in found.terms] == pytest.approx([72.0, 18.0, 8.0])
    assert found.within == pytest.approx(4 / 102) and found.higher == 0.0
    gap = found.contrasts[0]
    half = stats.t.ppf(0.975, 4) * math.sqrt(2 / 4)
    assert (gap.level, gap.reference) == ("y", "x")
    assert (gap.estimate, gap.low, gap.high) == pytest.approx((6.0, 6 - half, 6 + half))
    block = analyse(grid, {})
    # seeds' means 4 and 5: 8 × .25 = 2 of the 4, the rest with 3 degrees of freedom
    assert block.within == pytest.approx(2 / 102) and block.terms[2].f == pytest.approx(8 / (2 / 3))
    assert sum(term.share for term in block.terms) + block.within + block.seeds == pytest.approx(1.0)


def test_an_incomplete_grid_says_what_it_leaves_out() -> None:
    cells = _grid(np.random.default_rng(0)) | {("max", "clip"): {0: 1.0, 1: 1.0, 2: 1.0}}
    grid = full_grid({"pooling": ("map", "gap", "max"), "method": ("clip", "mae")}, cells)
    assert grid is not None and grid.left_out == ("pooling=max",) and grid.values.shape == (2, 2, 3)
    cells["map", "clip"].pop(2)
    fewer = full_grid({"pooling": ("map", "gap"), "method": ("clip", "mae")}, cells)
    assert fewer is not None and fewer.seeds == (0, 1)
    one = {cell: {0: values[0]} for cell, values in cells.items()}
    alone = full_grid({"pooling": ("map", "gap"), "method": ("clip", "mae")}, one)
    assert alone is not None
    found = analyse(alone, {})
    assert all(term.p is None for term in found.terms) and all(each.low is None for each in found.contrasts)
    assert full_grid({"a": ("x",)}, {("x",): {0: 1.0}}) is None


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_intervals_cover(seeds: int) -> None:
    """Seeded; 300 studies each; the full simulation is a benchmark."""
    rng = np.random.default_rng(seeds)
    assert coverage(Setting(seeds, 0.5), 300, rng)[0] >= 0.92
    assert coverage(Setting(seeds, 0.5, arms=6), 300, rng)[0] >= 0.92
    assert cell_coverage(seeds, 60, 40, rng) >= 0.93
    assert false_equivalence(Setting(seeds, 0.5, arms=6), 0.5, 300, rng) <= 0.075


def test_evaluations_of_one_run_are_not_independent() -> None:
    """Why `together` is the default: pooling the tasks' variances as if independent covers far too little."""
    assert coverage(Setting(3, 0.5, together=False), 200, np.random.default_rng(0))[0] < 0.8
