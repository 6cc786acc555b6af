"""HTML of a table: its frame is a template, and its numbers, of which there may be many, are written row by row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from markupsafe import Markup, escape

from ablative.reports.tables.html_templates import fill
from ablative.reports.tables.printed import VALUE, Parts, PrintedColumn, head_rows, printed_columns, table_parts
from ablative.reports.tables.renderers import PLAIN, cell_text, is_wide
from ablative.reports.tables.tables import Entry, Table

LONG = 200
"""The page shows so many rows of a table first, and all on request: thousands take a browser long to read and set."""
FOLLOWING = (1, 3)
"""Places in `Parts` of what follows a value in its own column."""
ROWS = "html rows"
"""Key of `Table.derived`."""
HtmlRow = tuple[Sequence[str], bool, Markup]
"""Levels of a row as they are printed, whether there is a rule above it, and its numbers."""


def render_html(table: Table, folded: bool = False) -> Markup:
    """A semantic `<table>`; what opens a number's runs is the page's script, which finds it by its place.

    `folded`: rows after the first `LONG` are text that the page's script makes rows of when they are wanted.
    """
    printed = printed_columns(table)
    return fill(
        "table.html",
        table=table,
        printed=printed,
        rows=_rows(table, printed),
        first=LONG if folded else len(table.rows),
        heads=head_rows(table, printed),
        classes="results" + " printed" * table.preformatted + " wide" * is_wide(table),
        no_level="" if table.preformatted else "–",
    )


def _rows(table: Table, printed: Sequence[PrintedColumn]) -> Sequence[HtmlRow]:
    """The rows, which a table's own file and the page have alike."""
    if ROWS not in table.derived:
        table.derived[ROWS] = list(_made(table, printed))
    found: Sequence[HtmlRow] = table.derived[ROWS]
    return found


def _made(table: Table, printed: Sequence[PrintedColumn]) -> Iterator[HtmlRow]:
    parts = table_parts(table)
    widths = _widths(table, parts)
    above = None
    for row, own in zip(table.rows, parts, strict=True):
        rule = table.grouped and above is not None and above.printed[0] != row.printed[0]
        cells = []
        for each in printed:
            entry = row.entries[each.place]
            if each.part == VALUE:
                cells.append(_cell(entry, own[each.place], widths[each.place]))
            else:
                cells.append(f'<td class="compared">{cell_text(entry, each, PLAIN)}</td>')
        yield row.printed, rule, Markup("".join(cells))
        above = row


def _cell(entry: Entry, parts: Parts, widths: Mapping[int, int]) -> str:
    """One `<td>`. Numbers hold nothing to escape; texts that are given whole, and states, may."""
    if entry.summary is None:
        if entry.literal:
            value = _marked(str(escape(parts[0])), entry)
        else:
            reference = f"<small> {parts[3]}</small>" if parts[3] else ""
            value = f'<span class="missing">{escape(parts[0])}</span>{reference}'
        return f'<td class="gap">{value}{_sign(entry)}</td>'
    value = _marked(str(escape(parts[0])) if entry.literal else parts[0], entry)
    for k in FOLLOWING:
        if widths[k]:
            value += f"<small class=w{widths[k]}> {parts[k]}</small>"
    return f"<td>{value}{_sign(entry)}</td>"


def _marked(text: str, entry: Entry) -> str:
    return f"<b>{text}</b>" if entry.best else text


def _sign(entry: Entry) -> str:
    return f"<sup>{entry.finding_marks}</sup>" if entry.finding_marks else ""


def _widths(table: Table, parts: Sequence[Sequence[Parts]]) -> list[dict[int, int]]:
    """Characters of the widest of what follows the values of each column, by its place in `Parts`."""
    found = []
    for j in range(len(table.columns)):
        own = [parts[i][j] for i, row in enumerate(table.rows) if row.entries[j].summary]
        found.append({k: max([len(part[k]) for part in own], default=0) for k in FOLLOWING})
    return found
