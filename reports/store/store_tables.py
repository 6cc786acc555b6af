"""The tables that every kind of tracking store gives to the warehouse, and the types of their columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import pyarrow

Types = Mapping[str, str]
"""Column -> name of its Arrow type (`pyarrow.type_for_alias`)."""

RUNS: Types = {"run": "int64", "run_uuid": "string", "start_time": "int64", "end_time": "int64"}
RUN_TAGS: Types = {"run": "int64", "key": "string", "value": "string"}
METRICS: Types = {"run": "int64", "key": "string", "value": "double", "is_nan": "bool"}
HISTORY: Types = {"run_uuid": "string", "key": "string", "step": "int64", "value": "double", "is_nan": "bool"}

SQL_TYPES = {"int64": "bigint", "int32": "integer", "string": "varchar", "double": "double", "bool": "boolean"}
"""Name of an Arrow type -> DuckDB's."""
FEW = 20_000
"""Rows below which Arrow's functions (`pyarrow.compute`) take longer to import than they save."""


@dataclass(frozen=True)
class StoreTables:
    """The rows of one experiment. Runs deleted in MLflow are left out.

    `runs`: run, run_uuid, start_time, end_time (milliseconds since 1970, or null); `tags`: run, key, value;
    `metrics` (latest values): run, key, value, is_nan. `run` identifies a run within these tables: a number where the
    store has one, which is read and joined in half the time of `run_uuid`.
    """

    runs: pyarrow.Table
    tags: pyarrow.Table
    metrics: pyarrow.Table


class Store(Protocol):
    """Where MLflow keeps an experiment."""

    def read(self, experiment: str) -> StoreTables | None:
        """Rows of the experiment, or None where the store has no such experiment. Raises StoreError."""

    def history(self, run_uuids: Sequence[str], metrics: Sequence[str]) -> pyarrow.Table:
        """run_uuid, key, step, value, is_nan: every logged point of some metrics of some runs. Raises StoreError."""


def typed(table: pyarrow.Table, types: Types) -> pyarrow.Table:
    """A store's table with the declared types of its columns.

    A database driver has to guess them where there is nothing to read: ADBC's SQLite driver gives int64 to each column
    of a table without rows. Two kinds of columns stay as the store has them: `run` where it is text (PostgreSQL), and
    text that is encoded as a dictionary.
    """
    import pyarrow as pa

    fields = []
    for name, alias in types.items():
        found, declared = table.schema.field(name).type, pa.type_for_alias(alias)
        encoded = pa.types.is_dictionary(found) and found.value_type == declared
        kept = encoded or (name == "run" and pa.types.is_string(found))
        fields.append(pa.field(name, found if kept else declared))
    schema = pa.schema(fields)
    return table.select(list(types)).cast(schema) if table.num_rows else schema.empty_table()


def table_of(rows: Iterable[tuple[object, ...]], types: Types) -> pyarrow.Table:
    """A table of rows of Python values, each column of its declared type."""
    import pyarrow as pa

    columns = list(zip(*rows, strict=True)) or [()] * len(types)
    arrays = [
        pa.array(column, type=pa.type_for_alias(kind)) for column, kind in zip(columns, types.values(), strict=True)
    ]
    return pa.table(dict(zip(types, arrays, strict=True)))
