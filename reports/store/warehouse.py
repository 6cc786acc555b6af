"""The warehouse: one study's part of the MLflow store as SQL models in DuckDB.

`sql/staging` cleans what MLflow stores, `sql/marts` says what it means, `sql/checks` must return no rows. Every number
that a report prints comes from a query over the marts; `save` keeps them in a file in which it can be asked again.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ablative.reports.store.factor_columns import BY_FACTOR, PLACE, factors_sql
from ablative.reports.store.sql_models import CURVES, INTERMEDIATE, KEPT, MARTS, STAGING, check, description, sql
from ablative.reports.store.store_tables import HISTORY, SOURCES, Store, StoreTables, Types, selected
from ablative.study.core.files import NO_ROOM

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ablative.study.plan.plan import Plan
    from ablative.study.plan.task import Task


class Source(NamedTuple):
    """What one seed contributes to a number."""

    seed: int
    run_id: str
    commit: str
    value: float
    """Mean over the tasks of the column; NaN where the run diverged."""


class Values:
    """Results by cell and group of metrics."""

    def __init__(
        self, positions: Mapping[tuple[str, ...], int], found: Mapping[tuple[str, int], tuple[Source, ...]]
    ) -> None:
        self._positions, self._found = positions, found

    def of(self, group: tuple[str, ...]) -> Callable[[str], tuple[Source, ...]]:
        """Function from a cell's key to its seeds, in order, for a group of metrics that was asked for."""
        position = self._positions[group]
        return lambda cell: self._found.get((cell, position), ())


_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, sort_keys=True).encode


def cell_key(cell: Mapping[str, str]) -> str:
    """The text that names a cell in the marts: JSON, factors in alphabetical order.

    >>> cell_key({"pooling": "map", "method": "clip"})
    '{"method":"clip","pooling":"map"}'
    """
    return _cell_key(tuple(cell.items()))


@functools.lru_cache(maxsize=100_000)
def _cell_key(items: tuple[tuple[str, str], ...]) -> str:
    return _encode(dict(items))  # asked for at every task of a cell, and in every table


def value_query(metrics: Sequence[str]) -> str:
    """The query behind one number: its value for each seed. `$cell` is the parameter for a cell's key.

    A seed that lacks one of the metrics has no row: averages never cover different sets of tasks. The values are
    averaged in the order of their names, so that the last bit is always the same.
    """
    return (
        "select seed, run_id, string_agg(distinct commit, ' ' order by commit) as commit,\n"
        "       list_avg(list(value order by metric)) as value\n"
        "from results\n"
        f"where cell = $cell and metric in ({', '.join(quoted(metric) for metric in metrics) or 'null'})\n"
        f"group by seed, run_id having count(*) = {len(metrics)}\n"
        "order by seed"
    )


