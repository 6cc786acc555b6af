"""Homes with journals, and what a store holds of them, read past MLflow with plain SQL."""

from __future__ import annotations

import functools
import json
import math
import multiprocessing
import os
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from shared import empty_store, once

from ablative.study.home.journal import Journal, metric_rows, read
from ablative.study.home.paths import Home
from ablative.study.home.tracking_tags import MARK
from ablative.study.plan.task import TaskRef
from ablative.sweeps.tracking.cursor import pending
from ablative.sweeps.tracking.quiet import quiet
from ablative.sweeps.tracking.store import prepare
from ablative.sweeps.tracking.sync import Shipped, ship
from ablative.sweeps.tracking.upload_process import UploadLoop
from ablative.sweeps.tracking.uri import resolve

LARGEST = 1.7976931348623157e308
"""What MLflow stores for infinity."""


@functools.cache
def fresh_store() -> bytes:
    """A store as MLflow creates it, with an experiment of another study; a copy takes no time."""
    return once("other.db", _other_study).read_bytes()


def _other_study(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        home = Home(Path(folder))
        shutil.copyfile(empty_store(), home.store)
        prepare(home, "another study")
        shutil.copyfile(home.store, path)


def pretraining(number: int, cells: tuple[dict[str, str], ...] = ({"method": "clip"},)) -> TaskRef:
    task_id = f"{number:012x}"
    return TaskRef(task_id, "train", task_id, 0, cells, (), (), (), f"method=clip seed={number}")


def evaluation(run: TaskRef, number: int, protocol: str = "zero_shot") -> TaskRef:
    name = f"{run.name} [{protocol}]"
    own, needs = (f"e{number:011x}", protocol, run.run_id, run.seed, run.cells), (run.run_id,)
    return TaskRef(*own, needs, needs, (run.stage,), name)


def write_journal(home: Home, source: TaskRef, steps: int = 50, width: int = 4) -> None:
    """A task's whole life as its worker journals it: `steps` × `width` metric values, some of them not finite."""
    journal = Journal(source.paths(home).journal)
    journal.event("started", attempt=1)
    journal.params({"model.width": 64, "schedule.lr": 0.5})
    odd = {3: math.nan, 5: math.inf, 7: -math.inf}
    for step in range(steps):
        journal.metrics(step, {f"train/{i}": odd.get(step, step + i / 3) for i in range(width)})
    journal.event("completed")
    journal.close()


def scored_run(home: Home, number: int) -> list[TaskRef]:
    """A run that has finished with two evaluations: journals, records, configurations."""
    run = pretraining(number)
    tasks = [run, evaluation(run, 10 * number), evaluation(run, 10 * number + 1, "linear_probe")]
    write_journal(home, run, steps=5)
    for task in tasks[1:]:
        write_scores(home, task)
    for task in tasks:
        task.paths(home).config.write_text("model: {width: 64}\n")
        write_record(home, task)
    return tasks


def write_scores(home: Home, source: TaskRef, top1: float = 50.0) -> None:
    """The journal of an evaluation, with scores, costs, and a metric that the run that it evaluates has, too."""
    journal = Journal(source.paths(home).journal)
    journal.event("started", attempt=1)
    journal.metrics(0, {f"{source.stage}/digits/top1": top1, f"{source.stage}/shapes/top1": math.nan})
    journal.metrics(1, {f"{source.stage}/digits/top1": top1 + 1, "cost/seconds": 3.0, "train/0": 7.0})
    journal.event("completed")
    journal.close()


def write_record(home: Home, source: TaskRef, state: str = "completed") -> None:
    finished = "2026-01-02T03:04:05+00:00"
    environment = {"commit": "abc123", "dirty": True}
    content = {"state": state, "task_id": source.task_id, "finished": finished, "environment": environment}
    source.paths(home).record.write_text(json.dumps(content))


def journal_rows(home: Home, source: TaskRef) -> Counter[tuple[Any, ...]]:
    """The rows of MLflow's table `metrics` that a journal means."""
    rows = Counter()
    for name, step, value, moment in metric_rows(read(source.paths(home).journal)[0]):
        stored = 0.0 if math.isnan(value) else max(-LARGEST, min(LARGEST, value))
        rows[source.task_id, name, step, stored, moment, math.isnan(value)] += 1
    return rows


def copied_rows(home: Home, source: TaskRef) -> Counter[tuple[Any, ...]]:
    """Rows of an evaluation's final metrics, as its run has them."""
    rows = [row for row in journal_rows(home, source) if row[1].startswith(f"{source.stage}/")]
    final = {row[1]: row for row in sorted(rows, key=lambda row: row[2])}
    return Counter((source.run_id, *row[1:]) for row in final.values())


def query(uri: str, sql: str) -> list[tuple[Any, ...]]:
    engine = sqlalchemy.create_engine(uri.replace("postgresql://", "postgresql+psycopg2://"))
    try:
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sqlalchemy.text(sql))]
    finally:
        engine.dispose()


