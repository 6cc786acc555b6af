"""Simulated marks: how often the best row is bold, and rows far below it are not, by today's rule and by 0.1.0's.

    python tests/benchmarks/bench_marks.py               # about two minutes on one core
    python tests/benchmarks/bench_marks.py --tables 3000

Conditions: 2, 3 or 5 seeds; 4, 8, 16 or 30 rows; seeds that scatter alike in all rows, or by a lognormal factor, or
five times as much in one row, or not at all in a quarter of them. Seeds share 30 % of their variance over the rows.
Distances are in the rows' root mean square standard deviation of a seed. The worst conditions are simulated again,
since the smallest of many shares is too small. Then accuracies on the grid of a test set: how often two equal arms get
a verdict, and how often an interval holds the difference.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import chdtrc, stdtr, stdtrit

from ablative.reports.stats.best import best_set
from ablative.reports.stats.columns import compare_rows
from ablative.reports.stats.decide import holm
from ablative.reports.stats.moderated import against, contrasts, moderate

SEEDS, ROWS = (2, 3, 5), (4, 8, 16, 30)
SPREADS = ("equal", "lognormal .5", "lognormal 1", "one row x 5", "a quarter 0")
SHARED = 0.3
STEPS = (3.0, 5.0, 10.0)
"""Distances of the rows that are not among the best."""
TEST_SET = 400

Rule = Callable[[np.ndarray], np.ndarray]


def by_test(values: np.ndarray) -> np.ndarray:
    found = moderate(values)
    return np.ones(len(values), bool) if found is None else best_set(found, 1).inside


def by_0_1_0(values: np.ndarray) -> np.ndarray:
    """No significant difference from the best mean; pooled, unless Bartlett's test finds different spreads."""
    rows, _ = values.shape
    leader = int(np.argmax(values.mean(axis=1)))
    _, _, p = former_contrasts(values, against(rows, leader))
    p[leader] = math.nan
    return ~(np.array(holm(p.tolist())) < 0.05)


