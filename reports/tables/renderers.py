"""Markdown and CSV of one table model: the same numbers in the same words everywhere."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import NamedTuple

from ablative.reports.tables.escape import bare, markdown
from ablative.reports.tables.printed import (
    DELTA,
    RATIO,
    Parts,
    PrintedColumn,
    delta_text,
    entry_parts,
    printed_columns,
    ratio_text,
    table_parts,
)
from ablative.reports.tables.tables import Column, Entry, Table


class Marks(NamedTuple):
    """How a format shows a number that can be its column's best."""

    best: str
    sign: str = "{}"
    """Mark of a number that is not final; it takes no room where a column has to stay aligned."""

    def mark(self, value: str, entry: Entry) -> str:
        return (self.best if entry.best else "{}").format(value)


MARKDOWN = Marks("**{}**")
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How a text begins that a spreadsheet computes."""
PROSE = Marks("{}", r"\textsuperscript{{{}}}")
"""LaTeX outside a table."""
PLAIN = Marks("{}")


def entry_text(entry: Entry, column: Column, marks: Marks) -> str:
    """`**71.2** ± 0.3 (2/3) +1.5 [+0.4, +2.6] [33.8]`: our number, or the state that explains the gap; the paper's."""
    return joined_parts(entry, entry_parts(entry, column), marks)


def joined_parts(entry: Entry, parts: Sequence[str], marks: Marks) -> str:
    """Parts of an entry as one text, with the marks of a format."""
    value, *rest = parts
    text = " ".join([marks.mark(value, entry), *filter(None, rest)])
    return text + (marks.sign.format(entry.finding_marks) if entry.finding_marks else "")


def cell_text(entry: Entry, printed: PrintedColumn, marks: Marks, parts: Parts | None = None) -> str:
    """What one cell of the printed table says: a number with its marks, a difference, or a ratio.

    `parts`: those of the entry, where they are known.
    """
    if printed.part == DELTA:
        return " ".join(delta_text(entry, printed.column)).strip()
    if printed.part == RATIO:
        return ratio_text(entry)
    value, spread, _, reference = parts or entry_parts(entry, printed.column)
    return joined_parts(entry, (value, spread, reference), marks)


def render_markdown(table: Table) -> str:
    """A pipe table under its title, the notes below it."""
    printed = printed_columns(table)
    heads = [markdown(head) for head in table.row_heads] + [markdown(column.title) for column in printed]
    if not table.columns:
        return "\n".join([f"### {markdown(table.title)}", "", *map(markdown, table.notes)]) + "\n"
    lines = [f"### {markdown(table.title)}", "", _pipes(heads)]
    lines.append(_pipes(["---"] * len(table.row_heads) + ["---:"] * len(printed)))
    for row, own in zip(table.rows, table_parts(table), strict=True):
        texts = [cell_text(row.entries[each.place], each, MARKDOWN, own[each.place]) for each in printed]
        lines.append(_pipes([markdown(level) for level in row.printed] + texts))
    return "\n".join([*lines, "", *(f"{markdown(note)}  " for note in table.notes)]).rstrip() + "\n"


def render_csv(table: Table) -> str:
    """One line per number, unrounded: for programs. Empty fields are missing, `state` says why."""
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    # Only tables with such numbers have their column.
    every = [entry for row in table.rows for entry in row.entries]
    beside = ["beside"] if any(entry.reference_value is not None for entry in every) else []
    marks = ["marks"] if any(entry.finding_marks for entry in every) else []
    heads = ["column", "mean", "sd", "half_ci", "n", "planned", "delta", "delta_low", "delta_high", "delta_p"]
    ratio = ["ratio"] if any(entry.ratio is not None for entry in every) else []
    heads += [*ratio, "best", *beside, *marks, "state", "runs"]
    writer.writerow([*map(_csv_text, table.factors), *heads])
    names = [_csv_text(column.name) for column in table.columns]
    for row in table.rows:
        levels = list(map(_csv_text, row.levels))
        for entry, name in zip(row.entries, names, strict=True):
            summary, error = entry.summary, entry.error
            numbers = (summary.mean, summary.sd, entry.ci_half_width, summary.n) if summary else (None, None, None, 0)
            gap = (entry.delta, *((error.low, error.high, error.p) if error else (None, None, None)))
            own = [*([entry.reference_value] if beside else []), *([entry.finding_marks] if marks else [])]
            ratios = [entry.ratio] if ratio else []
            rest = [entry.planned, *gap, *ratios, int(entry.best), *own, entry.missing]
            runs = " ".join([source[1] for source in entry.sources])
            writer.writerow([*levels, name, *numbers, *rest, runs])
    return output.getvalue()


def _csv_text(text: str) -> str:
    """Text that a spreadsheet takes for text: a formula begins with one of these signs, unless it is a number."""
    shown = bare(text)
    try:
        float(shown)
    except ValueError:
        return f"'{shown}" if shown.startswith(FORMULA) else shown
    return shown


def plain(entry: Entry, column: Column) -> str:
    """A number as the terminal shows it, with its difference to the baseline."""
    return entry_text(entry, column, PLAIN)


def is_wide(table: Table) -> bool:
    """So many columns that their labels must stand upright."""
    return len(table.columns) > 12


def _pipes(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