def quoted(text: str) -> str:
    """An SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


class Warehouse:
    """Marts of one study, in memory. Close it, or use it as a context manager."""

    def __init__(self, store: Store, plan: Plan) -> None:
        """Read the store, build the models and run the checks; raises StoreError."""
        import duckdb

        # One thread: these models are small, and it saves memory and CPU.
        self.connection = duckdb.connect(":memory:", config={"threads": 1})
        self._saved = plan.home.study(plan.study.name).warehouse.absolute()
        self._draft = self._saved.with_name(f".{self._saved.name}.{os.getpid()}")
        # Nothing may be fetched at run time; the one place for files is where `save` makes its own.
        self.connection.execute(f"set allowed_directories = [{quoted(f'{self._draft}/')}]")
        self.connection.execute("set autoinstall_known_extensions = false; set enable_external_access = false")
        self._store, self._factors = store, tuple(plan.study.factors)
        tables = StoreTables(self.connection)
        store.read(plan.study.name, tables)
        tables.complete(SOURCES)
        for name, (types, rows) in _plan_tables(plan).items():
            self._fill(f"src_{name}", types, rows)
        for model in STAGING:
            self._build("staging", model)
        for model in INTERMEDIATE:
            self._build("intermediate", model)
        for model in MARTS:
            self._build("marts", model)
        check(self.connection)
        self.views: tuple[str, ...] = MARTS
        """Marts that are there to be asked."""

    def __enter__(self) -> Warehouse:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def rows(self, query: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Rows of a query over the marts."""
        return self.connection.execute(query, parameters).fetchall()

    def metrics(self) -> set[str]:
        """Names of all metrics that finished tasks have reported."""
        return {name for (name,) in self.rows("select distinct metric from results")}

    def values(self, groups: Iterable[tuple[str, ...]], cells: Iterable[str]) -> Values:
        """What each seed contributes to the mean over each group of metrics, for many cells (their keys) at once.

        The same numbers as `value_query` gives one by one.
        """
        positions = {group: i for i, group in enumerate(dict.fromkeys(groups))}
        wanted = [(i, metric, len(group)) for group, i in positions.items() for metric in group]
        self._fill("wanted", _WANTED, wanted)
        keys = dict.fromkeys(cells)
        self._fill("wanted_cells", _WANTED_CELLS, list(enumerate(keys)))
        self.connection.execute(f"create or replace temp table found as {_VALUES}")
        self.connection.execute(f"create or replace temp table named as {_NAMED}")
        names = self.rows("select run_id, commit from named order by name")
        return Values(positions, _grouped(list(keys), names, self.connection.execute(_FOUND).fetchnumpy()))

    def curves(self, metrics: Sequence[str]) -> list[tuple[str, int, str, int, float]]:
        """(cell key, seed, metric, step, value) of every finite point of some metrics, in this order."""
        if CURVES not in self.views:
            self._load_curves(metrics)
        return self.rows(
            "select cell, seed, metric, step, value from curves "
            "where isfinite(value) and list_contains($names, metric) order by cell, seed, metric, step",
            {"names": list(metrics)},
        )

    def run_curves(self, metric: str) -> list[tuple[str, int, float]]:
        """(run id, step, value) of every finite point of a metric, in this order."""
        if CURVES not in self.views:
            self._load_curves([metric])
        return self.rows(
            "select distinct run_id, step, value from curves "
            "where isfinite(value) and metric = $metric order by run_id, step",
            {"metric": metric},
        )

    def provide(self, query: str) -> None:
        """Build what a query names and was not needed yet."""
        if re.search(rf"\b{BY_FACTOR}\b", query, re.IGNORECASE):
            self.load_factors()
        if re.search(rf"\b{CURVES}\b", query, re.IGNORECASE):
            self.load_curves()

    def load_factors(self) -> None:
        """Make `results_by_factor` one of the views."""
        if BY_FACTOR not in self.views:
            query = sql("marts", BY_FACTOR).replace(PLACE, factors_sql(self._factors))
            self.connection.execute(f"create or replace view {BY_FACTOR} as {query}")
            self.views = (*self.views, BY_FACTOR)

    def load_curves(self) -> None:
        """Make `curves` one of the views, with every metric that a task of the plan has logged."""
        if CURVES not in self.views:
            names = self.rows("select distinct metric from stg_metrics order by metric")
            self._load_curves([name for (name,) in names])
            self.views = (*self.views, CURVES)

    def _load_curves(self, metrics: Sequence[str]) -> None:
        tables = StoreTables(self.connection)
        for runs, names in self.rows(_LOGGED, {"names": list(metrics)}):
            self._store.history(runs, names, tables, "src_history")
        tables.complete({"src_history": HISTORY})
        self._build("staging", "stg_history")
        self._build("marts", CURVES)

    def history(self, name: str, mlflow_runs: Sequence[str], metrics: Sequence[str]) -> None:
        """Make a table `name` of every point of some metrics of some runs, as MLflow stores them."""
        tables = StoreTables(self.connection)
        if mlflow_runs and metrics:
            self._store.history(mlflow_runs, metrics, tables, name)
        tables.complete({name: HISTORY})

    def save(self) -> Path:
        """Write the marts into the study's DuckDB file, replaced in one step, for queries of the user's own.

        Raises OSError where there is no room; the last file is left as it was.
        """
        import duckdb

        folder, file = self._draft, self._draft / self._saved.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            self.connection.execute(f"attach {quoted(str(file))} as saved")
            for name in self.views:
                self.connection.execute(f"create table saved.{name} as select * from {name}")
                comment = quoted(description(sql("marts", name)))
                self.connection.execute(f"comment on table saved.{name} is {comment}")
            self.connection.execute("detach saved")
            file.replace(self._saved)
        except duckdb.Error as error:
            # DuckDB has its own errors for what the system says, and no number in them.
            number = next((each for each in NO_ROOM if os.strerror(each) in str(error)), None)
            if number is None:
                raise
            raise OSError(number, os.strerror(number), str(self._saved)) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return self._saved

    def _build(self, folder: str, model: str) -> None:
        # What is asked for again and again is kept; the rest is read in place: a copy would cost memory.
        kind = "table" if model in KEPT else "view"
        self.connection.execute(f"create or replace {kind} {model} as {sql(folder, model)}")

    def _fill(self, name: str, types: Types, rows: Sequence[tuple[object, ...]]) -> None:
        """A table of rows of Python values."""
        query, parameters = selected(types, rows)
        self.connection.execute(f"create or replace table {name} as {query}", parameters)


