"""Signs at the numbers of a table that rest on runs which exist already, where others have been run here."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from ablative.reports.tables.tables import Column, Entry, Row, Table

if TYPE_CHECKING:
    from ablative.reports.store.results import Results

SIGN = "◇"


def mark_existing(tables: tuple[Table, ...], results: Results) -> tuple[Table, ...]:
    """The tables with a sign at these numbers; a table that has no others is left as it is."""
    if results.plan.existing is None or not results.plan.existing.places:
        return tables
    return tuple(table if table.preformatted or table.sql else _marked(table, results) for table in tables)


def _marked(table: Table, results: Results) -> Table:
    shares = [[_share(each, column, results) for each, column in _pairs(row, table)] for row in table.rows]
    every = [share for own in shares for share in own if share is not None]
    if not any(every) or min(every) == 1.0:
        return table
    rows = tuple(
        dataclasses.replace(
            row,
            entries=tuple(
                dataclasses.replace(entry, finding_marks=SIGN + entry.finding_marks) if share else entry
                for entry, share in zip(row.entries, own, strict=True)
            ),
        )
        for row, own in zip(table.rows, shares, strict=True)
    )
    return dataclasses.replace(table, rows=rows, notes=(*table.notes, f"{SIGN} rests on runs that existed already."))


def _pairs(row: Row, table: Table) -> list[tuple[Entry, Column]]:
    return list(zip(row.entries, table.columns, strict=True))


def _share(entry: Entry, column: Column, results: Results) -> float | None:
    """The share of a number's runs that existed already; None: there is no number."""
    if not entry.summary or not entry.cell:
        return None
    states = results.coverage.behind(entry.cell, column.stages)
    existing = {state.task.run_id for state in states if results.plan.has(state.task.task_id)}
    return sum(source.run_id in existing for source in entry.sources) / len(entry.sources)
