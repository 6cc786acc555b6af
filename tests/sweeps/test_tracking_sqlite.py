"""Journals into the default SQLite store: rows equal to the journal's, whatever happens on the way."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import random
import resource
import shutil
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from forked import Forked
from tracking_world import (
    IMPORTS,
    LOSSES,
    PROCESSES,
    assert_healed,
    assert_shipped,
    evaluation,
    fresh_store,
    lose,
    params,
    pretraining,
    query,
    run_ids,
    run_row,
    scored_run,
    shipping_process,
    tags,
    write_journal,
    write_record,
)

from ablative.study.core.errors import StoreError
from ablative.study.core.files import write_json
from ablative.study.home.journal import Journal
from ablative.study.home.paths import Home
from ablative.study.plan.task import TaskRef
from ablative.sweeps.tracking import store
from ablative.sweeps.tracking.cursor import pending, read_cursor
from ablative.sweeps.tracking.quiet import quiet
from ablative.sweeps.tracking.sync import Shipped, ship
from ablative.sweeps.tracking.uploader import Uploader

STUDY = "pooling"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    home = Home(tmp_path / "home")
    home.root.mkdir()
    home.store.write_bytes(fresh_store())
    return home


def uri(home: Home) -> str:
    return f"sqlite:///{home.store}"


def test_a_pretraining_and_its_evaluations(home: Home) -> None:
    run = pretraining(1, ({"method": "clip", "scale": "small"},))
    scores = [evaluation(run, 2, "zero_shot"), evaluation(run, 3, "linear_probe")]
    for task in (run, *scores):
        write_journal(home, task, steps=10)
    assert pending([run, *scores], STUDY, home) == 3

    # Evaluations first: their parent is made for them.
    assert ship([*scores, run], STUDY, home) == Shipped(tasks=3, metrics=3 * 40)
    assert pending([run, *scores], STUDY, home) == 0
    assert ship([*scores, run], STUDY, home) == Shipped()
    assert_shipped(uri(home), STUDY, home, [run, *scores])

    parent = run_ids(uri(home), run)[0]
    assert params(uri(home), parent) == {"model.width": "64", "schedule.lr": "0.5"}
    assert (
        tags(uri(home), parent).items()
        >= {
            "ablate.study": STUDY,
            "ablate.stage": "train",
            "ablate.kind": "pretrain",
            "ablate.cell.scale": "small",
            "ablate.cells": json.dumps(run.cells),
            "ablate.state": "running",
            "mlflow.runName": "method=clip s1",
        }.items()
    )
    for score in scores:
        assert tags(uri(home), run_ids(uri(home), score)[0])["mlflow.parentRunId"] == parent
    assert not list(home.root.rglob("*.lock"))
    assert not Path("mlruns").exists()


def test_state_status_and_times(home: Home) -> None:
    run = pretraining(1)
    write_journal(home, run, steps=3)
    ship([run], STUDY, home)
    run_id = run_ids(uri(home), run)[0]
    began = json.loads(run.paths(home).journal.read_text().splitlines()[0])["t"]
    assert run_row(uri(home), run_id) == ("clip, s1", "RUNNING", began, None)

    write_record(home, run)
    assert pending([run], STUDY, home) == 1, "the record is news"
    assert ship([run], STUDY, home) == Shipped(tasks=1)
    assert run_row(uri(home), run_id) == ("clip, s1", "FINISHED", began, 1767323045000)
    wanted = {"ablate.state": "completed", "ablate.commit": "abc123", "ablate.dirty": "1"}
    assert tags(uri(home), run_id).items() >= wanted.items()


def test_a_failed_task_that_is_tried_again(home: Home) -> None:
    run = pretraining(1)
    paths = run.paths(home)
    write_journal(home, run, steps=3)
    write_json(paths.failure, {"cause": "preempted", "time": "2026-01-02T03:04:05+00:00"})
    ship([run], STUDY, home)
    run_id = run_ids(uri(home), run)[0]
    assert run_row(uri(home), run_id)[1::2] == ("KILLED", 1767323045000)
    assert tags(uri(home), run_id)["ablate.cause"] == "preempted"

    paths.failure.unlink()
    journal = Journal(paths.journal)
    journal.event("resumed")
    journal.params({"model.width": 64, "runtime.micro_batch": 8, "schedule.lr": 0.25})
    journal.metrics(3, {"train/0": 1.0})
    journal.close()
    ship([run], STUDY, home)
    assert run_row(uri(home), run_id)[1] == "RUNNING"
    assert params(uri(home), run_id) == {"model.width": "64", "runtime.micro_batch": "8", "schedule.lr": "0.5"}
    assert tags(uri(home), run_id).items() >= {"ablate.changed.schedule.lr": "0.25", "ablate.cause": ""}.items()
    write_record(home, run)
    ship([run], STUDY, home)
    assert run_row(uri(home), run_id)[1] == "FINISHED"
    assert_shipped(uri(home), STUDY, home, [run])


def test_what_a_killed_attempt_has_cost_is_told_for_it(home: Home) -> None:
    run = pretraining(1)
    journal = Journal(run.paths(home).journal)
    journal.event("started", attempt=1)
    time.sleep(0.05)
    journal.metrics(1, {"train/0": 1.0})
    journal.close()
    write_json(run.paths(home).failure, {"cause": "killed", "time": "2026-01-02T03:04:05+00:00"})
    ship([run], STUDY, home)
    told = tags(uri(home), run_ids(uri(home), run)[0])
    assert told["ablate.seconds_wasted"] == told["ablate.seconds"] and float(told["ablate.seconds"]) >= 0.05


def test_renamed_levels_replace_the_old_tags(home: Home) -> None:
    old = pretraining(1, ({"method": "clip", "pool": "map"},))
    new = dataclasses.replace(old, cells=({"method": "CLIP", "pooling": "map"},), name="renamed seed=0")
    write_journal(home, old, steps=2)
    ship([old], STUDY, home)
    assert pending([new], STUDY, home) == 1
    cursor = old.paths(home).shipped(STUDY).read_text()
    assert ship([new], STUDY, home) == Shipped(tasks=1)
    # As after a kill between the store's confirmation and the cursor.
    old.paths(home).shipped(STUDY).write_text(cursor)
    assert ship([new], STUDY, home) == Shipped(tasks=1)
    run_id = run_ids(uri(home), old)[0]
    cells = {key: value for key, value in tags(uri(home), run_id).items() if key.startswith("ablate.cell.")}
    assert cells == {"ablate.cell.method": "CLIP", "ablate.cell.pooling": "map"}
    assert run_row(uri(home), run_id)[0] == tags(uri(home), run_id)["mlflow.runName"] == "renamed s0"


def test_sending_everything_again_adds_nothing(home: Home) -> None:
    sources = [pretraining(1), pretraining(2)]
    for source in sources:
        write_journal(home, source, steps=300)
    assert ship(sources, STUDY, home).metrics == 2400
    assert ship(sources, STUDY, home, again=True) == Shipped(tasks=2, metrics=2400)
    for source in sources:
        shutil.rmtree(source.paths(home).shipped(STUDY).parent)
    assert ship(sources, STUDY, home) == Shipped(tasks=2, metrics=2400)
    assert_shipped(uri(home), STUDY, home, sources)


def test_two_studies_share_a_run(home: Home) -> None:
    run = pretraining(1)
    write_journal(home, run, steps=2)
    for study in (STUDY, "other"):
        ship([run], study, home)
        assert pending([run], study, home) == 0
    assert len(run_ids(uri(home), run)) == 2
    assert query(uri(home), "SELECT count(*) FROM metrics") == [(16,)]


def test_a_run_that_starts_anew_replaces_its_mlflow_run(home: Home) -> None:
    run = pretraining(1)
    write_journal(home, run, steps=5)
    ship([run], STUDY, home)
    first = run_ids(uri(home), run)
    shutil.rmtree(run.paths(home).root)
    time.sleep(0.002)
    write_journal(home, run, steps=3)
    ship([run], STUDY, home)
    assert run_ids(uri(home), run) != first
    assert query(
        uri(home), "SELECT count(*) FROM metrics JOIN runs USING (run_uuid) WHERE lifecycle_stage = 'active'"
    ) == [(12,)]


def test_a_run_deleted_in_mlflow_comes_back(home: Home) -> None:
    run = pretraining(1)
    write_journal(home, run, steps=5)
    ship([run], STUDY, home)
    with quiet(uri(home)):
        store.client(uri(home)).delete_run(run_ids(uri(home), run)[0])
    write_record(home, run)
    assert ship([run], STUDY, home) == Shipped(tasks=1, metrics=20, restored=1)
    assert_shipped(uri(home), STUDY, home, [run])


def test_what_a_store_has_lost_is_shipped_again(home: Home) -> None:
    tasks = scored_run(home, 1)
    assert ship(tasks, STUDY, home).tasks == 3
    assert_shipped(uri(home), STUDY, home, tasks)
    for how in LOSSES:
        assert_healed(uri(home), STUDY, home, how, tasks)
    shutil.rmtree(home.artifacts)
    ship(tasks, STUDY, home, verify=True)
    kept = {path.relative_to(home.artifacts).parts[0] for path in home.artifacts.rglob("config.yaml")}
    assert kept == {run_ids(uri(home), task)[0] for task in tasks}


def test_a_backup_that_is_put_back_is_brought_up_to_date(home: Home) -> None:
    """It was made while a run trained and the evaluations of another were finished but not yet sent."""
    run, *rest = scored_run(home, 1)
    other = pretraining(2)
    write_journal(home, other, steps=3)
    ship([run, other], STUDY, home)
    backup = home.store.read_bytes()
    write_journal(home, other, steps=9)
    write_record(home, other)
    tasks = [run, other, *rest]
    ship(tasks, STUDY, home)
    home.store.write_bytes(backup)
    assert ship(tasks, STUDY, home, verify=True).restored == 3, "the run that was finished then is as it was"
    assert_shipped(uri(home), STUDY, home, tasks)
    assert ship(tasks, STUDY, home, verify=True) == Shipped()


def test_a_run_deleted_while_its_evaluation_is_sent_comes_back(home: Home) -> None:
    run, score, *_ = tasks = scored_run(home, 1)
    ship([run], STUDY, home)
    lose(uri(home), "a run is deleted", [run])
    ship([score], STUDY, home)
    assert_shipped(uri(home), STUDY, home, [run, score])
    ship(tasks, STUDY, home, verify=True)
    assert_shipped(uri(home), STUDY, home, tasks)


def test_files_that_cannot_be_sent_hold_up_nothing(home: Home) -> None:
    tasks = scored_run(home, 1)
    home.artifacts.write_text("in the way")
    found = ship(tasks, STUDY, home)
    assert (found.tasks, found.pending, found.errors) == (3, 0, ()) and "NotADirectoryError" in found.files_error
    assert_shipped(uri(home), STUDY, home, tasks)
    home.artifacts.unlink()
    assert ship(tasks, STUDY, home, verify=True) == Shipped()
    assert len(list(home.artifacts.rglob("config.yaml"))) == 3


def test_a_new_store_gets_everything(home: Home) -> None:
    sources = [pretraining(1), pretraining(2)]
    for source in sources:
        write_journal(home, source, steps=5)
    ship(sources, STUDY, home)
    home.store.unlink()
    assert pending(sources, STUDY, home) == 2
    home.store.write_bytes(fresh_store())
    assert ship(sources[:1], STUDY, home, verify=True) == Shipped(tasks=1, metrics=20, restored=1)
    assert pending(sources, STUDY, home) == 1
    ship(sources, STUDY, home)
    assert_shipped(uri(home), STUDY, home, sources)


def test_a_deleted_experiment_is_one_clear_error(home: Home) -> None:
    experiment = store.prepare(home, STUDY)
    with quiet(uri(home)):
        store.client(uri(home)).delete_experiment(experiment.id)
    with pytest.raises(StoreError, match="experiment 'pooling' was deleted; bring it back"):
        store.prepare(home, STUDY)


def test_odd_names_long_texts_and_a_torn_line(home: Home) -> None:
    run = pretraining(1)
    journal = Journal(run.paths(home).journal)
    journal.event("started")
    journal.metrics(0, {f"a//b?{'x' * 300}": 1.0, "é/ok": math.nan})
    journal.params({f"p{i}": "v" * 7000 if i == 0 else i for i in range(150)})
    journal.tags({"note": "n" * 9000, "nul": "a\0b"})
    journal.close()
    with run.paths(home).journal.open("ab") as file:
        file.write(b'{"t": 1, "kind": "met')
    assert ship([run], STUDY, home) == Shipped(tasks=1, metrics=2)
    assert pending([run], STUDY, home) == 0, "half a line is not news until it is whole"
    run_id = run_ids(uri(home), run)[0]
    assert len(params(uri(home), run_id)) == 150
    assert len(params(uri(home), run_id)["p0"]) == 6000
    assert len(tags(uri(home), run_id)["note"]) == 8000
    assert ship([run], STUDY, home, again=True).errors == ()


def test_one_broken_journal_does_not_hold_up_the_others(home: Home) -> None:
    broken, run = pretraining(1), pretraining(2)
    for source in (broken, run):
        write_journal(home, source, steps=2)
    good = len(broken.paths(home).journal.read_bytes())
    with broken.paths(home).journal.open("ab") as file:
        file.write(b"\0\0\0\n")
    shipped = ship([broken, run], STUDY, home)
    assert (shipped.tasks, shipped.pending) == (1, 1)
    assert len(shipped.errors) == 1
    assert f"byte {good} begins a damaged line" in shipped.errors[0]
    assert_shipped(uri(home), STUDY, home, [run])


def test_a_locked_store_is_waited_for(home: Home) -> None:
    run = pretraining(1)
    write_journal(home, run)
    store.prepare(home, STUDY)
    lock = sqlite3.connect(home.store, isolation_level=None, check_same_thread=False)
    lock.execute("BEGIN EXCLUSIVE")
    release = threading.Timer(2.0, lambda: lock.execute("ROLLBACK"))
    release.start()
    began = time.monotonic()
    assert ship([run], STUDY, home) == Shipped(tasks=1, metrics=200)
    assert time.monotonic() - began > 1.5
    release.join()
    lock.close()
    assert_shipped(uri(home), STUDY, home, [run])


def test_a_store_locked_for_long_is_reported_and_left_for_later(
    home: Home, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(store, "PROBE_SECONDS", 1)
    run = pretraining(1)
    write_journal(home, run)
    store.prepare(home, STUDY)
    lock = sqlite3.connect(home.store, isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    shipped = ship([run], STUDY, home)
    assert shipped == Shipped(pending=1, errors=(f"tracking store {uri(home)} is locked by another process",))
    lock.execute("ROLLBACK")
    lock.close()
    assert ship([run], STUDY, home) == Shipped(tasks=1, metrics=200)
    assert_shipped(uri(home), STUDY, home, [run])
    assert capfd.readouterr() == ("", ""), "MLflow's own tracebacks stay out of the user's terminal"


def test_a_read_only_store_is_reported(home: Home) -> None:
    run = pretraining(1)
    write_journal(home, run, steps=2)
    store.prepare(home, STUDY)
    home.store.chmod(0o444)
    other = Home(home.root.parent / "other")
    other.root.mkdir()
    other.store.write_bytes(fresh_store())
    write_journal(other, run, steps=2)
    home.root.chmod(0o777)
    for path in home.root.rglob("*"):
        path.chmod(0o777 if path.is_dir() else path.stat().st_mode | 0o444)
    shipped = Forked(_ship_unprivileged, home.root, other.root, run, imports=IMPORTS).answer()
    assert shipped.pending == 1
    assert shipped.errors == (f"tracking store {uri(home)} cannot be written",)


def _ship_unprivileged(root: Path, other: Path, run: TaskRef) -> Shipped:
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    # Whatever is imported for it: nobody may be kept from reading the packages, too.
    assert ship([run], STUDY, Home(other)).tasks == 1
    if os.geteuid() == 0:
        for parent in root.parents:
            parent.chmod(parent.stat().st_mode | 0o011)
        os.setgid(65534)
        os.setuid(65534)
    return ship([run], STUDY, Home(root))


def test_a_full_disk_is_reported_and_loses_nothing(home: Home) -> None:
    run = pretraining(1)
    write_journal(home, run, steps=800)
    store.prepare(home, STUDY)
    shipped = Forked(_ship_on_a_full_disk, home.root, run, imports=IMPORTS).answer()
    assert shipped.pending == 1
    assert shipped.errors == (f"tracking store {uri(home)} cannot be written: disk full or failing",)
    assert ship([run], STUDY, home).tasks == 1
    assert_shipped(uri(home), STUDY, home, [run])


def _ship_on_a_full_disk(root: Path, run: TaskRef) -> Shipped:
    """No file may grow beyond the store's size and a little: what a quota does."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    limit = Home(root).store.stat().st_size + 2**17
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    return ship([run], STUDY, Home(root))