def _grouped(
    cells: Sequence[str], names: Sequence[tuple[str, str]], rows: Mapping[str, NDArray[np.generic]]
) -> dict[tuple[str, int], tuple[Source, ...]]:
    """Columns of `_FOUND` by cell and column of a table; `names`: the texts of each `name`."""
    import numpy as np

    if not names:
        return {}
    run_ids, commits = (np.array(texts, dtype=object)[rows["name"]].tolist() for texts in zip(*names, strict=True))
    columns = (rows["seed"].tolist(), run_ids, commits, rows["value"].tolist())
    sources = tuple(map(Source._make, zip(*columns, strict=True)))
    cell, place = rows["cell"], rows["position"]
    starts = np.flatnonzero(np.diff(cell, prepend=-1) | np.diff(place, prepend=-1))
    keys = zip([cells[number] for number in cell[starts].tolist()], place[starts].tolist(), strict=True)
    bounds = itertools.pairwise([*starts.tolist(), len(sources)])
    return {key: sources[start:end] for key, (start, end) in zip(keys, bounds, strict=True)}


def _plan_tables(plan: Plan) -> dict[str, tuple[Types, list[tuple[Any, ...]]]]:
    """Table → the types of its columns, and its rows."""
    return {
        "planned": (_PLANNED, [_planned(task) for task in plan.tasks]),
        "cells": (_CELLS, [(task.task_id, cell_key(cell)) for task in plan.tasks for cell in task.cells]),
        "needs": (_NEEDS, [(task, need) for task, needs in rested_on(plan.tasks).items() for need in needs]),
        "declared": (_DECLARED, [(m.name, m.stage, m.unit, m.better, m.low, m.high) for m in plan.declared.values()]),
    }


def _planned(task: Task) -> tuple[Any, ...]:
    # A task that does not depend on the seed belongs to no run, whose costs it would be.
    return task.task_id, task.run_id, task.stage, task.seed, task.seeded, task.opens and task.seeded


def rested_on(tasks: Sequence[Task]) -> dict[str, tuple[str, ...]]:
    """Task id → ids of all that it needs, directly or through others; `tasks`: each after those that it needs."""
    found: dict[str, tuple[str, ...]] = {}
    for task in tasks:
        found[task.task_id] = tuple(dict.fromkeys(each for need in task.needs for each in (*found.get(need, ()), need)))
    return found


_PLANNED = {
    **{"task_id": "varchar", "run_id": "varchar", "stage": "varchar"},
    **{"seed": "bigint", "seeded": "boolean", "opens": "boolean"},
}

_CELLS = {"task_id": "varchar", "cell": "varchar"}

_NEEDS = {"task_id": "varchar", "need": "varchar"}

_DECLARED = {
    **{"metric": "varchar", "stage": "varchar", "unit": "varchar", "better": "varchar"},
    **{"low": "double", "high": "double"},
}

_WANTED = {"position": "integer", "metric": "varchar", "needed": "integer"}

_WANTED_CELLS = {"number": "integer", "cell": "varchar"}

_VALUES = """
    with hits as materialized (
        select number as cell, metric, seed, run_id, commit, value
        from results
        join wanted_cells using (cell)
        where metric in (select metric from wanted)
    )
    select cell, position, seed, run_id, commit, value
    from hits join wanted using (metric)
    where needed = 1
    union all
    select cell, position, seed, run_id, string_agg(distinct commit, ' ' order by commit) as commit,
           list_avg(list(value order by metric)) as value
    from hits join wanted using (metric)
    where needed > 1
    group by cell, position, needed, seed, run_id having count(*) = needed
"""
"""`value_query` for many cells and columns; most columns are one metric, where there is nothing to average."""

_NAMED = """
    select row_number() over () - 1 as name, run_id, commit
    from (select distinct run_id, commit from found)
"""
"""The texts of `found`, each once: they repeat some hundred times, and each is to become one Python string."""

_FOUND = """
    select found.cell, position, seed, name, value
    from found join named using (run_id, commit)
    order by found.cell, position, seed
"""

_LOGGED = """
    with kinds as (select distinct stage, opens from src_planned),

    asked as (
        select kinds.stage, opens, list(metric order by metric) as metrics
        from kinds
        join int_metrics as metrics
            on case when costs then opens else coalesce(metrics.stage = kinds.stage, true) end
        where list_contains($names, metric)
        group by all
    )

    select list(mlflow_run_id order by mlflow_run_id), any_value(metrics)
    from asked
    join src_planned using (stage, opens)
    join int_tasks using (task_id)
    group by asked.stage, asked.opens
    order by asked.stage, asked.opens
"""
"""MLflow runs of planned tasks, and those of some metrics that are theirs."""