def store_rows(uri: str, study: str) -> Counter[tuple[Any, ...]]:
    """Every metric row of a study's live MLflow runs."""
    rows = query(
        uri,
        f"""
        SELECT tags.value, metrics.key, metrics.step, metrics.value, metrics.timestamp, metrics.is_nan
        FROM metrics
        JOIN runs ON runs.run_uuid = metrics.run_uuid AND runs.lifecycle_stage = 'active'
        JOIN experiments ON experiments.experiment_id = runs.experiment_id AND experiments.name = '{study}'
        JOIN tags ON tags.run_uuid = runs.run_uuid AND tags.key = 'ablate.task_id'
        """,
    )
    return Counter((*row[:5], bool(row[5])) for row in rows)


def run_ids(uri: str, task: TaskRef) -> list[str]:
    """Ids of the live MLflow runs of a task."""
    return [
        row[0]
        for row in query(
            uri,
            f"""
            SELECT runs.run_uuid FROM runs JOIN tags ON tags.run_uuid = runs.run_uuid
            WHERE tags.key = 'ablate.task_id' AND tags.value = '{task.task_id}' AND runs.lifecycle_stage = 'active'
            """,
        )
    ]


def tags(uri: str, run_id: str) -> dict[str, str]:
    return dict(query(uri, f"SELECT key, value FROM tags WHERE run_uuid = '{run_id}'"))


def params(uri: str, run_id: str) -> dict[str, str]:
    return dict(query(uri, f"SELECT key, value FROM params WHERE run_uuid = '{run_id}'"))


def run_row(uri: str, run_id: str) -> tuple[Any, ...]:
    """(name, status, start, end) of an MLflow run."""
    return query(uri, f"SELECT name, status, start_time, end_time FROM runs WHERE run_uuid = '{run_id}'")[0]


def assert_shipped(uri: str, study: str, home: Home, sources: list[TaskRef]) -> None:
    """The store holds exactly the journals' rows: none lost, none doubled, one MLflow run for each task."""
    expected: Counter[tuple[Any, ...]] = Counter()
    for source in sources:
        expected += journal_rows(home, source)
        assert len(run_ids(uri, source)) == 1
        if not source.opens and source.paths(home).record.exists():
            expected += copied_rows(home, source)
    found = store_rows(uri, study)
    assert not expected - found, f"{len(expected - found)} rows lost, for example {next(iter(expected - found))}"
    assert not found - expected, f"{len(found - expected)} rows too many, for example {next(iter(found - expected))}"
    live = f"""
        JOIN runs ON runs.run_uuid = latest_metrics.run_uuid AND runs.lifecycle_stage = 'active'
        JOIN experiments ON experiments.experiment_id = runs.experiment_id AND experiments.name = '{study}'
    """
    latest = query(uri, f"SELECT count(*), sum(step) FROM latest_metrics {live}")
    per_name = {row[:2]: row[2] for row in sorted(expected, key=lambda row: row[2])}
    assert latest == [(len(per_name), sum(per_name.values()))]


