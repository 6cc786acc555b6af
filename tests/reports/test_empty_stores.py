"""Reports, queries and `why` while MLflow's tables are empty: in a new home, or before the first metric."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
import services
import stores
from shared import empty_store

from ablative.reports.build import report
from ablative.reports.declared import one_number
from ablative.reports.store.coverage import cover
from ablative.reports.store.database_store import DatabaseStore, open_store
from ablative.reports.store.store_tables import HISTORY, SOURCES, StoreTables
from ablative.reports.store.warehouse import Warehouse
from ablative.study.cli import main
from ablative.study.plan.plan import Plan

STUDY = """
name: pooled
base: {model: tiny, data: shapes, schedule: demo}
seeds: [0, 1]
factors: {method: {clip: {objective: clip}, mae: {objective: mae, model.pooling: gap}}}
baseline: {method: clip}
protocols: [zero_shot, linear_probe]
tables:
  main: {rows: [method], delta: true, columns: [{metric: zero_shot/shapes_shape/top1}, {metric: cost/cpu_hours}]}
effects:
  suite: {kind: suite, factors: [method], columns: [{metric: linear_probe/shapes_*/top1}]}
figures:
  training: {kind: curves, metric: train/loss, hue: method}
claims:
  gain: {statement: mae > clip, metric: linear_probe/*/top1}
"""
SUBSETS = [chosen for size in (1, 2, 3) for chosen in itertools.combinations(SOURCES, size)]
EVERY_VIEW = ("runs", "results", "cost", "trials", "curves")


def empty_as_sqlite_gives_it(table: pa.Table) -> pa.Table:
    """No rows, and int64 for every column: what ADBC makes of a SQLite query without rows."""
    return pa.table({name: pa.array([], pa.int64()) for name in table.column_names})


@dataclasses.dataclass(frozen=True)
class Emptied:
    """A store of which some tables hold nothing."""

    store: DatabaseStore
    chosen: tuple[str, ...]

    def read(self, experiment: str, tables: StoreTables) -> bool:
        given = StoreTables(tables.connection.cursor())
        assert self.store.read(experiment, given)
        found = {name: given.connection.sql(f"select * from {name}").to_arrow_table() for name in SOURCES}
        for name, table in found.items():
            tables.add(name, empty_as_sqlite_gives_it(table) if name in self.chosen else table)
        return True

    def history(self, run_uuids: Sequence[str], metrics: Sequence[str], tables: StoreTables, name: str) -> None:
        tables.add(name, pa.table({column: pa.array([], pa.int64()) for column in HISTORY}), HISTORY)


@pytest.mark.parametrize("chosen", SUBSETS, ids="+".join)
def test_each_table_may_be_empty_alone_and_with_others(partial: Plan, chosen: tuple[str, ...]) -> None:
    store = Emptied(DatabaseStore(f"sqlite:///{partial.home.store}"), chosen)
    with Warehouse(store, partial) as warehouse:
        assert warehouse.curves(["train/loss"]) == []
        counts = {view: warehouse.rows(f"select count(*) from {view}")[0][0] for view in EVERY_VIEW}
        coverage = cover(partial, warehouse)
    assert counts["results"] == counts["curves"] == counts["trials"] == 0
    assert (counts["runs"] > 0) == (chosen == ("src_metrics",)), "runs without a time or a name are none of ours"
    assert len(coverage.states) == len(partial.tasks) and not coverage.observed


def emptied_store(plan: Plan, *statements: str) -> None:
    with sqlite3.connect(plan.home.store) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def check_reports(plan: Plan, out: Path) -> None:
    """Every output of a study of which nothing is measured yet, and the one number that `why` is asked for."""
    found = report(plan, out)
    assert not any(entry.summary for table in found.tables for row in table.rows for entry in row.entries)
    assert {judged.result.verdict for judged in found.claims} == {"undecided"}
    assert (out / "index.html").exists() and not (out / "figures" / "training.svg").exists()
    answer, _ = one_number(plan, "main", "clip", "1")
    assert answer.entry.missing in ("waiting", "running", "failed", "diverged")


@pytest.mark.parametrize(
    ("state", "statements"),
    [
        ("running", ["delete from latest_metrics", "delete from metrics"]),
        ("failed", ["delete from latest_metrics", "delete from metrics", "update runs set end_time = null"]),
        ("failed", ["delete from tags", "delete from latest_metrics", "delete from metrics"]),
        ("failed", [f"delete from {name}" for name in ("latest_metrics", "metrics", "tags", "params", "runs")]),
    ],
    ids=["no metric yet", "nothing has ended", "no tags", "no runs"],
)
def test_a_sqlite_store_without_rows(tmp_path: Path, state: str, statements: list[str]) -> None:
    plan = stores.plan_of(tmp_path, STUDY)
    stores.track(plan, f"sqlite:///{plan.home.store}", lambda task: "" if not task.opens else state)
    emptied_store(plan, *statements)
    check_reports(plan, tmp_path / "out")


def test_a_server_and_its_cache_without_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = stores.plan_of(tmp_path, STUDY)
    stores.track(plan, f"sqlite:///{plan.home.store}", lambda task: "" if not task.opens else "failed")
    server = services.MlflowServer(f"sqlite:///{plan.home.store}", tmp_path)
    server.start()
    try:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
        emptied_store(plan, "delete from latest_metrics", "delete from metrics")
        for name in ("first", "from the cache"):
            check_reports(plan, tmp_path / name)
        emptied_store(plan, "update runs set lifecycle_stage = 'deleted'")
        for name in ("without runs", "without runs from the cache"):
            check_reports(plan, tmp_path / name)
    finally:
        server.kill()


def test_types_are_the_declared_ones_whatever_a_driver_guesses() -> None:
    for name, types in (*SOURCES.items(), ("src_history", HISTORY)):
        with duckdb.connect() as connection:
            tables = StoreTables(connection)
            tables.add(name, pa.table({column: pa.array([], pa.int64()) for column in types}), types)
            found = connection.sql(f"select * from {name}").types
            assert [str(kind).lower() for kind in found] == list(types.values())


def test_rows_are_added_to_those_that_are_there() -> None:
    with duckdb.connect() as connection:
        tables = StoreTables(connection)
        tables.add("src_metrics", pa.table({"value": [1, 2], "is_nan": [0, 1], "key": ["a", "b"], "run": [7, 8]}))
        tables.add_values("src_metrics", [(9, "ü \"c'", math.inf, False), (10, "d", 0.1, None)])
        tables.complete(SOURCES)
        assert connection.sql("select * from src_metrics order by run").fetchall() == [
            *((7, "a", 1.0, False), (8, "b", 2.0, True)),
            *((9, "ü \"c'", math.inf, False), (10, "d", 0.1, None)),
        ]
        assert connection.sql("select * from src_runs").fetchall() == []
    with duckdb.connect() as connection:
        tables = StoreTables(connection)
        tables.add("src_tags", pa.table({"run": ["x"], "key": ["k"], "value": ["v"]}))
        tables.add_values("src_tags", [("existing:y", "k", "w")])
        found = connection.sql("select run from src_tags order by run").fetchall()
        assert found == [("existing:y",), ("x",)], "PostgreSQL's ids are texts"


def test_the_commands_in_a_new_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ABLATE_HOME", "new")
    Path("new").mkdir()
    shutil.copyfile(empty_store(), "new/mlflow.db")  # MLflow takes seconds to make one
    main(["sync", "demo"], standalone=False)
    with stores.mlflow_client("sqlite:///new/mlflow.db") as client:
        assert client.get_experiment_by_name("demo") is not None, "an experiment without runs"
    capsys.readouterr()
    main(["report", "demo", "--format", "md"], standalone=False)
    printed = capsys.readouterr()
    assert "eligible" in printed.out and "nothing is trained yet" in printed.err
    main(["sql", "demo", "select count(*) as n from results", "--json"], standalone=False)
    assert json.loads(capsys.readouterr().out) == [{"n": 0}]
    main(["why", "demo", "table4", "1", "1", "--json"], standalone=False)
    assert json.loads(capsys.readouterr().out)["value"] is None


def test_postgresql_without_rows(tmp_path: Path) -> None:
    plan = stores.plan_of(tmp_path, STUDY)
    with services.postgres(tmp_path) as uri:
        address = uri.replace("postgresql:", "postgresql+psycopg2:")
        stores.track(plan, address, lambda task: "")
        for eligible in (4, 3):
            with Warehouse(open_store(address), plan) as warehouse:
                assert warehouse.rows("select * from results") == []
                assert cover(plan, warehouse).counts()["eligible"] == eligible
            with stores.mlflow_client(address) as client:  # a run that died before its first metric, with no end
                task = plan.runs[0]
                own = {"task_id": task.task_id, "run_id": task.run_id, "seed": task.seed, "state": "failed"}
                experiment = client.get_experiment_by_name("pooled").experiment_id
                client.create_run(experiment, tags={f"ablate.{name}": str(value) for name, value in own.items()})
