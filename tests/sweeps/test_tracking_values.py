"""Names, texts, URIs, cursors and locks of tracking: everything that needs no store."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tracking_world import PROCESSES, evaluation, pretraining, write_journal

from ablative.study.core.errors import StoreError
from ablative.study.core.files import write_json
from ablative.study.home.journal import Journal
from ablative.study.home.paths import Home
from ablative.study.home.task_state import DirectoryState
from ablative.study.plan.task import TaskRef
from ablative.study.spec.design import cell_name
from ablative.sweeps.queue import leases
from ablative.sweeps.tracking import locks, uri
from ablative.sweeps.tracking.contents.final_metrics import final_metrics
from ablative.sweeps.tracking.contents.run_names import RunNames
from ablative.sweeps.tracking.contents.tags import list_text, plan_tags
from ablative.sweeps.tracking.contents.values import JournalLine, Outcome, batches, cut, key_name, last_event, outcome
from ablative.sweeps.tracking.cursor import pending, read_cursor


@pytest.mark.parametrize("name", ["zero_shot/digits/top1", "model.width", "a b:c-d_é", "x" * 250])
def test_a_valid_name_stays(name: str) -> None:
    assert key_name(name) == name


@pytest.mark.parametrize("name", ["", "..", "../up", "a//b", "/root", "./a", "what?", "tab\tbed", "x" * 251, "a/../.."])
def test_any_name_becomes_one_that_mlflow_takes(name: str) -> None:
    from mlflow.utils.validation import MAX_ENTITY_KEY_LENGTH, _validate_metric_name, _validate_param_name

    clean = key_name(name)
    _validate_metric_name(clean)
    _validate_param_name(clean)
    assert len(clean) <= MAX_ENTITY_KEY_LENGTH


def test_limits_are_those_of_mlflow() -> None:
    from mlflow.utils import validation

    from ablative.sweeps.tracking.contents import values

    assert values.KEY_LENGTH == validation.MAX_ENTITY_KEY_LENGTH
    assert values.PARAM_LENGTH == validation.MAX_PARAM_VAL_LENGTH
    assert values.TAG_LENGTH == validation.MAX_TAG_VAL_LENGTH
    assert values.BATCH + 2 * validation.MAX_PARAMS_TAGS_PER_BATCH == validation.MAX_ENTITIES_PER_BATCH


def test_a_cut_text_keeps_what_tells_it_apart() -> None:
    one, two = "a" * 7000 + "1", "a" * 7000 + "2"
    assert cut("short", 6000) == "short"
    assert len(cut(one, 6000)) == len(cut(two, 6000)) == 6000
    assert cut(one, 6000) != cut(two, 6000)
    assert "7001 characters" in cut(one, 6000)
    assert cut("nul\0 half\ud800", 100) == "nul\ufffd half?"


def test_cells_stay_json_when_there_are_too_many() -> None:
    cells = tuple({"factor": "level" * 20, "number": str(i)} for i in range(200))
    assert json.loads(list_text(cells[:3])) == list(cells[:3])
    assert 0 < len(json.loads(list_text(cells))) < 200
    assert len(list_text(cells)) <= 8000


def test_tags_of_a_plan() -> None:
    task = evaluation(pretraining(1, ({"method": "clip", "scale": "small"}, {"method": "clip"})), 2)
    assert plan_tags(task, "pooling") == {
        "ablate.study": "pooling",
        "ablate.run_id": "000000000001",
        "ablate.task_id": "e00000000002",
        "ablate.stage": "zero_shot",
        "ablate.needs": '["000000000001"]',
        "ablate.kind": "evaluate",
        "ablate.protocol": "zero_shot",
        "ablate.seed": "0",
        "ablate.cells": '[{"method": "clip", "scale": "small"}, {"method": "clip"}]',
        "ablate.cell.method": "clip",
        "ablate.cell.scale": "small",
    }
    assert task.run() == pretraining(1, task.cells)
    assert TaskRef.from_json(json.loads(json.dumps(task.to_json()))) == task


def test_names_are_short_with_what_varies_first() -> None:
    """Constant factors go; a level that says nothing without its factor, or is two factors', keeps it."""

    def named(*cells: dict[str, str]) -> list[str]:
        return [
            RunNames.of(cells).name(dataclasses.replace(pretraining(3, (cell,)), name=full(cell))) for cell in cells
        ]

    def full(cell: dict[str, str]) -> str:
        return f"{cell_name(cell)} seed=3"

    base = {"data": "small", "model": "tiny", "lr": "0.1", "mask": "off"}
    grid = [base | {"lr": lr, "mask": mask} for lr in ("0.1", "0.2") for mask in ("off", "on")]
    assert named(*grid)[:2] == ["lr=0.1, mask=off, s3", "lr=0.1, mask=on, s3"]
    star = [base, base | {"data": "large"}, base | {"model": "small"}, base | {"mask": "on"}]
    assert named(*star)[1:] == [
        "large, tiny, mask=off, s3",
        "model=small, data=small, mask=off, s3",
        "mask=on, data=small, tiny, s3",
    ]
    names = RunNames.of(grid)
    score = evaluation(dataclasses.replace(pretraining(3, (base,)), name=full(base)), 4)
    assert names.name(score) == "zero_shot: lr=0.1, mask=off, s3"
    trial = TaskRef("t", "train", "t", 0, (), (), (), (), "method=clip trial=7 seed=0")
    assert names.name(trial) == "trial=7 s0, method=clip"
    assert named({}) == ["all s3"]