LOSSES = {
    "an evaluation is deleted": 1,
    "a run is deleted": 1,
    "runs are deleted for good": 2,
    "what was sent last is lost": 1,
}
"""What a store may lose without our doing → how many tasks of `scored_run` that are."""


def lose(uri: str, how: str, tasks: list[TaskRef]) -> None:
    """Delete in a database, past its server, as MLflow's page, `mlflow gc` and a backup that is put back do."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    runs = [run_ids(uri, task)[0] for task in tasks]
    with quiet(uri):
        database = SqlAlchemyStore(resolve(uri), "artifacts")
        if how == "an evaluation is deleted":
            database.delete_run(runs[1])
        elif how == "a run is deleted":
            database.delete_run(runs[0])
        elif how == "runs are deleted for good":
            for run in runs[:2]:
                database.delete_run(run)
                database._hard_delete_run(run)
        else:
            database.delete_tag(runs[2], MARK)
            with database.ManagedSessionMaker() as session:
                for table in ("metrics", "latest_metrics"):
                    session.execute(sqlalchemy.text(f"DELETE FROM {table} WHERE run_uuid = '{runs[2]}'"))
        database.engine.dispose()


def assert_healed(uri: str, study: str, home: Home, how: str, tasks: list[TaskRef]) -> None:
    """Shipping again brings back what the store has lost, once, and nothing else."""
    lose(uri, how, tasks)
    assert not pending(tasks, study, home), "no cursor knows"
    assert ship(tasks, study, home) == Shipped()
    found = ship(tasks, study, home, verify=True)
    assert (found.restored, found.pending, found.errors, found.files_error) == (LOSSES[how], 0, (), "")
    assert_shipped(uri, study, home, tasks)
    parent, *children = (run_ids(uri, task)[0] for task in tasks)
    assert [tags(uri, child)["mlflow.parentRunId"] for child in children] == [parent] * 2
    assert {run_row(uri, run)[1] for run in (parent, *children)} == {"FINISHED"}
    assert ship(tasks, study, home, verify=True) == Shipped()


PATIENCE = 1200.0
"""Seconds that a job's shipper goes on trying: longer than a server takes to be started again here."""
PROCESSES = multiprocessing.get_context("forkserver")
"""Processes that are forked from one that has imported MLflow: real ones, without two seconds of import each."""
IMPORTS = ("mlflow", "mlflow.store.tracking.sqlalchemy_store", "ablative.sweeps.tracking.upload_process", "pytest")
PROCESSES.set_forkserver_preload(list(IMPORTS))


def ship_elsewhere(root: Path, study: str, sources: list[TaskRef], uri: str, outbox: Any) -> None:
    """Target of a process: ship, and put what came of it."""
    # The processes' common parent has the environment of the test that came first.
    os.environ["MLFLOW_TRACKING_URI"] = uri
    outbox.put(ship(sources, study, Home(root)))


def shipping_process(home: Home, study: str, sources: list[TaskRef], outbox: Any) -> Any:
    """A process, to be started, that ships into the store of this test."""
    return PROCESSES.Process(target=ship_elsewhere, args=(home.root, study, sources, home.tracking_uri, outbox))


def follow_elsewhere(root: Path, study: str, sources: list[TaskRef], uri: str, start: Any, outbox: Any) -> None:
    """Target of a process: what a job's shipper does from the moment of `start`; whether all was shipped, and when."""
    os.environ["MLFLOW_TRACKING_URI"] = uri
    follower = UploadLoop(study, Home(root), interval=0.5)
    for source in sources:
        follower.follow(source)
    start.wait()
    outbox.put((follower.flush(PATIENCE), time.time()))


def rush(home: Home, study: str, jobs: list[list[TaskRef]]) -> tuple[Any, Any]:
    """A process for each job's tasks, all of which begin to ship at once: when the event is set. And their answers."""
    start, outbox = PROCESSES.Event(), PROCESSES.SimpleQueue()
    for sources in jobs:
        given = (home.root, study, sources, home.tracking_uri, start, outbox)
        PROCESSES.Process(target=follow_elsewhere, args=given, daemon=True).start()
    return start, outbox
