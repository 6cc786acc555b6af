"""The SQL files of the warehouse: models in their order, and the checks that must return no rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ablative.study.core.errors import StoreError
from ablative.study.core.packages import folder

if TYPE_CHECKING:
    import duckdb

SQL = folder("ablative.reports") / "sql"
STAGING = ("stg_runs", "stg_tags", "stg_metrics")
INTERMEDIATE = ("int_metrics", "int_tasks", "int_finished")
KEPT = ("stg_tags", *INTERMEDIATE)
"""Built once; they are small."""
MARTS = ("runs", "results", "cost", "trials", "declared_metrics")
"""Marts, in the order of their dependencies."""
CURVES = "curves"
"""One more mart, of all that was logged over steps: large, and built only where it is asked for."""


def sql(folder: str, model: str) -> str:
    """The query of a model, in `staging`, `intermediate` or `marts`."""
    return (SQL / folder / f"{model}.sql").read_text(encoding="utf-8")


def check(connection: duckdb.DuckDBPyConnection) -> None:
    """Run every query of `sql/checks`; the first that returns rows is a StoreError that shows some of them."""
    for file in sorted((SQL / "checks").glob("*.sql")):
        query = file.read_text(encoding="utf-8")
        rows = connection.execute(query).fetchmany(3)
        if rows:
            name = file.stem.replace("_", " ")
            shown = "; ".join(", ".join(map(str, row)) for row in rows)
            raise StoreError(f"the tracking store fails the check '{name}' ({description(query)}): {shown}")


def description(query: str) -> str:
    """The comment at the head of an SQL file, as one line."""
    lines: Iterable[str] = query.splitlines()
    head = [line.removeprefix("--").strip() for line in lines if line.startswith("--")]
    return " ".join(head)