def test_final_metrics_are_those_of_the_stage_alone() -> None:
    def line(t: int, step: int, **values: float) -> dict[str, object]:
        return {
            "t": t,
            "kind": "metrics",
            "step": step,
            "values": {key.replace("__", "/"): v for key, v in values.items()},
        }

    entries = [line(1, 0, probe__a=1.0, probe__b=2.0, cost__s=3.0), line(2, 5, probe__a=4.0, probes__c=5.0)]
    assert final_metrics(entries, "probe", own=["probe/b"]) == [("probe/a", 5, 4.0, 2)]


def test_batches_end_at_lines() -> None:
    def line(values: int, end: int) -> JournalLine:
        return JournalLine({"kind": "metrics", "values": dict.fromkeys(map(str, range(values)), 0.0)}, end)

    event = JournalLine({"kind": "event", "name": "started", "t": 1}, 5)
    lines = [line(4, 1), line(6, 2), line(1, 3), line(25, 4), event]
    assert [[item.end for item in batch] for batch in batches(lines, 10)] == [[1, 2], [3], [4, 5]]
    assert list(batches([], 10)) == []


@pytest.mark.parametrize(
    ("directory", "event", "expected"),
    [
        (DirectoryState("none"), None, Outcome("RUNNING", "running")),
        (DirectoryState("claimed"), {"name": "resumed", "t": 7, "cause": ""}, Outcome("RUNNING", "running")),
        (DirectoryState("claimed"), {"name": "completed", "t": 7, "cause": ""}, Outcome("RUNNING", "running")),
        (DirectoryState("none"), {"name": "failed", "t": 7, "cause": ""}, Outcome("FAILED", "failed", "code", 7)),
        (
            DirectoryState("claimed"),
            {"name": "interrupted", "t": 7, "cause": ""},
            Outcome("KILLED", "failed", "interrupted", 7),
        ),
        (
            DirectoryState("failed", "out of memory", {"time": "1970-01-01T00:00:02+00:00"}),
            {"name": "started", "t": 7, "cause": ""},
            Outcome("FAILED", "failed", "out of memory", 2000),
        ),
        (DirectoryState("cancelled", "cancelled"), None, Outcome("KILLED", "failed", "cancelled")),
        (
            DirectoryState("diverged", detail={"finished": 3.0, "environment": {"commit": "abc", "dirty": False}}),
            {"name": "diverged", "t": 7, "cause": ""},
            Outcome("FINISHED", "diverged", "", 3000, (("ablate.commit", "abc"), ("ablate.dirty", "0"))),
        ),
        (
            DirectoryState("completed", detail={"finished": "1970-01-01T00:00:02+00:00"}),
            {"name": "completed", "t": 2345},
            Outcome("FINISHED", "completed", "", 2345),
        ),
        (
            DirectoryState("completed", detail={}),
            {"name": "completed", "t": 7},
            Outcome("FINISHED", "completed", "", 7),
        ),
    ],
)
def test_outcomes(directory: DirectoryState, event: dict[str, object] | None, expected: Outcome) -> None:
    assert outcome(directory, event) == expected


