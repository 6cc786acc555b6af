"""MLflow's store as Arrow streams: SQLite and PostgreSQL through ADBC, a server through its REST API.

The database is read directly because `mlflow.search_runs` costs some forty times the CPU
(tests/benchmarks/bench_report.py); the price is that the schema must be one we know, which is checked by MLflow's own
migration id.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

from ablative.reports.store.store_tables import HISTORY, Point, Rows, Store, StoreTables
from ablative.study.core.errors import StoreError
from ablative.study.core.secrets import check_address, redact
from ablative.study.home import tracking_tags

T = TypeVar("T")


class Fetch(Protocol):
    """A query of the store, and what is to be made of its rows."""

    def __call__(self, query: str, take: Callable[[Rows], T]) -> T: ...


SCHEMA_VERSIONS = {"dc11669786a5": "MLflow 3.17"}
"""Migration ids (`alembic_version`) whose tables this module knows."""

_DAMAGED = ("not a database", "malformed", "no such table")
FILL_AGAIN = "; move the damaged file away, and 'ablate sync STUDY' fills a new one from the journals"
BUSY_TIMEOUT_MS = 30_000
"""How long to wait for a writer: ADBC's own default is to fail at once."""


def open_store(uri: str, cache: Path | None = None) -> Store:
    """The reader for a tracking URI; raises StoreError for a kind of store that it cannot read.

    `cache`: folder for the finished runs of a server; a database is quick enough to be read each time.
    """
    scheme = uri.partition(":")[0].partition("+")[0]
    if scheme in ("http", "https"):
        from ablative.reports.store.rest_store import RestStore

        return RestStore(uri, cache)
    if scheme in ("sqlite", "postgresql", "postgres"):
        if scheme != "sqlite":
            check_address("MLFLOW_TRACKING_URI", uri)
        return DatabaseStore(uri)
    raise StoreError(
        f"cannot read the tracking store '{scheme}:…'; known are sqlite:///FILE, postgresql://…, and http(s)://… of an "
        "MLflow server (which can stand before any other store)"
    )


