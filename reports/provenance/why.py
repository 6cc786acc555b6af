"""The runs behind one number of a table, found by the labels or the places of its row and column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ablative.reports.provenance.sidecar import entry_json, values
from ablative.reports.tables.tables import Column, Entry, Row, Table
from ablative.study.core.errors import ConfigError, unknown


@dataclass(frozen=True)
class Answer:
    """One number with all that is known of it."""

    table: Table
    row: Row
    column: Column
    entry: Entry
    query: str

    def to_json(self) -> dict[str, Any]:
        sources = self.entry.sources
        runs = [{**source._asdict(), "value": value} for source, value in zip(sources, values(sources), strict=True)]
        place = {"table": self.table.name, "row": self.row.name, "column": self.column.name}
        return {
            **place,
            **entry_json(self.entry),
            "test": self.entry.test,
            "runs": runs,
            "metrics": list(self.column.metrics),
            "query": self.query,
        }


def find(table: Table, row: str, column: str) -> Answer:
    """The number at a row and a column, each given by its label, or by its place from 1 on.

    A row's label is its levels (`clip, map`, or `method=clip,pooling=map`) or their printed labels; a column's is its
    own header, after those above it where that is not enough (`large / Zero-shot / shape`).

    Raises ConfigError with the nearest name.
    """
    rows = [_row_names(table, each) for each in table.rows]
    columns = [_column_names(each) for each in table.columns]
    i = _locate(table.name, "row", rows, row)
    j = _locate(table.name, "column", columns, column)
    return Answer(table, table.rows[i], table.columns[j], table.rows[i].entries[j], table.query(i, j))


def _row_names(table: Table, row: Row) -> tuple[str, ...]:
    assigned = [f"{factor}={level}" for factor, level in zip(table.factors, row.levels, strict=True) if level]
    return tuple(dict.fromkeys([row.name, ", ".join(assigned), row.title]))


def _column_names(column: Column) -> tuple[str, ...]:
    """Names by which the user may mean a column, from the full name to the label alone."""
    found: dict[str, None] = {}
    for heads in ((column.split, column.group, column.label), column.printed):
        parts = [part for part in heads if part]
        found |= dict.fromkeys([" / ".join(parts[i:]) for i in range(len(parts))] + [f"{parts[0]} / {parts[-1]}"])
    return tuple(found)


def _locate(table: str, kind: str, names: Sequence[tuple[str, ...]], wanted: str) -> int:
    key = _normal(wanted)
    found = [i for i, own in enumerate(names) if key in map(_normal, own)]
    if len(found) == 1:
        return found[0]
    if len(found) > 1:
        full = "; ".join(names[i][0] for i in found)
        raise ConfigError(f"table '{table}': {kind} '{wanted}' is ambiguous: {full}")
    if key.isdecimal() and 1 <= int(key) <= len(names):
        return int(key) - 1
    raise ConfigError(unknown(kind, wanted, [own[0] for own in names], f"table '{table}'"))


def _normal(name: str) -> str:
    """A label without spaces and case, so that they make no difference."""
    return "".join(name.split()).casefold()