def test_a_store_of_a_newer_mlflow_is_refused(home: Home) -> None:
    store.prepare(home, STUDY)
    with sqlite3.connect(home.store) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'f00df00df00d'")
    connection.close()
    with pytest.raises(StoreError, match=r"schema is f00df00df00d, MLflow 3\..* needs .*; a newer MLflow wrote it"):
        store.prepare(home, STUDY)
    with sqlite3.connect(home.store) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
    connection.close()
    with pytest.raises(StoreError, match="an older MLflow wrote it: back it up, then run 'mlflow db upgrade"):
        store.prepare(home, STUDY)


def test_a_file_that_is_no_store(home: Home) -> None:
    home.store.write_text("not a database, but long enough to look at" * 100)
    with pytest.raises(StoreError, match="is not an SQLite database, or is damaged"):
        store.prepare(home, STUDY)


def test_a_home_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "file").touch()
    home = Home(tmp_path / "file" / "home")
    with pytest.raises(StoreError, match="Not a directory"):
        store.prepare(home, STUDY)


def test_a_known_store_is_opened_without_mlflow(home: Home) -> None:
    expected = store.prepare(home, STUDY)
    assert Forked(_prepare_without_mlflow, home.root).answer() == expected


def _prepare_without_mlflow(root: Path) -> store.Experiment:
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    store.client = None  # type: ignore[assignment]
    return store.prepare(Home(root), STUDY)