@dataclass(frozen=True)
class DatabaseStore:
    """MLflow's own tables in SQLite or PostgreSQL, read only."""

    uri: str

    def read(self, experiment: str, tables: StoreTables) -> bool:
        if (file := self._file()) is not None and not file.exists():
            return False
        with self._reading() as fetch:
            _check_schema(fetch("select version_num from alembic_version", tables.values), self.uri)
            named = f"name in ({_literals([experiment])}) and lifecycle_stage = 'active'"
            found = fetch(f"select experiment_id from experiments where {named}", tables.values)
            if not found:
                return False
            number = int(found[0][0])
            # Tags first: a run seen as completed has all its metrics in the rows read after.
            keys = _literals(tracking_tags.READ)
            run = "runs.run_uuid" if self._file() is None else "runs.rowid"
            ours = f"runs.experiment_id = {number} and runs.lifecycle_stage = 'active'"
            # `cross join` and `key || ''` are for SQLite, which would rather walk the whole table, or its index of all
            # keys: run by run takes a third of the time.
            tags = f"select {run} as run, key, value from runs cross join tags where {ours}"
            tags += f" and tags.run_uuid = runs.run_uuid and key || '' in ({keys})"
            runs = f"select {run} as run, run_uuid, start_time, end_time from runs where {ours}"
            metrics = f"select {run} as run, key, value, is_nan from runs cross join latest_metrics as latest"
            metrics += f" where {ours} and latest.run_uuid = runs.run_uuid"
            for name, query in (("src_tags", tags), ("src_runs", runs), ("src_metrics", metrics)):
                fetch(query, functools.partial(tables.add, name))
            return True

    def history(self, run_uuids: Sequence[str], metrics: Sequence[str], tables: StoreTables, name: str) -> None:
        with self._reading() as fetch:
            fetch(_points(run_uuids, metrics), lambda rows: tables.add(name, rows, HISTORY))

    def points(self, run_uuids: Sequence[str], metrics: Sequence[str]) -> list[Point]:
        """Every logged point of some metrics of some runs."""
        return [Point(*row) for row in self.rows(_points(run_uuids, metrics))]

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Rows of a query on tables of any version of MLflow."""
        with self._reading() as fetch:
            return fetch(query, self._aside.values)

    @functools.cached_property
    def _aside(self) -> StoreTables:
        """A connection for rows that no table gets: it takes as long to make as twenty queries."""
        import duckdb

        return StoreTables(duckdb.connect(config={"threads": 1}))

    def _file(self) -> Path | None:
        """The file of a SQLite URI (three slashes and a relative path, or four and an absolute one)."""
        match = re.match(r"sqlite(?:\+\w+)?:///(.*?)(?:\?.*)?$", self.uri)
        return Path(match.group(1)).absolute() if match else None

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Fetch]:
        """One read transaction; every failure of the database becomes a StoreError without the password."""
        import adbc_driver_manager as adbc
        import duckdb

        try:
            # ADBC's DB-API imports PyArrow's data sets and pandas with them: a third of a small report's time.
            with self._database() as database, adbc.AdbcConnection(database) as connection:
                connection.set_autocommit(False)
                if self._file() is not None:
                    _fetch(connection, f"pragma busy_timeout = {BUSY_TIMEOUT_MS}", lambda rows: None)
                yield functools.partial(_fetch, connection)
        except (adbc.Error, duckdb.Error) as error:  # of the driver, where it is asked and where DuckDB reads from it
            first, _, _ = str(error).strip().partition("\n")  # the rest shows the query
            said = redact(f"{self.uri}: {first}", self.uri)
            advice = FILL_AGAIN if any(sign in str(error) for sign in _DAMAGED) else ""
            raise StoreError(f"cannot read the tracking store {said}{advice}") from error

    def _database(self) -> Any:
        file = self._file()
        if file is not None:
            import adbc_driver_sqlite

            return adbc_driver_sqlite.connect(f"file:{quote(str(file))}?mode=ro")
        import adbc_driver_postgresql

        # SQLAlchemy writes the driver into the scheme (postgresql+psycopg2://); libpq knows none.
        return adbc_driver_postgresql.connect(re.sub(r"^postgres(ql)?(\+\w+)?:", "postgresql:", self.uri))


def _check_schema(found: Sequence[tuple[object, ...]], uri: str) -> None:
    versions = [version for (version,) in found]
    if len(versions) != 1 or versions[0] not in SCHEMA_VERSIONS:
        known = ", ".join(f"{number} ({name})" for number, name in SCHEMA_VERSIONS.items())
        raise StoreError(
            f"{redact(uri)}: the tracking store has schema version {', '.join(map(str, versions)) or 'none'}, "
            f"but this version of ablate reads {known}; use that MLflow, or read the store through its server "
            "(MLFLOW_TRACKING_URI=http://…)"
        )


def _fetch(connection: Any, query: str, take: Callable[[Rows], T]) -> T:
    """What `take` makes of a query's rows: ADBC's handle of an Arrow stream, which is read before it returns."""
    import adbc_driver_manager as adbc

    with adbc.AdbcStatement(connection) as statement:
        statement.set_sql_query(query)
        handle, _ = statement.execute_query()
        return take(handle)


def _points(run_uuids: Sequence[str], metrics: Sequence[str]) -> str:
    return (
        "select run_uuid, key, step, value, is_nan from metrics "
        f"where run_uuid in ({_literals(run_uuids)}) and key in ({_literals(metrics)})"
    )


def _literals(values: Any) -> str:
    """SQL string literals, separated by commas; `null` where there are none."""
    return ", ".join("'" + str(value).replace("'", "''") + "'" for value in values) or "null"
