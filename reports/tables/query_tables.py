"""Tables of the user's own: rows of an SQL query over the study's views, as the one model that every renderer prints.

Text columns are the rows' labels, numbers are numbers. A column `seed` makes rows of the same labels one row: mean,
spread and marks over the seeds, as in other tables; further columns `run_id` and `commit` name the runs behind each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ablative.reports.stats.columns import Compared, compare_rows
from ablative.reports.stats.summary import DECIMALS, summarize
from ablative.reports.store.results import Results
from ablative.reports.store.warehouse import Source, Warehouse
from ablative.reports.tables.escape import bare
from ablative.reports.tables.notes import table_notes
from ablative.reports.tables.tables import Column, Entry, Row, Table, Tested, number
from ablative.study.core.errors import ConfigError, unknown
from ablative.study.spec.labels import joined
from ablative.study.spec.outputs import QueryColumnConfig, QueryConfig, TableConfig

SEED = "seed"
BEHIND = ("run_id", "commit")
"""Columns that name the run and the code behind a row, and are not printed."""
LABELS = ("VARCHAR", "BOOLEAN", "ENUM")

Lines = dict[tuple[str, ...], dict[int, dict[str, Any]]]
"""Labels -> seed -> the query's row."""


def query_tables(configs: Mapping[str, QueryConfig], results: Results) -> tuple[Table, ...]:
    """Ask every declared query; raises ConfigError for one that cannot be asked, or whose rows are no table."""
    return tuple(_table(name, config, results) for name, config in configs.items())


def check_query(where: str, config: QueryConfig, warehouse: Warehouse) -> None:
    """Refuse a query that cannot be a table, whatever the results are: raises ConfigError."""
    _columns(_ask(_sql(config.sql, where), warehouse, where)[0], config, where)


def _columns(kinds: Mapping[str, str], config: QueryConfig, where: str) -> tuple[list[str], list[str]]:
    """Columns of labels, and of numbers."""
    labels = [column for column, kind in kinds.items() if kind.startswith(LABELS) and column not in (SEED, *BEHIND)]
    values = [column for column in kinds if column not in (SEED, *BEHIND, *labels)]
    if not values:
        raise ConfigError(f"{where}: the query has no column of numbers (found: {', '.join(kinds)})")
    for column in config.columns:
        if column not in values:
            raise ConfigError(unknown("column", column, values, f"{where}.columns"))
    return labels, values


def _table(name: str, config: QueryConfig, results: Results) -> Table:
    where = f"queries.{name}"
    sql = _sql(config.sql, where)
    kinds, rows = _ask(sql, results.warehouse, where)
    texts, values = _columns(kinds, config, where)
    lines = _lines(rows, texts, SEED in kinds, where)
    labels, factors = results.labels, results.study.factors
    shown = [tuple(labels.level(*pair) for pair in zip(texts, at, strict=True)) for at in lines]
    names = [bare(joined(", ", filter(None, own))) or "all" for own in shown]
    filled = [_column(key, config, lines, names, where, results) for key in values]
    columns = tuple(column for column, _ in filled)
    entries = zip(*(own for _, own in filled), strict=True)
    whole = tuple(Row(at, row, own) for at, row, own in zip(lines, entries, shown, strict=True))
    notes = _notes(config, whole, columns, SEED in kinds)
    heads = tuple(labels.factor(text) if text in factors else labels.column(text) for text in texts)
    return Table(name, config.title or name, tuple(texts), "", columns, whole, notes, True, sql, heads)


def _sql(text: str, where: str) -> str:
    """The query, or what the file that is named holds (from the working folder)."""
    if not text.strip().endswith(".sql"):
        return text
    try:
        return Path(text.strip()).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where}.sql: cannot read {text.strip()}: {error}") from None