def test_out_of_time_leaves_the_rest_pending(home: Home) -> None:
    run = pretraining(1)
    write_journal(home, run, steps=2)
    assert ship([run], STUDY, home, until=time.monotonic() - 1) == Shipped(pending=1)
    assert ship([run], STUDY, home) == Shipped(tasks=1, metrics=8)


def test_a_kill_between_creation_and_cursor_makes_no_second_run(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    run = pretraining(1)
    write_journal(home, run, steps=2)

    def killed(uploader: Uploader, *arguments: object) -> None:
        raise KeyboardInterrupt

    create = Uploader._create
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Uploader, "_create", lambda *arguments: killed(create(*arguments)))
        ship([run], STUDY, home)
    assert len(run_ids(uri(home), run)) == 1
    assert read_cursor(run.paths(home), STUDY) is None
    ship([run], STUDY, home)
    assert_shipped(uri(home), STUDY, home, [run])


def test_killed_at_random_moments_and_repeated(home: Home) -> None:
    run = pretraining(1)
    sources = [run, evaluation(run, 2), *(pretraining(i) for i in range(3, 9))]
    for source in sources:
        write_journal(home, source, steps=600)
    store.prepare(home, STUDY)
    chance = random.Random(0)
    kills = 0
    for _ in range(15):
        outbox = PROCESSES.SimpleQueue()
        process = shipping_process(home, STUDY, sources, outbox)
        process.start()
        process.join(chance.uniform(0.1, 0.4))
        if process.exitcode is not None:
            break
        process.kill()
        process.join()
        kills += 1
    assert kills >= 3, "too few kills to mean anything: make the journals longer"
    ship(sources, STUDY, home)
    assert_shipped(uri(home), STUDY, home, sources)
    assert pending(sources, STUDY, home) == 0


