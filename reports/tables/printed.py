"""The columns of a table as they are printed: a value, and in columns of their own its difference and its ratio."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ablative.reports.tables.tables import Column, Entry, Row, Table, number
from ablative.study.spec.labels import Label, joined

VALUE, DELTA, RATIO = "value", "delta", "ratio"
HEADS = {DELTA: "Δ", RATIO: "×"}
"""Heads of the columns next to a value's."""
RATIO_DIGITS = 2


PARTS, PRINTED = "parts", "printed"
"""Keys of `Table.derived`."""
Parts = tuple[str, str, str, str]
"""Value; spread, with the number of seeds where some lack; difference to the baseline; the paper's number."""


class PrintedColumn(NamedTuple):
    """One column of the printed table."""

    column: Column
    place: int
    """Index of `column` in its table."""
    part: str = VALUE
    """`value`, `delta` (the difference to the baseline) or `ratio` (the value over the baseline's)."""

    @property
    def head(self) -> str:
        return HEADS.get(self.part) or self.column.printed[-1]

    @property
    def title(self) -> str:
        """The whole head on one line."""
        return joined(", ", [self.column.title, *filter(None, [HEADS.get(self.part, "")])])


def printed_columns(table: Table) -> list[PrintedColumn]:
    """Each column, followed by what is compared with the baseline where it has that."""
    if (known := table.derived.get(PRINTED)) is not None:
        return list(known)
    found = table.derived[PRINTED] = []
    for place, column in enumerate(table.columns):
        own = [row.entries[place] for row in table.rows]
        found.append(PrintedColumn(column, place))
        if any(entry.delta is not None for entry in own):
            found.append(PrintedColumn(column, place, DELTA))
        if any(entry.ratio is not None for entry in own):
            found.append(PrintedColumn(column, place, RATIO))
    return list(found)


def head_rows(table: Table, printed: Sequence[PrintedColumn]) -> list[list[tuple[str, int]]]:
    """Header rows above the labels, each (text, columns below it): split levels, then groups, if they say something."""
    before = joined("", [table.split_head or table.split, ": "]) if table.split else ""
    rows = []
    for part, prefix in ((0, before), (1, "")):
        found: list[tuple[str, int]] = []
        heads = [(own.column.split, own.column.printed[part]) for own in printed]  # a group ends where a split ends
        for (_, text), same in itertools.groupby(heads):
            found.append((joined("", [prefix, text]) if text else "", len(list(same))))
        rows.append(found)
    return [row for row in rows if any(text for text, _ in row)]


def table_parts(table: Table) -> Sequence[Sequence[Parts]]:
    """Parts of all numbers (rows, columns); every format prints them, and they are made once for a table."""
    found: Sequence[Sequence[Parts]] | None = table.derived.get(PARTS)
    if found is None:
        found = table.derived[PARTS] = [list(map(entry_parts, row.entries, table.columns)) for row in table.rows]
    return found


def entry_parts(entry: Entry, column: Column) -> Parts:
    """Value; spread, with the number of seeds where some lack; difference to the baseline; the paper's number."""
    if entry.literal:
        return entry.literal, "", "", ""
    reference = "" if entry.reference_value is None else f"[{number(entry.reference_value, column.digits)}]"
    if entry.summary is None:
        return entry.missing, "", "", reference
    parts = []
    width = entry.summary.sd if column.spread == "sd" else entry.ci_half_width
    if width is not None:
        parts.append(f"± {number(width, column.digits)}")
    if entry.summary.n < entry.planned:
        parts.append(f"({entry.summary.n}/{entry.planned})")
    delta = " ".join(filter(None, delta_text(entry, column)))
    return number(entry.summary.mean, column.digits), " ".join(parts), delta, reference


def delta_text(entry: Entry, column: Column) -> tuple[str, str]:
    """`+1.5` and `[+0.4, +2.6]`: the difference to the baseline, and its interval where there is one."""
    if entry.delta is None:
        return "", ""
    ends = (entry.error.low, entry.error.high) if entry.error else ()
    first, *rest = (
        number(end, column.digits, sign=True).replace("-", "−") for end in (entry.delta, *ends) if end is not None
    )
    return first, f"[{rest[0]}, {rest[1]}]" if len(rest) == 2 else ""


def ratio_text(entry: Entry) -> str:
    """`1.06`: the value over the baseline's."""
    return "" if entry.ratio is None else number(entry.ratio, RATIO_DIGITS).replace("-", "−")


def blocks(
    rows: Sequence[tuple[str, ...]], factors: Sequence[str], baseline: Mapping[str, str]
) -> dict[tuple[str, ...], str]:
    """Rows of a design around its baseline, this one first and then a block for each factor → the factor that differs.

    Args:
        rows: levels of each row, in the order of the factors; empty where one does not apply.
        factors: of the rows.
        baseline: factor → level.
    """
    found: dict[tuple[str, ...], str] = {}
    for row in rows:
        levels = dict(zip(factors, row, strict=True))
        # A factor that another one brings or takes away differs too: that of the block has a level in both.
        differ = [name for name, level in levels.items() if level and baseline.get(name, level) != level]
        found[row] = differ[0] if differ else ""
    order = ["", *factors]
    return dict(sorted(found.items(), key=lambda item: order.index(item[1])))


def block_levels(
    row: Row, factors: Sequence[str], changed: str, baseline: Mapping[str, str], texts: Mapping[str, str]
) -> Label:
    """What a row of a block shows: the level that differs, and in brackets those of factors that came with it.

    Args:
        row: of the table.
        factors: of its rows.
        changed: the factor that differs; empty: this is the baseline, which shows all its levels.
        baseline: factor → level.
        texts: factor → its level in this row as it is printed.
    """
    own = dict(zip(factors, row.levels, strict=True))
    if not changed:
        return joined(", ", [texts[name] for name in factors if own[name]])
    others = [texts[name] for name in factors if own[name] and name != changed and baseline.get(name) != own[name]]
    return joined("", [texts[changed], *([" (", joined(", ", others), ")"] if others else [])])
