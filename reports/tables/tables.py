"""The one model of a table, which every renderer prints: declared columns, results, and what is missing and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ablative.reports.stats.columns import Compared, Delta, RowTest
from ablative.reports.stats.summary import Summary
from ablative.reports.store.warehouse import Source, quoted, value_query
from ablative.study.spec.labels import Label, joined


@dataclass(frozen=True)
class Column:
    """One printed column."""

    label: str
    group: str
    """Header over neighbouring columns, or empty."""
    split: str
    """Level of the split factor, or empty."""
    digits: int
    metrics: tuple[str, ...]
    """The tasks that it averages over."""
    ranked: bool
    """One end is better, so that the best mean is bold."""
    lowest: bool = False
    """Smaller is better."""
    spread: str = "sd"
    """What is printed after ±: `sd` over seeds, or `ci`, half the 95 % interval of the mean."""
    method: str = ""
    """How its rows were compared; empty where they were not."""
    tested: bool = False
    """Bold by a test; else the best mean is, where anything is."""
    alike: bool = False
    """No row is distinguished from the best, so that none is bold."""
    exact: bool = False
    """No seed changes it, so that nothing is tested."""
    too_few: int = 0
    """Number of seeds, where the test has one degree of freedom and is left out; else 0."""
    key: str = ""
    """Its part of the keys of its numbers, in place of group and label."""
    stages: tuple[str, ...] = ()
    """The stages that yield its metrics."""
    heads: tuple[str, str, str] | None = None
    """Split, group and label as they are printed; None: as they are."""

    @property
    def printed(self) -> tuple[str, str, str]:
        """Its heads as they are printed: split, group and label."""
        return self.heads or (self.split, self.group, self.label)

    @property
    def title(self) -> Label:
        """The printed heads on one line."""
        return joined(" / ", filter(None, self.printed))

    def compared(self, found: Compared) -> Column:
        """The column with how its rows were compared."""
        return dataclasses.replace(
            self,
            method=found.method,
            tested=found.tested,
            alike=found.alike,
            exact=found.exact,
            too_few=found.too_few,
        )

    @property
    def order(self) -> int:
        """1 where larger is better, -1 where smaller is, 0 where neither."""
        return (-1 if self.lowest else 1) if self.ranked else 0

    @property
    def name(self) -> str:
        """How `ablate why` addresses it: every header above it."""
        return " / ".join(part for part in (self.split, self.group, self.label) if part)

    @property
    def query(self) -> str:
        """The query of its numbers, with the parameter `$cell`."""
        return value_query(self.metrics)


class Tested(NamedTuple):
    """What the mark of a row rests on."""

    test: RowTest
    names: Sequence[str]
    """Names of the rows, as they are printed."""
    digits: int

    @property
    def words(self) -> str:
        test, digits = self.test, self.digits + 1
        spread = f"a seed's sd {number(test.sd, digits)} (drawn towards the column's), {test.df:.3g} degrees of freedom"
        if test.rival is None:
            return f"no better row is near 5 %; {spread}"
        rival = self.names[test.rival]
        return f"against {rival}: p = {test.p:.2g} (one-sided, corrected for the rows that are left); {spread}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One number of a table, or why it is missing."""

    cell: str
    """Key of the cell in the marts; empty where the study has no such cell."""
    summary: Summary | None
    planned: int
    """Seeds that the study plans."""
    sources: tuple[Source, ...] = ()
    delta: float | None = None
    best: bool = False
    """It can be the column's best; without a test, it is the best mean as printed."""
    missing: str = ""
    """State that explains the lack of a number; a dash where there can be none."""
    detail: str = ""
    """State of every seed that lacks."""
    reference_value: float | None = None
    """The number that a paper prints at this place."""
    literal: str = ""
    """The text of the number, where it is given whole: in a paper's table, and of effects."""
    ci_half_width: float | None = None
    """Half the 95 % interval of the mean; None for a single seed."""
    error: Delta | None = None
    """The difference to the baseline with its interval."""
    tested: Tested | None = None
    """What its mark rests on; None: nothing was tested."""
    ratio: float | None = None
    """The mean over the baseline's."""
    finding_marks: str = ""
    """Signs of what keeps it from being final (`reports.provenance.findings.SIGNS`)."""

    @property
    def test(self) -> str:
        """What its mark rests on, in words; few are ever read."""
        return self.tested.words if self.tested else ""


@dataclass(frozen=True)
class Row:
    levels: tuple[str, ...]
    """Level of each row factor; empty where the factor does not apply."""
    entries: tuple[Entry, ...]
    labels: tuple[str, ...] = ()
    """What is printed below the heads of the table's rows; empty: the levels."""

    @property
    def printed(self) -> tuple[str, ...]:
        """What is printed in front of its numbers."""
        return self.labels or self.levels

    @property
    def title(self) -> Label:
        """What is printed in front of its numbers, as one text."""
        return joined(", ", filter(None, self.printed)) or Label("all")

    @property
    def name(self) -> str:
        return row_name(self.levels)


@dataclass(frozen=True)
class Table:
    """Rows, columns, numbers and their provenance."""

    name: str
    title: str
    factors: tuple[str, ...]
    """The row factors."""
    split: str
    """The split factor, or empty."""
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    preformatted: bool = False
    """Its numbers stand as they are printed (a paper's, or effects of a whole grid): no cell's runs are behind one, and
    its rows' labels are no levels of factors."""
    sql: str = ""
    """The user's query, whose rows these are."""
    heads: tuple[str, ...] = ()
    """What is printed above the rows' levels; empty: the factors."""
    split_head: str = ""
    """The split factor as it is printed; empty: its name."""
    derived: dict[Hashable, Any] = dataclasses.field(default_factory=dict, init=False, repr=False, compare=False)
    """What formats have made of it and ask for again, under keys of their own: a hash of a whole table is slow."""

    @property
    def row_heads(self) -> tuple[str, ...]:
        """What is printed above the rows' levels."""
        return self.heads or self.factors

    @property
    def grouped(self) -> bool:
        """Rows belong together by their first factor: its level is printed once, with a rule above."""
        return len(self.row_heads) > 1 and not self.preformatted

    def query(self, row: int, column: int) -> str:
        """The query of one number, ready to be run on the saved warehouse."""
        if self.sql:
            return self.sql
        return self.columns[column].query.replace("$cell", quoted(self.rows[row].entries[column].cell))


def row_name(levels: tuple[str, ...]) -> str:
    """How a row is called: its levels, without factors that do not apply."""
    return ", ".join(level for level in levels if level) or "all"


def number(value: float, digits: int, sign: bool = False) -> str:
    """A number as it is printed; a rounded zero has no minus sign.

    >>> number(-0.04, 1), number(1.25, 1, sign=True)
    ('0.0', '+1.2')
    """
    text = "%.*f" % (digits, value)  # noqa: UP031  (half the time of an f-string, and it is asked for everywhere)
    if text[0] == "-" and not text.strip("-0."):
        text = text[1:]
    return f"+{text}" if sign and text[0] != "-" else text
