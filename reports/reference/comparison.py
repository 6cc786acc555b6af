"""A paper's printed values next to ours: which value of its table belongs to which place of a study's table."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence

from ablative.reports.reference.declarations import SELECTORS
from ablative.reports.reference.values import PAPERS, PrintedValue, printed_values
from ablative.reports.tables.tables import Entry, Table
from ablative.study.core.errors import ConfigError, unknown
from ablative.study.spec.outputs import ReferenceConfig, TableConfig


def with_reference(table: Table, config: TableConfig) -> Table:
    """The table with the paper's values that its `reference` names, and a note that says whose they are.

    A place has none where its column names no printed value, where a level of its cell has no counterpart in the
    paper, or where the paper has no such number. Raises ConfigError for names that the paper's table does not know,
    and for a place that would mean several of its values.
    """
    if config.reference is None:
        return table
    where = f"table '{table.name}', reference"
    values = _values(config.reference, config, where)
    rows, used = [], []
    for row in table.rows:
        found = [
            _find(
                f"{where}: {row.name}, {column.name}",
                entry,
                config.columns[j % len(config.columns)].reference,
                config.reference,
                values,
            )
            for j, (entry, column) in enumerate(zip(row.entries, table.columns, strict=True))
        ]
        used += [value for value in found if value]
        entries = [_put(entry, value) for entry, value in zip(row.entries, found, strict=True)]
        rows.append(dataclasses.replace(row, entries=tuple(entries)))
    return dataclasses.replace(table, rows=tuple(rows), notes=(*table.notes, *_notes(config.reference, used)))


def _values(reference: ReferenceConfig, config: TableConfig, where: str) -> tuple[PrintedValue, ...]:
    """Values of the paper's table, in which every name of the reference occurs."""
    everything = printed_values(reference.paper)
    tables = {value.table for value in everything}
    if reference.table not in tables:
        raise ConfigError(unknown("table", reference.table, tables, f"{where}.table ({PAPERS[reference.paper]})"))
    values = tuple(value for value in everything if value.table == reference.table)
    named = [
        (f"{where}.levels.{f}.{level}", fields)
        for f, levels in reference.levels.items()
        for level, fields in levels.items()
    ]
    named += [(f"{where}, column '{column.label}'", column.reference) for column in config.columns]
    for at, fields in named:
        for name, text in fields.items():
            if name not in SELECTORS:
                raise ConfigError(unknown("field", name, SELECTORS, at))
            known = {str(getattr(value, name)) for value in values}
            if text not in known:
                raise ConfigError(unknown(name, text, known, at))
    return values


def _find(
    where: str, entry: Entry, column: Mapping[str, str], reference: ReferenceConfig, values: Sequence[PrintedValue]
) -> PrintedValue | None:
    """The printed value of one place, or None where the paper has none."""
    if not entry.cell or not column:
        return None
    fields = dict(column)
    cell: dict[str, str] = json.loads(entry.cell)
    for factor, levels in reference.levels.items():
        if factor in cell and cell[factor] not in levels:
            return None
        fields |= levels.get(cell.get(factor, ""), {})
    found = [value for value in values if all(str(getattr(value, name)) == text for name, text in fields.items())]
    if len(found) > 1:
        raise ConfigError(f"{where}: {fields} means {len(found)} printed values; name more of {', '.join(SELECTORS)}")
    return found[0] if found and found[0].value is not None else None


def _put(entry: Entry, value: PrintedValue | None) -> Entry:
    return dataclasses.replace(entry, reference_value=value.value) if value else entry


def _notes(reference: ReferenceConfig, used: Sequence[PrintedValue]) -> tuple[str, ...]:
    """Whose the numbers are, and on which data they were trained and tested: a reader must not take them for ours."""
    if not used:
        return ()
    data = " and ".join(dict.fromkeys(f"{value.pretrain_data} ({value.epochs} epochs)" for value in used))
    tasks = ", ".join(dict.fromkeys(value.task for value in used))
    paper = f"{PAPERS[reference.paper]}, Table {reference.table}"
    return (f"[…]: not ours, but printed in {paper}: pretrained on {data}, evaluated on {tasks}.",)
