"""The tables that every kind of tracking store gives to the warehouse, and the types of their columns."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    import duckdb

Types = Mapping[str, str]
"""Column -> DuckDB's name of its type."""

RUNS: Types = {"run": "bigint", "run_uuid": "varchar", "start_time": "bigint", "end_time": "bigint"}
RUN_TAGS: Types = {"run": "bigint", "key": "varchar", "value": "varchar"}
METRICS: Types = {"run": "bigint", "key": "varchar", "value": "double", "is_nan": "boolean"}
HISTORY: Types = {"run_uuid": "varchar", "key": "varchar", "step": "bigint", "value": "double", "is_nan": "boolean"}

SOURCES: Mapping[str, Types] = {"src_runs": RUNS, "src_tags": RUN_TAGS, "src_metrics": METRICS}
"""Table → its columns, of those that an experiment is read into."""


def encoded(value: float) -> tuple[float, bool]:
    """(value, is_nan) as MLflow's tables have it."""
    return (0.0, True) if value != value else (value, False)


class Point(NamedTuple):
    """One logged value of a metric, as MLflow's tables have it."""

    run_uuid: str
    key: str
    step: int
    value: float
    """0 for NaN."""
    is_nan: bool

    @classmethod
    def of(cls, run_uuid: str, key: str, step: int, value: float) -> Point:
        return cls(run_uuid, key, step, *encoded(value))


class Rows(Protocol):
    """Arrow's interface for a stream of rows, which can be read once: a driver's result, or a table of PyArrow."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


class StoreTables:
    """A store's rows as tables of a DuckDB connection. Runs deleted in MLflow are left out.

    `src_runs`: run, run_uuid, start_time, end_time (milliseconds since 1970, or null); `src_tags`: run, key, value;
    `src_metrics` (latest values): run, key, value, is_nan. `run` identifies a run within these tables: a number where
    the store has one, which is read and joined in half the time of `run_uuid`.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self.connection = connection
        self._begun: set[str] = set()

    def add(self, name: str, rows: Rows, types: Types | None = None) -> None:
        """Append to a table; `types`: of its columns, where it is none of `SOURCES`.

        Each column gets its declared type: ADBC's SQLite driver, which has to guess one, gives int64 to each column of
        a query without rows. `run` is of the type that the store gives it.
        """
        types = types or SOURCES[name]
        columns = [name if name == "run" else f"cast({name} as {kind}) as {name}" for name, kind in types.items()]
        self.connection.register("given", rows)
        self._append(name, f"select {', '.join(columns)} from given")
        self.connection.unregister("given")

    def add_values(self, name: str, rows: Sequence[tuple[object, ...]], types: Types | None = None) -> None:
        """Append rows of Python values; `run` has to be of the type that it has there."""
        types = types or SOURCES[name]
        text = "run" in types and bool(rows) and isinstance(rows[0][0], str)
        self._append(name, *selected({**types, "run": "varchar"} if text else types, rows))

    def values(self, rows: Rows) -> list[tuple[Any, ...]]:
        """Rows as Python values; no table gets them."""
        return self.connection.from_arrow(rows).fetchall()

    def complete(self, types: Mapping[str, Types]) -> None:
        """Add those of these tables that got no rows."""
        for name in types.keys() - self._begun:
            self.add_values(name, (), types[name])

    def _append(self, name: str, query: str, parameters: Mapping[str, str] | None = None) -> None:
        head = f"insert into {name}" if name in self._begun else f"create or replace table {name} as"
        self.connection.execute(f"{head} {query}", parameters)
        self._begun.add(name)


def selected(types: Types, rows: Sequence[tuple[object, ...]]) -> tuple[str, dict[str, str]]:
    """A DuckDB query that gives rows of Python values, and its parameters.

    They enter as JSON, a list for each column: through NumPy or PyArrow they are no faster, and these take longer to
    import than all that a small study is asked for.
    """
    columns = list(zip(*rows, strict=True)) or [()] * len(types)
    lists = [f"""unnest(from_json(${name}, '["{kind}"]')) as {name}""" for name, kind in types.items()]
    return f"select {', '.join(lists)}", dict(zip(types, map(json.dumps, columns), strict=True))


class Store(Protocol):
    """Where MLflow keeps an experiment."""

    def read(self, experiment: str, tables: StoreTables) -> bool:
        """Add the experiment's rows to the tables; False where the store has no such experiment. Raises StoreError."""

    def history(self, run_uuids: Sequence[str], metrics: Sequence[str], tables: StoreTables, name: str) -> None:
        """Add every logged point of some metrics of some runs to a table of type `HISTORY`. Raises StoreError."""
