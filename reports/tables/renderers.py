"""Markdown, LaTeX, CSV and HTML of one table model: the same numbers in the same words everywhere."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from ablative.reports.store.warehouse import Source
from ablative.reports.tables.escape import bare, markdown
from ablative.reports.tables.html_templates import fill
from ablative.reports.tables.printed import (
    DELTA,
    RATIO,
    VALUE,
    Parts,
    PrintedColumn,
    delta_text,
    entry_parts,
    head_rows,
    printed_columns,
    ratio_text,
)
from ablative.reports.tables.tables import Column, Entry, Row, Table


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
    value, *rest = entry_parts(entry, column)
    text = " ".join(part for part in (marks.mark(value, entry), *rest) if part)
    return text + (marks.sign.format(entry.finding_marks) if entry.finding_marks else "")


def cell_text(entry: Entry, printed: PrintedColumn, marks: Marks) -> str:
    """What one cell of the printed table says: a number with its marks, a difference, or a ratio."""
    if printed.part == DELTA:
        return " ".join(delta_text(entry, printed.column)).strip()
    if printed.part == RATIO:
        return ratio_text(entry)
    value, spread, _, reference = entry_parts(entry, printed.column)
    text = " ".join(part for part in (marks.mark(value, entry), spread, reference) if part)
    return text + (marks.sign.format(entry.finding_marks) if entry.finding_marks else "")


def render_markdown(table: Table) -> str:
    """A pipe table under its title, the notes below it."""
    printed = printed_columns(table)
    heads = [markdown(head) for head in table.row_heads] + [markdown(column.title) for column in printed]
    if not table.columns:
        return "\n".join([f"### {markdown(table.title)}", "", *map(markdown, table.notes)]) + "\n"
    lines = [f"### {markdown(table.title)}", "", _pipes(heads)]
    lines.append(_pipes(["---"] * len(table.row_heads) + ["---:"] * len(printed)))
    for row in table.rows:
        texts = [cell_text(row.entries[column.place], column, MARKDOWN) for column in printed]
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
    for row in table.rows:
        for entry, column in _pairs(table, row):
            summary, error = entry.summary, entry.error
            numbers = (summary.mean, summary.sd, entry.ci_half_width, summary.n) if summary else (None, None, None, 0)
            gap = (entry.delta, *((error.low, error.high, error.p) if error else (None, None, None)))
            own = [*([entry.reference_value] if beside else []), *([entry.finding_marks] if marks else [])]
            ratios = [entry.ratio] if ratio else []
            rest = [entry.planned, *gap, *ratios, int(entry.best), *own, entry.missing]
            runs = " ".join(source.run_id for source in entry.sources)
            writer.writerow([*map(_csv_text, (*row.levels, column.name)), *numbers, *rest, runs])
    return output.getvalue()


def _csv_text(text: str) -> str:
    """Text that a spreadsheet takes for text: a formula begins with one of these signs, unless it is a number."""
    shown = bare(text)
    try:
        float(shown)
    except ValueError:
        return f"'{shown}" if shown.startswith(FORMULA) else shown
    return shown


def render_html(table: Table) -> Markup:
    """A semantic `<table>`; each number is a button that names its place (`data-why="table/row/column"`)."""
    parts = [[entry_parts(*pair) for pair in _pairs(table, row)] for row in table.rows]
    widths = _widths(table, parts)
    printed = printed_columns(table)
    rows = [
        {
            "levels": row.printed,
            "rule": table.grouped and i > 0 and table.rows[i - 1].printed[0] != row.printed[0],
            "cells": [
                (own.place, row.entries[own.place], parts[i][own.place], widths[own.place])
                if own.part == VALUE
                else (own.place, None, cell_text(row.entries[own.place], own, PLAIN), ())
                for own in printed
            ],
        }
        for i, row in enumerate(table.rows)
    ]
    no_level = "" if table.preformatted else "–"
    heads = head_rows(table, printed)
    return fill(
        "table.html",
        table=table,
        printed=printed,
        rows=rows,
        heads=heads,
        classes=_classes(table),
        no_level=no_level,
    )


def provenance(table: Table) -> dict[str, Any]:
    """Everything behind every number, as JSON: the sidecar of the LaTeX table and the data of the page's panel."""
    return {
        "table": table.name,
        "title": table.title,
        "own": bool(table.sql),
        "runs": list(Source._fields),
        "columns": [
            {
                "name": column.name,
                "label": column.title,
                "digits": column.digits,
                "query": table.sql or column.query,
                "method": column.method,
            }
            for column in table.columns
        ],
        "rows": [
            {"name": row.name, "label": row.title, "entries": [entry_json(entry) for entry in row.entries]}
            for row in table.rows
        ],
    }


def entry_json(entry: Entry) -> dict[str, Any]:
    """One number with its runs, each a list of `Source`'s fields; NaN becomes null, which JSON can hold."""
    summary, half = entry.summary, entry.ci_half_width
    return {
        "cell": entry.cell,
        "value": summary.mean if summary else None,
        "sd": summary.sd if summary else None,
        "interval": (summary.mean - half, summary.mean + half) if summary and half else None,
        "n": summary.n if summary else 0,
        "planned": entry.planned,
        "delta": entry.delta,
        "delta_interval": (entry.error.low, entry.error.high) if entry.error and entry.error.low is not None else None,
        "delta_p": entry.error.p if entry.error else None,
        "best": entry.best,
        "beside": entry.reference_value,
        "marks": entry.finding_marks,
        "state": entry.missing,
        "detail": entry.detail,
        "runs": [
            source if source.value == source.value else source._replace(value=None)  # type: ignore[arg-type]
            for source in entry.sources
        ],
    }


def render_json(table: Table) -> str:
    """The sidecar's text, one row a line: small differences stay small, and JSON's fast encoder writes each."""
    data = provenance(table)
    rows = ",\n".join(json.dumps(row, ensure_ascii=False) for row in data.pop("rows"))
    head = json.dumps(data, ensure_ascii=False, indent=1).removesuffix("\n}")
    return f'{head},\n "rows": [\n{rows}\n]}}\n'


def plain(entry: Entry, column: Column) -> str:
    """A number as the terminal shows it, with its difference to the baseline."""
    return entry_text(entry, column, PLAIN)


def _pairs(table: Table, row: Row) -> Iterator[tuple[Entry, Column]]:
    return zip(row.entries, table.columns, strict=True)


def _widths(table: Table, parts: Sequence[Sequence[Parts]]) -> list[tuple[int, ...]]:
    """Characters of the widest spread and the widest number of a paper of each column."""
    found = []
    for j in range(len(table.columns)):
        own = [parts[i][j] for i, row in enumerate(table.rows) if row.entries[j].summary]
        found.append(tuple(max((len(part[k]) for part in own), default=0) for k in (1, 3)))
    return found


def _wide(table: Table) -> bool:
    """So many columns that their labels must stand upright."""
    return len(table.columns) > 12


def _classes(table: Table) -> str:
    return "results" + " printed" * table.preformatted + " wide" * _wide(table)


def _pipes(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
