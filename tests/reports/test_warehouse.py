"""The warehouse against stores that MLflow itself wrote: SQLite, PostgreSQL and a server."""

from __future__ import annotations

import dataclasses
import itertools
import math
import resource
import shutil
import sqlite3
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import duckdb
import pytest
import stores

from ablative.reports.store.coverage import cover
from ablative.reports.store.database_store import DatabaseStore, open_store
from ablative.reports.store.results import open_warehouse
from ablative.reports.store.sql_models import MARTS, check
from ablative.reports.store.warehouse import Warehouse, cell_key, quoted, value_query
from ablative.study.core.errors import StoreError
from ablative.study.home.paths import Home
from ablative.study.plan.plan import Plan
from ablative.study.trainers import Metric

SMALL_STUDY = """
name: pooled
base: {model: tiny, data: shapes, schedule: demo}
seeds: [0, 1]
factors: {pooling: {map: {model.pooling: map}, gap: {model.pooling: gap}}}
protocols: [zero_shot]
tables:
  main: {rows: [pooling], columns: [{label: shape, metric: zero_shot/shapes_shape/top1}]}
"""


def small(folder: Path, text: str = SMALL_STUDY) -> Plan:
    return stores.plan_of(folder, text)


def flat(task: object, metric: str) -> float:
    return 50.0


@pytest.fixture
def copied(full: Plan, tmp_path: Path) -> Plan:
    """The full study with a store of its own, which a test may spoil."""
    plan = stores.plan_of(tmp_path)
    plan.home.store.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(full.home.store) as source, sqlite3.connect(plan.home.store) as target:
        source.backup(target)
    source.close()
    target.close()
    return plan


def mlflow_run(client: Any, task_id: str) -> str:
    """Id of the MLflow run of a task."""
    experiment = client.get_experiment_by_name("pooled").experiment_id
    [run] = client.search_runs([experiment], f"tags.`ablate.task_id` = '{task_id}'")
    return str(run.info.run_id)


def change(plan: Plan, statement: str, *values: object) -> int:
    connection = sqlite3.connect(plan.home.store)
    with connection:
        changed = connection.execute(statement, values).rowcount
    connection.close()
    return changed


def test_results_are_what_mlflow_holds(full: Plan) -> None:
    with open_warehouse(full) as warehouse:
        rows = warehouse.rows("select cell, seed, run_id, metric, value, commit from results where metric like '%/%/%'")
        found = {(cell, seed, run, metric): (value, commit) for cell, seed, run, metric, value, commit in rows}
    wanted = {
        (cell_key(task.cells[0]), task.seed, task.run_id, metric): (value, stores.COMMIT)
        for task in full.tasks
        for metric, value in stores.metrics_of(task).items()
        if metric.count("/") == 2
    }
    assert found == wanted


def test_unfinished_tasks_give_no_results(partial: Plan) -> None:
    with open_warehouse(partial) as warehouse:
        states = dict(warehouse.rows("select state, count(*) from runs group by state"))
        finished = warehouse.rows("select count(distinct task_id) from results")
    assert states["running"] == 3 and states["failed"] == 1
    assert finished == [(states["completed"] + states["diverged"],)]


def test_nan_and_infinity_come_back_as_themselves(tmp_path: Path) -> None:
    plan = small(tmp_path)
    uri = f"sqlite:///{plan.home.store}"
    special = {0: math.nan, 1: -math.inf}
    stores.track(plan, uri, value=lambda task, metric: special[task.seed] if metric == "train/loss" else 1.0)
    run = next(task for task in plan.runs if task.seed == 1)
    with stores.mlflow_client(uri) as client:
        number = mlflow_run(client, run.task_id)
        client.log_metric(number, "train/loss", -math.inf, step=40)
        client.log_metric(number, "train/text", math.nan, step=40)
    with open_warehouse(plan) as warehouse:
        query = "select metric, value from results where run_id = $run and metric like 'train/%' order by metric"
        rows = warehouse.rows(query, {"run": run.run_id})
    assert rows[0] == ("train/loss", -math.inf)
    assert rows[1][0] == "train/text" and math.isnan(rows[1][1])


