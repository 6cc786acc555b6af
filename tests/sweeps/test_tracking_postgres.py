"""Journals into PostgreSQL, directly and through an MLflow server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from services import PASSWORD, postgres
from tracking_world import (
    LOSSES,
    PROCESSES,
    assert_healed,
    assert_shipped,
    evaluation,
    pretraining,
    query,
    run_ids,
    run_row,
    scored_run,
    shipping_process,
    write_journal,
    write_record,
)

from ablative.study.core.errors import StoreError
from ablative.study.home.paths import Home
from ablative.sweeps.tracking import store
from ablative.sweeps.tracking.cursor import pending
from ablative.sweeps.tracking.sync import Shipped, ship


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with postgres(tmp_path_factory.mktemp("postgres")) as uri:
        yield uri


@pytest.fixture
def home(tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    return Home(tmp_path / "home")


def test_four_processes_start_at_once_on_an_empty_database(home: Home, database: str) -> None:
    sources = [pretraining(i) for i in range(4)]
    for source in sources:
        write_journal(home, source, steps=10)
    outbox = PROCESSES.SimpleQueue()
    processes = [shipping_process(home, "fresh", [source], outbox) for source in sources]
    for process in processes:
        process.start()
    assert [outbox.get() for _ in processes] == [Shipped(tasks=1, metrics=40)] * 4
    for process in processes:
        process.join()
    assert_shipped(database, "fresh", home, sources)


def test_shipping_twice_adds_nothing(home: Home, database: str) -> None:
    run = pretraining(10)
    sources = [run, evaluation(run, 11)]
    for source in sources:
        write_journal(home, source, steps=260)
    write_record(home, run)
    assert ship(sources, "twice", home) == Shipped(tasks=2, metrics=2080)
    assert ship(sources, "twice", home, again=True) == Shipped(tasks=2, metrics=2080)
    assert pending(sources, "twice", home) == 0
    assert_shipped(database, "twice", home, sources)
    assert run_row(database, run_ids(database, run)[0])[1] == "FINISHED"
    assert query(database, "SELECT count(*) FROM metrics WHERE is_nan AND value = 0") != [(0,)]


def test_what_the_store_has_lost_is_shipped_again(home: Home, database: str) -> None:
    tasks = scored_run(home, 50)
    ship(tasks, "lost", home)
    for how in list(LOSSES)[2:]:
        assert_healed(database, "lost", home, how, tasks)


def test_several_ship_the_same_tasks_at_once(home: Home, database: str) -> None:
    run = pretraining(20)
    sources = [evaluation(run, 21), run, pretraining(22)]
    for source in sources:
        write_journal(home, source, steps=300)
    store.prepare(home, "together")
    outbox = PROCESSES.SimpleQueue()
    processes = [shipping_process(home, "together", sources, outbox) for _ in range(3)]
    for process in processes:
        process.start()
    assert [outbox.get().errors for _ in processes] == [()] * 3
    for process in processes:
        process.join()
    assert_shipped(database, "together", home, sources)


def test_errors_are_clear_quick_and_without_the_password(
    home: Home, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    password = urlsplit(database).password or ""
    server, _, name = database.rpartition("/")
    wrong = {
        database.replace(f":{password}@", ":wr0ng@"): "refuses our user or password",
        f"{server}/nowhere": "is not there",
        f"{server.rpartition(':')[0]}:1/{name}": "nobody answers",
    }
    for uri, message in wrong.items():
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        began = time.monotonic()
        with pytest.raises(StoreError, match=message) as caught:
            store.prepare(home, "study")
        assert time.monotonic() - began < 10
        assert not any(secret in str(caught.value) for secret in (password, PASSWORD, "wr0ng"))


def test_a_killed_connection_is_made_anew(home: Home, database: str) -> None:
    run = pretraining(30)
    write_journal(home, run, steps=3)
    ship([run], "cut", home)
    others = "usename = current_user AND pid <> pg_backend_pid()"
    query(database, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")
    write_record(home, run)
    assert ship([run], "cut", home) == Shipped(tasks=1)
    assert_shipped(database, "cut", home, [run])
