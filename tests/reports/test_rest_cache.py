"""Reports from a tracking server: finished runs are kept, and nothing that changed there is missed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import services
import stores

from ablative.reports.store.rest_cache import FORMAT
from ablative.reports.store.rest_store import RestStore
from ablative.study.plan.plan import Plan

Rows = dict[str, tuple[dict[str, Any], dict[str, Any]]]


def rows(store: RestStore) -> Rows:
    """MLflow run id -> its tags and metrics."""
    found = stores.rows_of(store, "pooled")
    assert found is not None
    names = {row["run"]: row["run_uuid"] for row in found["src_runs"]}
    content: Rows = {name: ({}, {}) for name in names.values()}
    for place, table in enumerate(("src_tags", "src_metrics")):
        for row in found[table]:
            content[names[row["run"]]][place][row["key"]] = "nan" if row.get("is_nan") else row["value"]
    return content


class World:
    """A server, its study, and a store that keeps what it was told."""

    def __init__(self, server: services.MlflowServer, plan: Plan, folder: Path, monkeypatch: pytest.MonkeyPatch):
        self.plan, self.uri, self.folder = plan, server.uri, folder
        self.kept = RestStore(server.uri, folder / "cache")
        self.whole: list[int] = []
        """Runs in each answer of the server, since `read` began."""
        search = RestStore._search

        def counted(store: RestStore, *words: Any) -> dict[str, Any]:
            answer = search(store, *words)
            self.whole.append(len(answer.get("runs", ())))
            return answer

        monkeypatch.setattr(RestStore, "_search", counted)

    def read(self) -> Rows:
        """What the keeping store tells, after a look that it is what the server says to one that keeps nothing."""
        self.whole.clear()
        found = rows(self.kept)
        told = list(self.whole)
        assert found == rows(RestStore(self.uri))
        self.whole[:] = told
        return found

    @property
    def file(self) -> Path:
        [path] = (self.folder / "cache").iterdir()
        return path


@pytest.fixture(scope="module")
def server(partial: Plan, tmp_path_factory: pytest.TempPathFactory) -> Iterator[services.MlflowServer]:
    folder = tmp_path_factory.mktemp("server")
    shutil.copyfile(partial.home.store, folder / "mlflow.db")
    found = services.MlflowServer(f"sqlite:///{folder / 'mlflow.db'}", folder)
    found.start()
    yield found
    found.kill()


@pytest.fixture
def world(
    server: services.MlflowServer, partial: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    # Several shares, so that their borders are crossed.
    monkeypatch.setattr("ablative.reports.store.rest_store.SHARE_RUNS", 5)
    yield World(server, partial, tmp_path, monkeypatch)


def test_a_second_report_asks_for_unfinished_runs_alone(world: World) -> None:
    first = world.read()
    assert sum(world.whole) == len(first)
    finished = sum(tags.get("ablate.state") in ("completed", "diverged") for tags, _ in first.values())
    assert world.read() == first
    # And for one run of each of the 16 shares that has any, to count them.
    assert sum(world.whole) <= len(first) - finished + 16 < len(first) + 16
    assert finished > 20 and len(world.whole) >= 16


def test_deleted_and_restored_runs(world: World) -> None:
    first = world.read()
    with stores.mlflow_client(world.uri) as client:
        gone = next(run for run, (tags, _) in first.items() if tags["ablate.state"] == "completed")
        client.delete_run(gone)
        assert world.read().keys() == first.keys() - {gone}
        client.restore_run(gone)
    assert world.read() == first


def test_a_task_that_runs_again_and_changes_its_metrics(world: World) -> None:
    first = world.read()
    with stores.mlflow_client(world.uri) as client:
        run, (_, metrics) = next(item for item in first.items() if item[1][0]["ablate.state"] == "completed")
        client.update_run(run, "RUNNING")
        client.set_tag(run, "ablate.state", "running")
        assert world.read()[run][0]["ablate.state"] == "running"
        client.log_metric(run, next(iter(metrics)), float("nan"), step=99)
        client.set_tag(run, "ablate.state", "completed")
        client.set_terminated(run, "FINISHED")  # ends now
        changed = world.read()[run]
    assert changed[1][next(iter(metrics))] == "nan" and changed[0]["ablate.state"] == "completed"
    assert world.read()[run] == changed


def test_new_runs_that_ended_long_ago_are_found(world: World) -> None:
    first = world.read()
    with stores.mlflow_client(world.uri) as client:
        experiment = client.get_experiment_by_name("pooled").experiment_id
        new = stores.track_task(client, experiment, world.plan.tasks[0], "completed")
        assert world.read().keys() == first.keys() | {new}
        client.delete_run(new)


def test_an_experiment_of_the_same_name_but_another_birth_is_another(world: World) -> None:
    first = world.read()
    with stores.mlflow_client(world.uri) as client:
        old = client.get_experiment_by_name("pooled").experiment_id
        client.rename_experiment(old, "of another server")
        new = client.create_experiment("pooled")
        run = stores.track_task(client, new, world.plan.tasks[0], "completed")
        assert world.read().keys() == {run}
        client.rename_experiment(new, "empty")
        client.rename_experiment(old, "pooled")
    assert world.read() == first


@pytest.mark.parametrize("spoil", ["torn", "empty", "flipped", "foreign", "old"])
def test_a_spoilt_file_costs_time_and_nothing_else(world: World, spoil: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = world.read()
    content = bytearray(world.file.read_bytes())
    if spoil == "flipped":
        content[len(content) // 3] ^= 0xFF
    if spoil == "old":
        monkeypatch.setattr("ablative.reports.store.rest_cache.MAX_AGE_SECONDS", 0.0)
    if spoil == "foreign":
        monkeypatch.setattr("ablative.reports.store.rest_cache.FORMAT", FORMAT + 1)
    length = {"torn": len(content) // 2, "empty": 0}.get(spoil, len(content))
    world.file.write_bytes(content[:length])
    assert world.read() == first
    assert sum(world.whole) == len(first)


def test_reports_at_the_same_time_and_a_folder_that_cannot_be_written(world: World) -> None:
    first = world.read()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: rows(world.kept), range(4)))
    assert found == [first] * 4
    assert len(list((world.folder / "cache").iterdir())) == 1
    (world.folder / "file").touch()
    assert rows(RestStore(world.uri, world.folder / "file" / "cache")) == first
