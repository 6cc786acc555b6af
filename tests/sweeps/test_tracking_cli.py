"""`ablate sync` and the shipper process, with the default store of a home."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from services import free_port, wait_until
from tracking_world import assert_shipped, fresh_store, pretraining, write_journal

from ablative.study.cli import main
from ablative.study.home.paths import Home
from ablative.study.plan.plan import make_plan
from ablative.study.plan.task import TaskRef
from ablative.sweeps.tracking import store
from ablative.sweeps.tracking.cursor import pending
from ablative.sweeps.tracking.upload_client import UploadClient


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("ABLATE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    home = Home(tmp_path / "home")
    home.root.mkdir()
    home.store.write_bytes(fresh_store())
    return home


def test_sync(home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan("demo")
    tasks = [TaskRef.of(task) for task in plan.tasks]
    run = tasks[0]
    score = next(task for task in tasks if not task.opens and task.run_id == run.run_id)
    for task in (run, score):
        write_journal(home, task, steps=5)

    assert main(["sync", "demo", "--json"], standalone=False) == 0
    expected = {"study": "demo", "store": f"sqlite:///{home.store}", "tasks": 2, "metrics": 40, "pending": 0}
    assert json.loads(capsys.readouterr().out) == {**expected, "errors": [], "restored": 0, "files_error": ""}
    assert_shipped(f"sqlite:///{home.store}", "demo", home, [run, score])

    assert main(["sync", "demo"], standalone=False) == 0
    assert capsys.readouterr().out == f"demo: 0 tasks, 0 metric values shipped to sqlite:///{home.store}\n"
    assert main(["sync", "demo", "--again", "--json"], standalone=False) == 0
    assert json.loads(capsys.readouterr().out)["metrics"] == 40

    # The store is replaced by an empty one behind our back.
    home.store.write_bytes(fresh_store())
    assert main(["sync", "demo"], standalone=False) == 0
    assert "2 runs had gone from the store, and are there again" in capsys.readouterr().out
    assert_shipped(f"sqlite:///{home.store}", "demo", home, [run, score])

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ann:s3cret@127.0.0.1:{free_port()}")
    with pytest.raises(SystemExit) as stop:
        main(["sync", "demo"])
    assert stop.value.code == 1
    shown = capsys.readouterr()
    assert "nobody answers" in shown.err
    assert "2 tasks wait in their journals" in shown.err
    assert "s3cret" not in shown.out + shown.err


def test_a_shipper_that_dies_is_started_again(home: Home) -> None:
    runs = [pretraining(1), pretraining(2)]
    for run in runs:
        write_journal(home, run, steps=5)
    store.prepare(home, "study")
    shipper = UploadClient("study", home, interval=0.1)
    shipper.follow(runs[0])
    first = shipper._process
    assert first is not None
    first.kill()
    first.wait()
    shipper.follow(runs[1])
    assert shipper.close(timeout=120)
    assert_shipped(f"sqlite:///{home.store}", "study", home, runs)
    assert not Path(f"/proc/{first.pid}").exists()


def test_a_shipper_follows_many_tasks_and_is_dismissed_at_once(home: Home) -> None:
    """More than a pipe holds, to a process that has hardly begun to read."""
    shipper = UploadClient("study", home)
    for number in range(2000):
        shipper.follow(pretraining(number))
    process = shipper._process
    assert process is not None
    assert not shipper.close(timeout=0)
    assert process.returncode is not None
    assert UploadClient("study", home).close()


@pytest.mark.long
def test_a_locked_store_holds_up_the_shipper_only(home: Home, capfd: pytest.CaptureFixture[str]) -> None:
    """For each change the locked stores of `test_tracking_sqlite.py` stay, without the process."""
    run = pretraining(1)
    store.prepare(home, "study")
    lock = sqlite3.connect(home.store, isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    with UploadClient("study", home, interval=0.1) as shipper:
        write_journal(home, run, steps=5)
        shipper.follow(run)
        wait_until(lambda: "is locked by another process" in capfd.readouterr().err, 300, "the complaint")
        lock.execute("ROLLBACK")
        lock.close()
        wait_until(lambda: pending([run], "study", home) == 0, 300, "shipping")
    assert_shipped(f"sqlite:///{home.store}", "study", home, [run])
