"""A study's warehouse asked in SQL, described and exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from ablative.reports.store.sql_models import SQL, description
from ablative.reports.store.warehouse import Warehouse
from ablative.study.core.errors import ConfigError
from ablative.study.core.files import write_atomic


class QueryRows(NamedTuple):
    """Rows of a query, with the names of their columns."""

    names: list[str]
    rows: list[tuple[Any, ...]]


def ask(warehouse: Warehouse, query: str) -> QueryRows:
    """Run a query of the user's; raises ConfigError with DuckDB's reason where it cannot be run."""
    import duckdb

    warehouse.provide(query)
    try:
        found = warehouse.connection.execute(query)
        return QueryRows([column[0] for column in found.description or ()], found.fetchall())
    except duckdb.Error as error:
        raise ConfigError(f"query: {' '.join(str(error).split())}") from None


def views(warehouse: Warehouse) -> QueryRows:
    """One row for each column of every view; the first row of a view also says what a row of that view means."""
    warehouse.load_factors()
    warehouse.load_curves()
    found = []
    for view in warehouse.views:
        text = description((SQL / "marts" / f"{view}.sql").read_text(encoding="utf-8"))
        for i, (column, kind) in enumerate(_columns(warehouse, view)):
            found.append((view if i == 0 else "", column, kind, text if i == 0 else ""))
    return QueryRows(["view", "column", "type", "meaning"], found)


def export(warehouse: Warehouse, folder: Path) -> list[Path]:
    """Every view as a Parquet file of its name, rows in the order of their columns; the same store gives the same."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    warehouse.load_factors()
    warehouse.load_curves()
    paths = []
    for view in warehouse.views:
        buffer = pa.BufferOutputStream()
        pq.write_table(warehouse.connection.sql(f"select * from {view} order by all").to_arrow_table(), buffer)
        paths.append(folder / f"{view}.parquet")
        write_atomic(paths[-1], buffer.getvalue().to_pybytes())
    return paths


def _columns(warehouse: Warehouse, view: str) -> list[tuple[str, str]]:
    return [(row[0], row[1]) for row in warehouse.rows(f"describe {view}")]
