"""One column of a table: which rows can be its best, and how far each is from the baseline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ablative.reports.stats.best import best_set
from ablative.reports.stats.decide import ALPHA, holm
from ablative.reports.stats.exact import same_in_every_seed
from ablative.reports.stats.moderated import Contrasts, Moderated, against, contrasts, method, moderate, moments
from ablative.reports.stats.student import Floats

LEVEL = 1 - ALPHA
TESTED, PLAIN = "tested", "best"
"""Rules of marks that bold something: every row that can be the best, or the best mean as printed."""


@dataclass(frozen=True, slots=True)
class Delta:
    """A row less the baseline's row; without interval and p where no spread is known."""

    estimate: float
    low: float | None = None
    high: float | None = None
    p: float | None = None
    """Two-sided, adjusted by Holm for the column's rows."""


class RowTest(NamedTuple):
    """What a row's mark rests on."""

    sd: float
    """Moderated standard deviation of a seed."""
    df: float
    """Its degrees of freedom."""
    p: float
    """One-sided, that the row is no worse than the better row that is the clearest, times the size of the set."""
    rival: int | None
    """That row; None: no better row is near."""


@dataclass(frozen=True)
class Compared:
    """What a column's numbers say about each other; sequences by row."""

    best: Sequence[bool]
    """Tested: can be the best. Untested: the best mean as printed. None where no row is distinguished from another."""
    tested: bool
    alike: bool
    """There are several rows, and none is distinguished from the best."""
    too_few: int
    """Number of seeds, where the test has one degree of freedom and would distinguish nothing; else 0."""
    halves: Sequence[float | None]
    """Half the width of each mean's interval; None for fewer than two seeds."""
    deltas: Sequence[Delta | None]
    tests: Sequence[RowTest | None]
    method: str
    """How the rows were compared; empty where they were not."""
    exact: bool = False
    """No seed changes any row, so that means and differences need no test."""


def compare_rows(
    values: Floats,
    text: Callable[[float], str],
    order: int,
    baseline: int | None,
    paired: bool = True,
    marks: str = TESTED,
    exact: bool | None = None,
) -> Compared:
    """Compare the rows of (rows, seeds), NaN where missing; seeds of the same number are paired.

    `text` prints a mean: what looks the same shares its mark. `order`: 1 where larger is better, -1 where smaller is,
    0 where no row is better than another. `baseline`: the row that the others are held against. `marks`: one of
    `study.spec.outputs.MARKS`. `exact`: what is declared of the metrics (`stats.exact`).
    """
    counts, means, _ = moments(values)
    rows = len(values)
    have = np.flatnonzero(counts > 0)
    same = same_in_every_seed(values[have][:, None], len(have), paired, exact)
    found = moderate(values, paired) if np.any(counts > 1) and not same else None
    ranked = order != 0 and len(have) > 1 and marks in (TESTED, PLAIN)
    too_few = int(counts.max()) if ranked and marks == TESTED and found is not None and found.total <= 1 else 0
    tested = ranked and marks == TESTED and found is not None and not too_few
    best: NDArray[np.bool_] = np.zeros(rows, dtype=np.bool_)
    tests: list[RowTest | None] = [None] * rows
    if tested and found is not None:
        best, tests = _tested(found, order, text)
    elif ranked:
        best = _alike(means, int(have[np.argmax(order * means[have])]), text)
    alike = ranked and bool(best[have].all())
    deltas: list[Delta | None] = [None] * rows
    if baseline is not None and counts[baseline] > 0:
        error = contrasts(values, against(rows, baseline), paired) if found is not None else None
        deltas = _deltas(means, baseline, error)
    marked = best & (not alike)
    how = method(found) if found is not None and (tested or baseline is not None) else ""
    halves = [None] * rows if same else _halves(values)
    return Compared(marked.tolist(), tested, alike, too_few, halves, deltas, tests, how, same)


def _tested(
    found: Moderated, order: int, text: Callable[[float], str]
) -> tuple[NDArray[np.bool_], list[RowTest | None]]:
    """The rows that can be the best, with those that print like the first or the last of them; and each row's test."""
    sets = best_set(found, order)
    inside = sets.inside.copy()
    marked = np.flatnonzero(inside)
    ends = marked[np.argsort(order * found.means[marked], kind="stable")]
    printed = np.array([text(mean) for mean in found.means.tolist()])
    for end in (ends[0], ends[-1]):
        inside |= printed == printed[end]
    columns = (np.sqrt(found.variances), np.minimum(found.df, found.total), sets.p, sets.rival)
    tests = [
        None if count == 0 else RowTest(sd, df, p, None if rival < 0 else rival)
        for count, sd, df, p, rival in zip(found.counts.tolist(), *(column.tolist() for column in columns), strict=True)
    ]
    return inside, tests


def _adjusted(p: Floats, reference: int) -> Floats:
    """Holm's p over the rows other than the reference; NaN where there is none."""
    own = p.copy()
    own[reference] = np.nan
    return np.array(holm(own.tolist()))


def _alike(means: Floats, leader: int, text: Callable[[float], str]) -> NDArray[np.bool_]:
    """Rows whose mean is printed as the leader's is."""
    printed = text(float(means[leader]))
    return np.array([bool(np.isfinite(mean)) and text(mean) == printed for mean in means.tolist()])


def _halves(values: Floats) -> list[float | None]:
    """Half widths; no interval is given to a mean of one seed, even where other rows' spread is known."""
    from ablative.reports.stats.special import stdtrit

    found = moderate(values, paired=False)  # the interval of a mean holds what a seed does to all rows, too
    if found is None:
        return [None] * len(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        se = np.sqrt(found.variances / found.counts)
    widths = stdtrit(np.minimum(found.df, found.total), (1 + LEVEL) / 2) * se
    return [width if count > 1 else None for width, count in zip(widths.tolist(), found.counts.tolist(), strict=True)]


def _deltas(means: Floats, baseline: int, error: Contrasts | None) -> list[Delta | None]:
    from ablative.reports.stats.special import stdtrit

    gaps = (means - means[baseline]).tolist()
    if error is None:
        plain = [None if gap != gap else Delta(gap) for gap in gaps]
        return [None if i == baseline else delta for i, delta in enumerate(plain)]
    halves = (stdtrit(error.df, (1 + LEVEL) / 2) * error.se).tolist()
    deltas: list[Delta | None] = []
    for i, (gap, half, own) in enumerate(zip(gaps, halves, _adjusted(error.p, baseline).tolist(), strict=True)):
        if i == baseline or gap != gap:
            deltas.append(None)
        else:
            deltas.append(Delta(gap) if half != half else Delta(gap, gap - half, gap + half, own))
    return deltas