def former_contrasts(values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Standard errors, degrees of freedom and p of 0.1.0."""
    rows, n = values.shape
    residuals = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0) + values.mean()
    if rows == 2 or bartlett(np.var(values, axis=1, ddof=1), n - 1) >= 0.05:
        freedom = (rows - 1) * (n - 1)
        sd = np.sqrt(np.sum(residuals**2) / freedom * np.sum(weights**2, axis=1))
    else:
        freedom, sd = n - 1, np.std(weights @ values, axis=1, ddof=1)
    se = sd / math.sqrt(n)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.abs(weights @ values.mean(axis=1)) / se
    return se, np.full(len(weights), float(freedom)), np.where(np.isnan(t), 1.0, 2 * stdtr(freedom, -t))


def bartlett(variances: np.ndarray, df: int) -> float:
    if np.any(variances == 0):
        return 0.0 if np.any(variances > 0) else 1.0
    k, total = len(variances), df * len(variances)
    statistic = total * math.log(variances.mean()) - df * float(np.sum(np.log(variances)))
    return float(chdtrc(k - 1, statistic / (1 + (k / df - 1 / total) / (3 * (k - 1)))))


def scales(spread: str, rows: int, rng: np.random.Generator) -> np.ndarray:
    """Standard deviations (rows,) of root mean square 1."""
    found = np.ones(rows)
    if spread.startswith("lognormal"):
        found = np.exp(rng.normal(0, float(spread.split()[1]), rows))
    elif spread == "one row x 5":
        found[rng.integers(rows)] = 5.0
    elif spread == "a quarter 0":
        found[rng.permutation(rows)[: rows // 4]] = 0.0
    return found / math.sqrt(float(np.mean(found**2)))


def table(means: np.ndarray, spread: str, seeds: int, rng: np.random.Generator) -> np.ndarray:
    rows = len(means)
    noise = math.sqrt(SHARED) * rng.normal(size=seeds) + math.sqrt(1 - SHARED) * rng.normal(size=(rows, seeds))
    return means[:, None] + scales(spread, rows, rng)[:, None] * noise


@dataclass
class Shares:
    """Of one condition, in percent."""

    tied: float
    """The first row is bold, where the true means of all are equal."""
    ladder: float
    """The same, where a third is equal and the others are below."""
    out: tuple[float, ...]
    """Rows at each of `STEPS` below are not bold."""
    odd: float
    """Tables in which a smaller mean is bold and a larger one is not."""


def tied(rule: Rule, seeds: int, rows: int, spread: str, tables: int, again: int = 0) -> float:
    rng = np.random.default_rng([seeds, rows, SPREADS.index(spread), again])
    bold = 0
    for _ in range(tables):
        # A row that never varies is always where it truly is: the row that is asked for is one that does.
        values = table(np.zeros(rows), spread, seeds, rng)
        bold += bool(rule(values)[np.flatnonzero(np.ptp(values, axis=1))[0]])
    return 100 * bold / tables


def shares(rule: Rule, seeds: int, rows: int, spread: str, tables: int) -> Shares:
    rng = np.random.default_rng([seeds, rows, SPREADS.index(spread)])
    equal = max(rows // 3, 1)
    below = np.array([0.0] * equal + [STEPS[i % 3] for i in range(rows - equal)])
    ladder = odd = 0
    out: list[list[bool]] = [[], [], []]
    for _ in range(tables):
        values = table(-below, spread, seeds, rng)
        bold = rule(values)
        ladder += bool(bold[0])
        for row in range(equal, rows):
            out[(row - equal) % 3].append(not bold[row])
        means = values.mean(axis=1)
        odd += bool(bold.any() and (means[~bold] > means[bold].min()).any())
    powers = tuple(100 * float(np.mean(found)) for found in out)
    first = tied(rule, seeds, rows, spread, tables * (4 if rule is by_test else 1))
    return Shares(first, 100 * ladder / tables, powers, 100 * odd / tables)


def marks(tables: int) -> None:
    rules = {"0.1.0": by_0_1_0, "now": by_test}
    found = {
        (name, *cell): shares(rule, cell[0], cell[2], cell[1], tables)
        for (name, rule), cell in itertools.product(rules.items(), itertools.product(SEEDS, SPREADS, ROWS))
    }
    print(f"{tables} tables each; mean over {', '.join(map(str, ROWS))} rows; best: bold in % (all tie / a third ties)")
    print("n  spreads       rule    best          3, 5, 10 sd below: not bold   smaller bold, larger not")
    for seeds, spread, name in itertools.product(SEEDS, SPREADS, rules):
        own = [found[name, seeds, spread, rows] for rows in ROWS]
        best = f"{np.mean([s.tied for s in own]):5.1f} /{np.mean([s.ladder for s in own]):5.1f}"
        out = "  ".join(f"{np.mean([s.out[i] for s in own]):5.1f}" for i in range(3))
        print(f"{seeds}  {spread:<13} {name:<6} {best}   {out}              {np.mean([s.odd for s in own]):5.1f}")
    for name, rule in rules.items():
        summarise(name, rule, {cell[1:]: own for cell, own in found.items() if cell[0] == name}, tables)


def summarise(name: str, rule: Rule, found: dict[tuple[int, str, int], Shares], tables: int) -> None:
    lowest = sorted(found, key=lambda cell: found[cell].tied)[:3]
    again = {cell: tied(rule, cell[0], cell[2], cell[1], 20 * tables, again=1) for cell in lowest}
    worst = min(again, key=lambda cell: again[cell])
    two = {cell: each.out[1] for cell, each in found.items() if cell[0] == 2}
    five = min(two, key=lambda cell: two[cell])
    average, odd = np.mean([each.tied for each in found.values()]), max(each.odd for each in found.values())
    print(f"{name}: best bold {average:.1f} % on average,")
    print(f"    at worst {again[worst]:.1f} % (n = {worst[0]}, {worst[1]}, {worst[2]} rows);")
    print(f"    at n = 2, a row 5 sd below is not bold in {np.mean(list(two.values())):.1f} % on average,")
    print(f"    at worst {two[five]:.1f} % ({five[1]}, {five[2]} rows);")
    print(f"    a larger mean without a mark where a smaller has one: at most {odd:.1f} % of tables")


def on_the_grid(tables: int) -> None:
    """Accuracies over `TEST_SET` samples: errors of the verdict on two arms, alone and among others."""
    print(f"accuracies over {TEST_SET} samples: false verdicts at 5 % / intervals that hold the difference, in %")
    worst = {"0.1.0": [0.0, 100.0], "now": [0.0, 100.0]}
    for arms, seeds, sd in itertools.product((2, 4, 8), SEEDS, (0.15, 0.3, 0.5, 1.0)):
        rng = np.random.default_rng([arms, seeds, round(100 * sd)])
        weights = np.array([[1.0, -1.0, *[0.0] * (arms - 2)]])
        false = dict.fromkeys(worst, 0)
        held = dict.fromkeys(worst, 0)
        for _ in range(4 * tables):
            for gap in (0.0, float(rng.uniform(-3, 3))):
                means = rng.uniform(20, 90, arms)
                means[1] = means[0] - gap
                exact = table(means / sd, "equal", seeds, rng) * sd
                values = np.round(exact * TEST_SET / 100) / TEST_SET * 100
                estimate = float(weights[0] @ values.mean(axis=1))
                now = contrasts(values, weights, True)
                se, df, p = former_contrasts(values, weights)
                for name, own in (("0.1.0", (se, df, p)), ("now", (now.se, now.df, now.p))):
                    half = stdtrit(own[1][0], 0.975) * own[0][0]
                    if gap:
                        held[name] += not abs(estimate - gap) > half  # NaN: no interval, no wrong one
                    else:
                        false[name] += own[2][0] < 0.05
        texts = []
        for name, own_worst in worst.items():
            share = 25 * false[name] / tables, 25 * held[name] / tables
            worst[name] = [max(own_worst[0], share[0]), min(own_worst[1], share[1])]
            texts.append(f"{name} {share[0]:5.1f} /{share[1]:6.1f}")
        print(f"{arms} arms, n = {seeds}, sd {sd:<4} points:  {'   '.join(texts)}")
    for name, (wrong, right) in worst.items():
        print(f"{name}: at worst {wrong:.1f} % false verdicts, {right:.1f} % coverage")


def zero_widths(tables: int) -> None:
    rng = np.random.default_rng(0)
    zero = 0
    for _ in range(tables):
        values = np.round(table(rng.uniform(20, 90, 4) / 0.2, "equal", 2, rng) * 0.2 * TEST_SET / 100) / TEST_SET * 100
        found = compare_rows(values, "{:.1f}".format, 1, 0)
        zero += any(half is None or half <= 0 for half in found.halves)
        zero += any(delta is not None and (delta.p is None or delta.p <= 0) for delta in found.deltas)
    print(f"columns with an interval of width 0 or p = 0 at 2 seeds: {zero} of {tables}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tables", type=int, default=400)
    tables = parser.parse_args().tables
    marks(tables)
    on_the_grid(tables)
    zero_widths(tables)


if __name__ == "__main__":
    main()