def test_the_query_of_a_number_agrees_with_the_bulk_query(full: Plan) -> None:
    with open_warehouse(full) as warehouse:
        columns = [cover(full, warehouse).expected(["linear_probe/shapes_*/top1"]), ("zero_shot/shapes_shape/top1",)]
        assert len(columns[0]) > 3
        bulk = warehouse.values(columns, map(cell_key, full.cells))
        found = 0
        for cell, metrics in itertools.product(map(cell_key, full.cells), columns):
            sources = bulk.of(metrics)(cell)
            rows = warehouse.rows(value_query(metrics), {"cell": cell})
            assert rows == [(s.seed, s.run_id, s.commit, s.value) for s in sources]
            found += bool(sources)
        unknown = warehouse.values([("nothing",), columns[0]], [cell_key(full.cells[0]), "no cell"])
        assert unknown.of(("nothing",))(cell_key(full.cells[0])) == unknown.of(columns[0])("no cell") == ()
        assert warehouse.values(columns, []).of(columns[0])(cell_key(full.cells[0])) == ()
    assert found == 9 + 8  # masked autoencoding alone has no zero-shot


def test_a_seed_without_every_task_has_no_average(copied: Plan) -> None:
    task = next(task for task in copied.tasks if task.stage == "linear_probe" and task.seed == 1)
    run = "(select run_uuid from tags where key = 'ablate.task_id' and value = ?)"
    statement = f"delete from latest_metrics where key = 'linear_probe/shapes_shape/top1' and run_uuid = {run}"
    assert change(copied, statement, task.task_id) == 1
    with open_warehouse(copied) as warehouse:
        metrics = cover(copied, warehouse).expected(["linear_probe/shapes_*/top1"])
        assert "linear_probe/shapes_shape/top1" in metrics
        key = cell_key(task.cells[0])
        sources = warehouse.values([metrics], [key]).of(metrics)(key)
    assert [source.seed for source in sources] == [0, 2]


def test_deleted_runs_are_ignored(copied: Plan) -> None:
    task = copied.tasks[-1]
    with stores.mlflow_client(f"sqlite:///{copied.home.store}") as client:
        client.delete_run(mlflow_run(client, task.task_id))
    with open_warehouse(copied) as warehouse:
        assert warehouse.rows("select count(*) from runs") == [(len(copied.tasks) - 1,)]
        assert cover(copied, warehouse).states[task.task_id].state == "eligible"


def test_a_task_tracked_twice_counts_once(copied: Plan) -> None:
    with stores.mlflow_client(f"sqlite:///{copied.home.store}") as client:
        experiment = client.get_experiment_by_name("pooled").experiment_id
        stores.track_task(client, experiment, copied.tasks[0], "running")
    with open_warehouse(copied) as warehouse:
        assert warehouse.rows("select count(*), count(distinct task_id) from runs") == [(len(copied.tasks),) * 2]
        assert cover(copied, warehouse).states[copied.tasks[0].task_id].state == "completed"


