"""A paper's tables as printed: values, digits, order, headers, marks and notes, in the model of our own tables."""

from __future__ import annotations

from ablative.reports.reference.declarations import (
    ColumnDeclaration,
    Places,
    TableDeclaration,
    declared_tables,
    place_values,
)
from ablative.reports.reference.values import PAPERS, PrintedValue
from ablative.reports.stats.summary import Summary
from ablative.reports.tables.tables import Column, Entry, Row, Table, number
from ablative.study.core.errors import ConfigError

MISPRINT = "printed as "
"""How the note of a misprinted value begins; what was printed follows."""


def printed_tables(paper: str) -> tuple[Table, ...]:
    """Every declared table of a paper; raises ConfigError for a declaration that does not fit the values."""
    tables = declared_tables(paper).tables
    return tuple(printed_table(paper, name, table, place_values(paper, name, table)) for name, table in tables.items())


def printed_table(paper: str, number: str, declared: TableDeclaration, places: Places) -> Table:
    """One table; raises ConfigError where the declared digits do not show a value whole."""
    rows = tuple(
        Row(row.label, tuple(_entry(declared, places, i, j) for j in range(len(declared.columns))))
        for i, row in enumerate(declared.rows)
    )
    return Table(
        name=f"{paper}_{number}",
        title=f"{PAPERS[paper]}, Table {number}. {declared.caption}",
        factors=declared.heads,
        split="",
        columns=tuple(map(_column, declared.columns)),
        rows=rows,
        notes=(*_value_notes(declared, places), *declared.notes),
        preformatted=True,
    )


def _column(column: ColumnDeclaration) -> Column:
    return Column(
        label=column.label, group=column.group, split=column.over, digits=column.digits, metrics=(), ranked=False
    )


def _entry(table: TableDeclaration, places: Places, i: int, j: int) -> Entry:
    """The number at row `i`, column `j`, with the one in brackets behind it where there are two."""
    values = places[i, j]
    first = values[0].value
    if first is None:
        return Entry("", None, 0, missing="–", detail="the paper prints a dash")
    texts = [printed_text(value, table.columns[j]) for value in values]
    text = texts[0] if len(texts) == 1 else f"{texts[0]} ({texts[1]})"
    beside = values[1].value if len(values) > 1 else None
    return Entry("", Summary(1, first, None), 1, best=_bold(table, places, i, j), reference_value=beside, literal=text)


def printed_text(value: PrintedValue, column: ColumnDeclaration) -> str:
    """A value as its column prints it, misprints included."""
    assert value.value is not None
    if value.note.startswith(MISPRINT):
        return value.note.removeprefix(MISPRINT)
    text = number(value.value, column.digits)
    if float(text) != value.value:
        raise ConfigError(
            f"table {value.table}, column '{column.name}': {column.digits} digits do not show {value.value}"
        )
    return text + column.unit


def _bold(table: TableDeclaration, places: Places, i: int, j: int) -> bool:
    if not table.best:
        return table.rows[i].name in table.bold.get(table.columns[j].name, ())
    values = [places[row, j][0].value for row in range(len(table.rows))]
    return places[i, j][0].value == max(value for value in values if value is not None)


def _value_notes(table: TableDeclaration, places: Places) -> list[str]:
    """What the values' own notes say, once for a row where it is true of the whole row."""
    notes = []
    for i, row in enumerate(table.rows):
        found: dict[str, list[int]] = {}
        for j in range(len(table.columns)):
            value = places[i, j][0]
            if value.note and value.note != row.note:
                found.setdefault(_note(value), []).append(j)
        for note, columns in found.items():
            whole = len(columns) == len(table.columns)
            where = [] if whole else [table.columns[j].label for j in columns]
            notes.append(f"{', '.join([row.name, *where])}: {note}.")
    return notes


def _note(value: PrintedValue) -> str:
    return f"{value.note}, read as {value.value}" if value.note.startswith(MISPRINT) else value.note
