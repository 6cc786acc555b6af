"""Many jobs that start at once, shipping to MLflow's server on PostgreSQL as the README starts it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from services import MlflowServer, postgres
from tracking_world import assert_shipped, evaluation, pretraining, rush, write_journal, write_record

from ablative.study.core.errors import StoreError
from ablative.study.home.paths import Home
from ablative.sweeps.tracking import store

JOBS, STEPS = 12, 50


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with postgres(tmp_path_factory.mktemp("postgres")) as uri:
        yield uri


@pytest.fixture(scope="module")
def server(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    uri = database.replace("postgresql://", "postgresql+psycopg2://")
    server = MlflowServer(uri, tmp_path_factory.mktemp("server"), "--workers 1")
    server.start()
    yield server
    server.kill()


def test_jobs_that_start_at_once(
    server: MlflowServer, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is lost, nothing is doubled, whichever of the jobs creates the experiment."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    home = Home(tmp_path / "home")
    runs = [pretraining(i) for i in range(JOBS)]
    jobs = [[run, evaluation(run, i)] for i, run in enumerate(runs)]
    for run, score in jobs:
        write_journal(home, run, STEPS)
        write_journal(home, score, 1)
        write_record(home, run)
    start, outbox = rush(home, "rush", jobs)
    start.set()
    assert [outbox.get()[0] for _ in jobs] == [True] * JOBS
    assert_shipped(database, "rush", home, [source for sources in jobs for source in sources])


def test_a_host_name_that_the_server_was_not_told(
    server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri.replace("127.0.0.1", "localhost"))
    with pytest.raises(StoreError, match="does not take this host name: start it with --allowed-hosts"):
        store.prepare(Home(tmp_path / "home"), "study")