def test_what_the_study_no_longer_names_is_kept_apart(full: Plan, tmp_path: Path) -> None:
    plan = stores.plan_of(tmp_path, stores.STUDY.replace("seeds: [0, 1, 2]", "seeds: [0, 1]"))
    with Warehouse(open_store(f"sqlite:///{full.home.store}"), plan) as warehouse:
        assert warehouse.rows("select planned, count(*) from runs group by all order by all") == [
            (False, len(full.tasks) // 3),
            (True, len(full.tasks) * 2 // 3),
        ]
        assert warehouse.rows("select distinct seed from results order by all") == [(0,), (1,)]


def test_a_renamed_level_keeps_its_results(full: Plan, tmp_path: Path) -> None:
    plan = stores.plan_of(
        tmp_path,
        stores.STUDY.replace("map: {model.pooling: map}", "attention: {model.pooling: map}").replace(
            "pooling: map}\n", "pooling: attention}\n"
        ),
    )
    with Warehouse(open_store(f"sqlite:///{full.home.store}"), plan) as warehouse:
        cells = {cell for (cell,) in warehouse.rows("select distinct cell->>'pooling' from results")}
    assert cells == {"attention", "gap", None}


def test_a_later_evaluation_with_other_code_names_both(tmp_path: Path) -> None:
    plan = small(tmp_path)
    evaluation = next(task for task in plan.tasks if not task.opens and task.run_id == plan.tasks[0].run_id)
    with stores.mlflow_client(f"sqlite:///{plan.home.store}") as client:
        experiment = client.create_experiment("pooled")
        stores.track_task(client, experiment, plan.tasks[0], "completed", flat)
        stores.track_task(client, experiment, evaluation, "completed", flat, commit="fedcba", dirty="1")
    with open_warehouse(plan) as warehouse:
        commits = warehouse.rows("select distinct commit from results where metric like 'zero_shot/%'")
    assert commits == [(f"{stores.COMMIT} fedcba-dirty",)]


def test_curves_hold_every_step(full: Plan) -> None:
    with open_warehouse(full) as warehouse:
        rows = warehouse.curves(["train/loss"])
    seed_two = [(step, round(value, 3)) for cell, seed, _, step, value in rows if cell == rows[0][0] and seed == 2]
    assert seed_two == [(0, 3.02), (5, 2.52), (10, 2.02), (15, 1.52), (30, 3.0)]
    assert len(rows) == 27 * 5


def test_no_store_is_an_empty_study(tmp_path: Path) -> None:
    plan = small(tmp_path)
    with open_warehouse(plan) as warehouse:
        assert {mart for mart in MARTS if warehouse.rows(f"select * from {mart}")} == {"declared_metrics"}
        assert set(cover(plan, warehouse).counts()) == {"eligible", "waiting"}


def test_an_unknown_schema_is_refused_by_name(copied: Plan) -> None:
    change(copied, "update alembic_version set version_num = 'abc123'")
    with pytest.raises(StoreError, match=r"schema version abc123.*reads dc11669786a5 \(MLflow 3\.17\)"):
        open_warehouse(copied)


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    plan = small(tmp_path)
    plan.home.root.mkdir(parents=True)
    plan.home.store.write_text("no database" * 100)
    with pytest.raises(StoreError, match="cannot read the tracking store"):
        open_warehouse(plan)


def test_other_kinds_of_store_are_refused_with_the_known_ones() -> None:
    with pytest.raises(StoreError, match=r"'mysql:.*postgresql"):
        open_store("mysql+pymysql://host/mlflow")
    with pytest.raises(StoreError, match="write / as %2F") as caught:
        open_store("postgresql://ann:s3c/ret@host/x")
    assert "s3c" not in str(caught.value)


def test_reading_waits_for_a_writer(copied: Plan) -> None:
    import threading

    writer = sqlite3.connect(copied.home.store, check_same_thread=False, isolation_level=None)
    writer.execute("begin exclusive")
    timer = threading.Timer(1.0, lambda: writer.execute("commit"))
    timer.start()
    with open_warehouse(copied) as warehouse:
        assert warehouse.rows("select count(*) from runs") == [(len(copied.tasks),)]
    timer.join()
    writer.close()


def test_reading_changes_nothing(copied: Plan) -> None:
    before = copied.home.store.read_bytes()
    with open_warehouse(copied):
        pass
    assert copied.home.store.read_bytes() == before


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (
            "update latest_metrics set value = 100.5 where key = 'zero_shot/shapes_shape/top1'",
            "values lie within their bounds",
        ),
        ("update latest_metrics set value = -1 where key = 'cost/cpu_hours'", "cost is not negative"),
        ("update tags set value = 'ffffffffffff' where key = 'ablate.run_id'", "runs agree with the plan"),
    ],
)
def test_checks_refuse_a_spoilt_store(copied: Plan, statement: str, message: str) -> None:
    assert change(copied, statement) > 0
    with pytest.raises(StoreError, match=message):
        open_warehouse(copied)