def test_several_ship_the_same_tasks_at_once(home: Home) -> None:
    run = pretraining(1)
    sources = [evaluation(run, 2), evaluation(run, 3), run, pretraining(4)]
    for source in sources:
        write_journal(home, source, steps=300)
    store.prepare(home, STUDY)
    outbox = PROCESSES.SimpleQueue()
    processes = [shipping_process(home, STUDY, sources, outbox) for _ in range(3)]
    for process in processes:
        process.start()
    assert [outbox.get().errors for _ in processes] == [()] * 3
    for process in processes:
        process.join()
    assert_shipped(uri(home), STUDY, home, sources)


def test_twelve_processes_start_at_once_on_a_fresh_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    home = Home(tmp_path / "home")
    sources = [pretraining(i) for i in range(12)]
    for source in sources:
        write_journal(home, source, steps=10)
    outbox = PROCESSES.SimpleQueue()
    processes = [shipping_process(home, STUDY, [source], outbox) for source in sources]
    for process in processes:
        process.start()
    results = [outbox.get() for _ in processes]
    for process in processes:
        process.join()
    assert results == [Shipped(tasks=1, metrics=40)] * 12
    assert_shipped(uri(home), STUDY, home, sources)
    assert sorted(path.name for path in home.root.iterdir()) == ["identity", "mlflow.db", "runs", "studies"]