def test_the_last_event_that_tells_a_state_counts() -> None:
    lines = [
        JournalLine({"kind": "event", "name": name, "t": t}, t)
        for t, name in enumerate(["started", "checkpoint failed"])
    ]
    assert last_event(lines, None) == {"name": "started", "t": 0, "cause": ""}
    assert last_event(lines[1:], {"name": "resumed"}) == {"name": "resumed"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://ann:pa%40ss@host:5000/x", "http://***@host:5000/x"),
        (
            "postgresql://ann:p@ss@db/m?password=pw&sslmode=require",
            "postgresql://***@db/m?password=***&sslmode=require",
        ),
        ("sqlite:////home/x/mlflow.db", "sqlite:////home/x/mlflow.db"),
    ],
)
def test_secrets_are_not_shown(text: str, shown: str) -> None:
    assert uri.redact_store(text) == shown


def test_secrets_are_not_shown_in_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0ken")
    message = uri.redact_store("no: s3cr:t or s3cr%3At or t0ken\nat http://a:b@c", "http://ann:s3cr%3At@host")
    assert message == "no: *** or *** or ***\nat http://***@c"


def test_uris(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert uri.resolve("sqlite:///runs.db") == f"sqlite:///{tmp_path}/runs.db"
    assert uri.resolve("http://host:5000/") == "http://host:5000"
    assert uri.resolve("postgres://a:b@h/m").startswith("postgresql+psycopg2://a:b@h/m?connect_timeout=5&")
    assert uri.redact_store(uri.resolve("postgres://a:b@h/m")) == "postgresql+psycopg2://***@h/m"
    shown = "postgresql+psycopg2://***@h/m?sslmode=require"
    assert uri.redact_store(uri.resolve("postgresql://a:b@h/m?sslmode=require")) == shown
    assert "connect_timeout=60" in uri.resolve("postgresql://h/m?connect_timeout=60")
    for wrong in ("./mlruns", "file:///tmp/mlruns", "databricks", "htp://host", "sqlite://", "sqlite:///:memory:"):
        with pytest.raises(StoreError, match=r"MLFLOW_TRACKING_URI=.*sqlite"):
            uri.resolve(wrong)
    with pytest.raises(StoreError, match=r"did you mean 'http'\?"):
        uri.resolve("htp://host")


def test_a_store_is_known_whoever_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert uri.store_key(home) == uri.store_key(Home(tmp_path / "moved")) == "default"
    keys = set()
    for text in ("http://ann:1@host", "http://bob:2@host/", "http://host"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", text)
        keys.add(uri.store_key(home))
    assert len(keys) == 1
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://other")
    assert uri.store_key(home) not in keys


def test_pending_imports_nothing_heavy() -> None:
    program = (
        "import sys, ablative.sweeps.tracking.cursor;"
        "print([m for m in ('mlflow', 'torch', 'sqlalchemy') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "[]"


def test_what_was_never_shipped_is_pending(tmp_path: Path) -> None:
    home, sources = Home(tmp_path), [pretraining(1), pretraining(2), pretraining(3)]
    write_journal(home, sources[0], steps=2)
    Journal(sources[1].paths(home).journal).close()
    assert pending(sources, "study", home) == 1, "an empty journal and a missing one have nothing to ship"


@pytest.fixture(params=["flock", "no flock"])
def lock_path(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lock on a file system with locks, and on one without."""
    if request.param == "no flock":
        monkeypatch.setattr(fcntl, "flock", _no_locks)
    return tmp_path / "task.lock"


def _no_locks(handle: int, operation: int) -> None:
    raise OSError(errno.ENOLCK, "No locks available")


def test_a_lock_excludes_and_goes(lock_path: Path) -> None:
    with locks.exclusive(lock_path, 0):
        with pytest.raises(locks.Busy), locks.exclusive(lock_path, 0.1):
            pass
        assert lock_path.exists()
    assert list(lock_path.parent.iterdir()) == []
    with locks.exclusive(lock_path, 0):
        pass


def test_a_lock_of_a_dead_process_is_taken_over(lock_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    write_json(lock_path, dataclasses.asdict(dataclasses.replace(leases.identify(), pid=dead.pid)))
    with locks.exclusive(lock_path, 0.2):
        pass


def test_a_lock_of_a_killed_process_is_free_at_once(lock_path: Path) -> None:
    locked = PROCESSES.Event()
    holder = PROCESSES.Process(target=_hold, args=(lock_path, "_no_locks" in str(fcntl.flock), locked))
    holder.start()
    assert locked.wait(60)
    with pytest.raises(locks.Busy), locks.exclusive(lock_path, 0.1):
        pass
    holder.kill()
    holder.join()
    with locks.exclusive(lock_path, 5):
        pass
    assert list(lock_path.parent.iterdir()) == []


def _hold(path: Path, leased: bool, locked: Any) -> None:
    if leased:
        fcntl.flock = _no_locks  # type: ignore[assignment]
    with locks.exclusive(path, 5):
        locked.set()
        time.sleep(600)


def test_without_flock_only_age_tells_of_other_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", _no_locks)
    lock_path = tmp_path / "task.lock"
    write_json(lock_path, dataclasses.asdict(dataclasses.replace(leases.identify(), host="elsewhere")))
    with pytest.raises(locks.Busy), locks.exclusive(lock_path, 0.1):
        pass
    old = time.time() - locks.STALE_SECONDS - 1
    os.utime(lock_path, (old, old))
    with locks.exclusive(lock_path, 0.1):
        pass


def test_a_lock_on_a_file_that_nfs_renamed_is_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS keeps a removed file that is open under another name, with one link."""
    path, lock, renamed = tmp_path / "task.lock", locks.lock_descriptor, tmp_path / ".nfs01"

    def lock_late(handle: int, *, blocking: bool) -> bool:
        if not renamed.exists():
            path.rename(renamed)
        return lock(handle, blocking=blocking)

    monkeypatch.setattr(locks, "lock_descriptor", lock_late)
    with locks.exclusive(path, 5):
        assert path.exists()
        with pytest.raises(locks.Busy), locks.exclusive(path, 0.1):
            pass


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO])
def test_a_file_server_that_is_away_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    path, lock, fails = tmp_path / "task.lock", fcntl.flock, [True, True]
    assert locks._has_flock(tmp_path)

    def away(handle: int, operation: int) -> None:
        if fails and fails.pop():
            raise OSError(number, os.strerror(number))
        lock(handle, operation)

    monkeypatch.setattr(fcntl, "flock", away)
    with locks.exclusive(path, 5):
        assert not fails
    fails += [True] * 100
    with pytest.raises(locks.Busy), locks.exclusive(path, 0.1):
        pass


def _count(path: Path, times: int, flock: bool) -> None:
    if not flock:
        fcntl.flock = _no_locks  # type: ignore[assignment]
    for _ in range(times):
        with locks.exclusive(path.with_suffix(".lock"), 30):
            number = int(path.read_text())
            time.sleep(0.001)
            path.write_text(str(number + 1))


@pytest.mark.parametrize("flock", [True, False])
def test_many_processes_take_turns(tmp_path: Path, flock: bool) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    workers = [PROCESSES.Process(target=_count, args=(counter, 25, flock)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert counter.read_text() == "100"


def test_the_cursor_keeps_the_keys_of_version_0_1_0(tmp_path: Path) -> None:
    task, home = pretraining(0), Home(tmp_path)
    paths = task.paths(home)
    paths.root.mkdir(parents=True)
    old = {"mlflow_run_id": "m", "journal": "j", "experiment": "1@2", "marks": "abc:0000", "doubt": 7.0}
    write_json(paths.shipped("study"), old)
    cursor = read_cursor(paths, "study")
    assert cursor is not None and (cursor.state_digest, cursor.pending_create) == ("abc:0000", 7.0)
    cursor.write(paths, "study")
    assert old.items() <= json.loads(paths.shipped("study").read_text()).items()