def test_values_leave_no_declared_bound(copied: Plan) -> None:
    """Either end may be open; rounding is a millionth of the range; NaN is a result."""
    name = "zero_shot/shapes_shape/top1"
    bounds = [((0.0, 100.0), 100.00005, True), ((0.0, 100.0), 100.0002, False), ((None, None), 1e9, True)]
    bounds += [((None, 5.0), -1e9, True), ((None, 5.0), 5.0001, False), ((2.0, None), 1.99, False)]
    for (low, high), value, fine in bounds:
        declared = {**copied.declared, name: Metric(name, "zero_shot", "s", "lower", low, high)}
        change(copied, "update latest_metrics set value = ? where key = ?", value, name)
        with nullcontext() if fine else pytest.raises(StoreError, match="within their bounds"):
            open_warehouse(dataclasses.replace(copied, declared=declared)).connection.close()
    change(copied, "update latest_metrics set value = 0, is_nan = 1 where key = ?", name)
    open_warehouse(dataclasses.replace(copied, declared=declared)).connection.close()


def test_a_store_of_before_there_were_stages_says_the_same(full: Plan, copied: Plan) -> None:
    assert change(copied, "delete from tags where key = 'ablate.stage'") == len(full.tasks)
    with open_warehouse(full) as one, open_warehouse(dataclasses.replace(copied, tasks=copied.tasks[:4])) as other:
        stages = "select task_id, stage, kind, protocol from runs order by task_id"
        assert one.rows(stages) == other.rows(stages), "of planned tasks and of those that no plan has"
    assert {row[1:] for row in one_of_each(full)} == {
        ("train", "pretrain", None),
        *((stage, "evaluate", stage) for stage in ("zero_shot", "linear_probe")),
    }


def one_of_each(plan: Plan) -> list[tuple[Any, ...]]:
    with open_warehouse(plan) as warehouse:
        return warehouse.rows("select any_value(task_id), stage, kind, protocol from runs group by all")


def test_a_metric_counts_from_the_task_that_yields_it_and_not_from_a_copy(full: Plan, copied: Plan) -> None:
    """Tracking copies what other stages measure to the task that opens their run; costs are the run's."""
    copy = (
        "insert into {0} select key, -7, timestamp, step, is_nan, opening.run_uuid from {0} "
        "join tags on tags.run_uuid = {0}.run_uuid and tags.key = 'ablate.run_id' "
        "join tags as opening on opening.key = 'ablate.task_id' and opening.value = tags.value "
        "where {0}.key like 'zero_shot/%'"
    )
    columns = "key, value, timestamp, step, is_nan, run_uuid"
    for table in ("metrics", "latest_metrics"):
        statement = copy.replace("insert into {0} select key", f"insert into {{0}} ({columns}) select {{0}}.key")
        assert change(copied, statement.format(table)) > 0
    with open_warehouse(full) as one, open_warehouse(copied) as other:
        everything = "select * from results order by all"
        assert one.rows(everything) == other.rows(everything)
        one.load_curves()
        other.load_curves()
        assert one.rows("select * from curves order by all") == other.rows("select * from curves order by all")
        costs = "select distinct stage from results join runs using (task_id) where metric like 'cost/%'"
        assert other.rows(costs) == [("train",)]
    tasks = tuple(task for task in copied.tasks if task.stage != "zero_shot")
    declared = {name: metric for name, metric in copied.declared.items() if not name.startswith("zero_shot/")}
    with open_warehouse(dataclasses.replace(copied, tasks=tasks, declared=declared)) as warehouse:
        assert not warehouse.rows("select * from results where metric like 'zero_shot/%'"), "the study has it no more"


def test_a_task_without_a_seed_of_its_own_may_carry_any(copied: Plan) -> None:
    """Another plan may reach it by another seed, which is no mix-up."""
    first, *rest = copied.tasks
    moved = dataclasses.replace(first, seed=7)
    with pytest.raises(StoreError, match="runs agree with the plan"):
        open_warehouse(dataclasses.replace(copied, tasks=(moved, *rest)))
    shared = dataclasses.replace(moved, seeded=False)
    with open_warehouse(dataclasses.replace(copied, tasks=(shared, *rest))) as warehouse:
        found = warehouse.rows(f"select distinct seed, metric from results where task_id = '{first.task_id}'")
    assert found == [(7, "train/loss")], "no run's costs"


