"""Signs at the numbers of a table whose runs' configurations are not known whole, as their study accepts."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from ablative.reports.tables.tables import Column, Entry, Table

if TYPE_CHECKING:
    from ablative.reports.store.results import Results

SIGN = "∼"
MEANING = "partial configuration: an edited default of the program is not noticed"


def mark_partial(tables: tuple[Table, ...], results: Results) -> tuple[Table, ...]:
    """The tables with a sign at these numbers; one that has no others, or whose cells are not known, has a note."""
    plan = results.plan
    partial = {
        task.task_id
        for task in plan.tasks
        if not plan.has(task.task_id) and plan.trainer.partial(task.stage, task.config)
    }
    return tuple(_marked(table, results, partial) for table in tables) if partial else tables


def _marked(table: Table, results: Results, partial: set[str]) -> Table:
    if table.preformatted or table.sql:
        return dataclasses.replace(table, notes=(*table.notes, f"Of some runs behind these numbers: {MEANING}."))
    found = [
        [_rests(entry, column, results, partial) for entry, column in zip(row.entries, table.columns, strict=True)]
        for row in table.rows
    ]
    known = {share for own in found for share in own if share is not None}
    if True not in known:
        return table
    if False not in known:
        return dataclasses.replace(table, notes=(*table.notes, f"{MEANING[0].upper()}{MEANING[1:]}."))
    rows = tuple(
        dataclasses.replace(
            row,
            entries=tuple(
                dataclasses.replace(entry, finding_marks=entry.finding_marks + SIGN) if share else entry
                for entry, share in zip(row.entries, own, strict=True)
            ),
        )
        for row, own in zip(table.rows, found, strict=True)
    )
    return dataclasses.replace(table, rows=rows, notes=(*table.notes, f"{SIGN} {MEANING}."))


def _rests(entry: Entry, column: Column, results: Results, partial: set[str]) -> bool | None:
    """Whether a number rests on such a task; None: there is no number."""
    if not entry.summary or not entry.cell:
        return None
    return any(not partial.isdisjoint(s.chain) for s in results.coverage.behind(entry.cell, column.stages))