def _ask(sql: str, warehouse: Warehouse, where: str) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Column -> its type, and the rows."""
    import duckdb

    warehouse.provide(sql)
    try:
        statements = warehouse.connection.extract_statements(sql)
        if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
            raise ConfigError(f"{where}.sql: expected one select")
        found = warehouse.connection.sql(sql)
        kinds = dict(zip(found.columns, map(str, found.types), strict=True))
        return kinds, [dict(zip(kinds, row, strict=True)) for row in found.fetchall()]
    except duckdb.Error as error:
        raise ConfigError(f"{where}.sql: {' '.join(str(error).split())}") from None


def _lines(rows: Sequence[dict[str, Any]], labels: Sequence[str], seeded: bool, where: str) -> Lines:
    lines: Lines = {}
    for row in rows:
        at = tuple("" if row[label] is None else str(row[label]) for label in labels)
        seed = int(row[SEED]) if seeded else 0
        if seed in lines.setdefault(at, {}):
            named = ", ".join(filter(None, at)) or "no labels"
            fix = "average them in the query" if seeded else "select `seed` too, or another label"
            raise ConfigError(f"{where}.sql: two rows of {named}{f', seed {seed}' * seeded}; {fix}")
        lines[at][seed] = row
    return lines


def _column(
    key: str, table: QueryConfig, lines: Lines, names: Sequence[str], where: str, results: Results
) -> tuple[Column, tuple[Entry, ...]]:
    """A column of numbers, and its entries, compared with each other where one end is better.

    `names`: of the rows, as they are printed.
    """
    config, labels = table.columns.get(key, QueryColumnConfig()), results.labels
    ranked, lowest = config.better != "neither", config.better == "lower"
    label = config.label or key
    heads = ("", labels.column(config.group), labels.column(label))
    seeds = sorted({seed for own in lines.values() for seed in own})
    matrix = np.array([[_value(own.get(seed), key, where) for seed in seeds] for own in lines.values()])
    digits = DECIMALS if config.digits is None else config.digits
    column = Column(label, config.group, "", digits, (), ranked, lowest, key=config.key, heads=heads)
    if not lines:
        return column, ()
    marks = table.marks or results.study.report.marks
    compared = compare_rows(matrix, lambda mean: number(mean, digits), column.order, None, marks=marks)
    entries = []
    for i, own in enumerate(lines.values()):
        sources = tuple(
            Source(seed, _behind(row, "run_id"), _behind(row, "commit"), float(matrix[i, seeds.index(seed)]))
            for seed, row in sorted(own.items())
            if row[key] is not None
        )
        tested = None if (test := compared.tests[i]) is None else Tested(test, names, digits)
        entries.append(_entry(sources, digits, compared, i, tested))
    return column.compared(compared), tuple(entries)


def _behind(row: Mapping[str, Any], name: str) -> str:
    return str(row.get(name) or "")


def _value(row: Mapping[str, Any] | None, key: str, where: str) -> float:
    """NaN where there is none."""
    if row is None or row[key] is None:
        return math.nan
    try:
        return float(row[key])
    except (TypeError, ValueError):
        raise ConfigError(f"{where}.sql: column '{key}': {row[key]!r} is neither text nor a number") from None


def _entry(sources: tuple[Source, ...], digits: int, compared: Compared, row: int, tested: Tested | None) -> Entry:
    summary = summarize([source.value for source in sources])
    if summary is None:
        return Entry("", None, 0, sources, missing="–")
    spread = "" if summary.sd is None else f" ± {number(summary.sd, digits)}"
    text = number(summary.mean, digits) + spread
    best, half = compared.best[row], compared.halves[row]
    return Entry("", summary, summary.n, sources, best=best, ci_half_width=half, literal=text, tested=tested)


def _notes(config: QueryConfig, rows: Sequence[Row], columns: Sequence[Column], seeded: bool) -> tuple[str, ...]:
    notes = table_notes(TableConfig(rows=(), columns=(), note=config.note), rows, columns)
    # Without seeds, what a number was made of is the query's own affair.
    return (*(note for note in notes if seeded or not note.startswith("One seed")), "Rows of a query of the study.")