def test_the_check_for_duplicates_finds_one(full: Plan) -> None:
    with open_warehouse(full) as warehouse:
        again = "select * replace ('x' as task_id) from int_finished limit 1"
        warehouse.connection.execute(f"insert into int_finished {again}")
        with pytest.raises(StoreError, match="one task per cell seed and stage"):
            check(warehouse.connection)


def test_the_saved_warehouse_answers_the_same_query(
    full: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    home = Home(Path("a user's, own"))  # relative, with characters that SQL has to have escaped
    home.root.mkdir()
    shutil.copy(full.home.store, home.store)
    metrics = ("zero_shot/shapes_shape/top1",)
    key = cell_key(full.cells[0])
    with open_warehouse(dataclasses.replace(full, home=home)) as warehouse:
        warehouse.save()
        path = warehouse.save()  # again, over the first
        wanted = warehouse.rows(value_query(metrics), {"cell": key})
        with pytest.raises(duckdb.PermissionException):
            warehouse.rows("select * from read_text('/etc/hostname')")
    assert len(wanted) == 3
    assert path == home.study(full.study.name).warehouse.absolute()
    with duckdb.connect(str(path), read_only=True) as file:
        assert file.execute(value_query(metrics).replace("$cell", quoted(key))).fetchall() == wanted
        comments = file.execute("select comment from duckdb_tables() order by table_name").fetchall()
    assert all(comment for (comment,) in comments) and len(comments) == len(MARTS)
    assert [child.name for child in path.parent.iterdir()] == ["warehouse.duckdb"]


def test_a_warehouse_that_cannot_be_saved_leaves_the_last_one(full: Plan, tmp_path: Path) -> None:
    home = Home(tmp_path)
    shutil.copy(full.home.store, home.store)
    with open_warehouse(dataclasses.replace(full, home=home)) as warehouse:
        before = warehouse.save().read_bytes()
        warehouse.connection.execute("create or replace view cost as select error('full') as cost")
        with pytest.raises(duckdb.Error, match="full"):
            warehouse.save()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with open_warehouse(dataclasses.replace(full, home=home)) as warehouse:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        try:
            with pytest.raises(OSError, match="File too large") as caught:
                warehouse.save()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.filename == str(home.study(full.study.name).warehouse)
    folder = home.study(full.study.name).root
    assert [child.name for child in folder.iterdir()] == ["warehouse.duckdb"]
    assert home.study(full.study.name).warehouse.read_bytes() == before


def test_a_store_that_breaks_while_it_is_read_is_one_line(copied: Plan) -> None:
    """DuckDB reads the rows from the driver, and says in its words what went wrong there."""
    with sqlite3.connect(copied.home.store) as connection:
        connection.execute("update latest_metrics set value = 'much' where rowid in (select max(rowid) from runs)")
    connection.close()
    with pytest.raises(StoreError, match=r"cannot read the tracking store .*'much'") as caught:
        open_warehouse(copied)
    assert "\n" not in str(caught.value)
    content = bytearray(copied.home.store.read_bytes())
    for place in range(len(content) // 3, len(content) - 4096, 7 * 4096):
        content[place // 4096 * 4096 : place // 4096 * 4096 + 200] = bytes(200)
    copied.home.store.write_bytes(content)
    with pytest.raises(StoreError, match="malformed; move the damaged file away") as caught:
        open_warehouse(copied)
    assert "\n" not in str(caught.value)


def test_relative_and_absolute_sqlite_uris(full: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(full.home.root)
    for uri in ("sqlite:///mlflow.db", f"sqlite:////{str(full.home.store).lstrip('/')}"):
        found = stores.rows_of(DatabaseStore(uri), "pooled")
        assert found is not None and len(found["src_runs"]) == len(full.tasks)
    assert stores.rows_of(DatabaseStore("sqlite:///mlflow.db"), "it's another") is None
