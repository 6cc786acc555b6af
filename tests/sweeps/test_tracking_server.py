"""Journals over HTTP to a real `mlflow server`: away from the start, killed half-way, hanging, restarted."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from services import MlflowServer, free_port, wait_until
from tracking_world import (
    LOSSES,
    PROCESSES,
    assert_healed,
    assert_shipped,
    evaluation,
    fresh_store,
    pretraining,
    run_ids,
    run_row,
    scored_run,
    shipping_process,
    store_rows,
    tags,
    write_journal,
    write_record,
)

from ablative.study.core.errors import StoreError
from ablative.study.home.journal import Journal
from ablative.study.home.paths import Home
from ablative.sweeps.tracking import lost_runs, store, uploader
from ablative.sweeps.tracking.cursor import pending
from ablative.sweeps.tracking.sync import Shipped, ship
from ablative.sweeps.tracking.upload_client import UploadClient


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The server's own SQLite store; tests look into it past the server."""
    home = Home(tmp_path_factory.mktemp("server"))
    home.store.write_bytes(fresh_store())
    return f"sqlite:///{home.store}"


@pytest.fixture(scope="module")
def running(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    server = MlflowServer(database, tmp_path_factory.mktemp("log"))
    yield server
    server.kill()


@pytest.fixture
def server(running: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> MlflowServer:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", running.uri)
    running.start()
    return running


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.mark.long
def test_a_server_that_comes_late(
    running: MlflowServer,
    database: str,
    home: Home,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A worker's shipper, from a server that is down to everything in the store, without the worker's help.

    For each change the server stays that is killed half-way and restarted.
    """
    monkeypatch.setenv("MLFLOW_TRACKING_URI", running.uri)
    running.kill()
    run = pretraining(20)
    sources = [run, evaluation(run, 21)]
    with UploadClient("late", home, interval=0.2) as shipper:
        for source in sources:
            write_journal(home, source, steps=100)
            shipper.follow(source)
        wait_until(lambda: "nobody answers" in capfd.readouterr().err, 120, "the complaint")
        assert pending(sources, "late", home) == 2
        running.start()
        wait_until(lambda: pending(sources, "late", home) == 0, 120, "shipping")
        assert shipper.close()
    assert_shipped(database, "late", home, sources)
    assert "answers again" in capfd.readouterr().err


def test_shipping_twice_over_http_adds_nothing(server: MlflowServer, database: str, home: Home) -> None:
    run = pretraining(1)
    sources = [run, evaluation(run, 2)]
    for source in sources:
        write_journal(home, source, steps=260)
    write_record(home, run)
    assert ship(sources, "twice", home) == Shipped(tasks=2, metrics=2080)
    assert ship(sources, "twice", home, again=True) == Shipped(tasks=2, metrics=2080)
    assert pending(sources, "twice", home) == 0
    assert_shipped(database, "twice", home, sources)
    parent, child = (run_ids(database, source)[0] for source in sources)
    assert tags(database, child)["mlflow.parentRunId"] == parent
    assert run_row(database, parent)[1] == "FINISHED"


def test_what_the_server_has_lost_is_shipped_again(
    server: MlflowServer, database: str, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs of one mark are counted where there are many, and asked for where there are few."""
    tasks = scored_run(home, 40)
    ship(tasks, "lost", home)
    for how, few in zip(LOSSES, (lost_runs.FEW, 1, lost_runs.FEW, 1), strict=True):
        monkeypatch.setattr(lost_runs, "FEW", few)
        assert_healed(database, "lost", home, how, tasks)


def test_two_homes_share_a_server(server: MlflowServer, database: str, tmp_path: Path) -> None:
    run = pretraining(3)
    for name in ("ann", "bob", "ann"):
        home = Home(tmp_path / name)
        write_journal(home, run, steps=2)
        ship([run], "shared", home)
    assert len(run_ids(database, run)) == 2, "another home's run is not ours to touch"


@pytest.mark.parametrize("address", ["http://127.0.0.1:{port}", "http://ann:s3cret@127.0.0.1:{port}"])
def test_nobody_answers(address: str, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address.format(port=free_port()))
    run = pretraining(1)
    write_journal(home, run, steps=1)
    began = time.monotonic()
    with pytest.raises(StoreError, match=r"nobody answers \(connection refused\)") as caught:
        store.prepare(home, "study")
    assert "s3cret" not in str(caught.value)
    shipped = ship([run], "study", home)
    assert (shipped.pending, len(shipped.errors)) == (1, 1)
    assert time.monotonic() - began < 10


def test_somebody_listens_and_never_answers(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "PROBE_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{listener.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(StoreError, match="does not answer in time"):
            store.prepare(home, "study")
        assert time.monotonic() - began < 10


def test_an_unknown_host(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://no-such-host.invalid:5000")
    with pytest.raises(StoreError, match=r"unknown host|nobody answers"):
        store.prepare(home, "study")


def test_a_server_that_is_no_mlflow(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    with HTTPServer(("127.0.0.1", 0), Nothing) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{other.server_port}")
        with pytest.raises(StoreError, match="is not there"):
            store.prepare(home, "study")
        other.shutdown()


class Nothing(BaseHTTPRequestHandler):
    """Answers that there is nothing here."""

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *arguments: object) -> None:
        """Stays quiet."""


class SlowRelay(BaseHTTPRequestHandler):
    """Hands requests on to a server; the first wish for a run only when it is let go, its sender having given up."""

    server_uri = ""
    let_go = threading.Event()
    held: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.endswith("/runs/create") and not self.held:
            self.held.append("asked")
            self.let_go.wait(60)
            self._hand_on(body)
            self.held.append("done")
            return
        self._hand_on(body)

    def do_GET(self) -> None:
        self._hand_on(None)

    def _hand_on(self, body: bytes | None) -> None:
        request = urllib.request.Request(self.server_uri + self.path, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                code, content = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            code, content = error.code, error.read()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.send_response(code)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_a_run_that_a_slow_server_makes_after_all_is_deleted(
    server: MlflowServer, database: str, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was asked for a second time meanwhile, and that one is in use."""
    monkeypatch.setattr(SlowRelay, "server_uri", server.uri)
    monkeypatch.setattr(uploader, "PENDING_CREATE_SECONDS", 600.0)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    run = pretraining(90)
    write_journal(home, run, steps=5)
    with ThreadingHTTPServer(("127.0.0.1", 0), SlowRelay) as relay:
        threading.Thread(target=relay.serve_forever, daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{relay.server_port}")
        first = ship([run], "slow", home)
        assert first.pending == 1 and "does not answer in time" in first.errors[0]
        second = ship([run], "slow", home)
        assert not second.errors and SlowRelay.held == ["asked"]
        kept = run_ids(database, run)
        assert len(kept) == 1 and pending([run], "slow", home) == 1, "another may come"
        SlowRelay.let_go.set()
        wait_until(lambda: SlowRelay.held == ["asked", "done"], 20, "the first wish to come true")
        assert len(run_ids(database, run)) == 2
        monkeypatch.setattr(uploader, "PENDING_CREATE_SECONDS", 0.0)
        wait_until(lambda: ship([run], "slow", home).errors == () and not pending([run], "slow", home), 30, "an end")
        relay.shutdown()
    assert run_ids(database, run) == kept
    assert_shipped(database, "slow", home, [run])


def test_a_server_killed_half_way_and_restarted(server: MlflowServer, database: str, home: Home) -> None:
    sources = [pretraining(i) for i in range(10, 16)]
    for source in sources:
        write_journal(home, source, steps=500)
    store.prepare(home, "killed")
    outbox = PROCESSES.SimpleQueue()
    process = shipping_process(home, "killed", sources, outbox)
    process.start()
    wait_until(lambda: sum(store_rows(database, "killed").values()) > 2000, 120, "2000 rows in the store")
    server.kill()
    half = outbox.get()
    process.join()
    assert 0 < half.pending <= 6
    assert len(half.errors) == 1, "one complaint about the store, not one for each task"
    server.start()
    assert ship(sources, "killed", home).pending == 0
    assert_shipped(database, "killed", home, sources)


def test_training_is_not_slowed_by_a_server_that_hangs(server: MlflowServer, database: str, home: Home) -> None:
    run = pretraining(30)
    journal = Journal(run.paths(home).journal)
    journal.event("started")
    store.prepare(home, "hanging")
    shipper = UploadClient("hanging", home, interval=0.1)
    shipper.follow(run)
    server.pause()
    try:
        slowest = 0.0
        for step in range(2000):
            began = time.perf_counter()
            journal.metrics(step, {"train/loss": step / 3})
            shipper.follow(run)
            slowest = max(slowest, time.perf_counter() - began)
        began = time.monotonic()
        assert not shipper.close(timeout=1.0), "nothing can have been shipped"
        assert time.monotonic() - began < 1.0 + 2.0 + 2.0
    finally:
        server.resume()
    # A request that waited would take seconds; a busy machine's scheduler alone takes tenths.
    assert slowest < 1.0
    assert pending([run], "hanging", home) == 1
    assert ship([run], "hanging", home).metrics == 2000
    assert_shipped(database, "hanging", home, [run])


def test_a_worker_that_is_killed_takes_its_shipper_along(server: MlflowServer, home: Home) -> None:
    run = pretraining(40)
    write_journal(home, run, steps=1)
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom ablative.study.home.paths import Home\n"
        "from ablative.sweeps.tracking.upload_client import UploadClient\n"
        "from ablative.sweeps.tracking.contents.tags import TaskRef\n"
        "shipper = UploadClient('orphan', Home(Path(sys.argv[1])))\n"
        f"shipper.follow(TaskRef.from_json({run.to_json()!r}))\n"
        "print(shipper._process.pid, flush=True)\ntime.sleep(60)\n"
    )
    worker = subprocess.Popen([sys.executable, "-c", program, str(home.root)], stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    shipper = int(worker.stdout.readline())
    os.kill(shipper, signal.SIGTERM)
    os.kill(shipper, 0)
    worker.kill()
    worker.wait()
    worker.stdout.close()
    wait_until(lambda: not _running(shipper), 10, "the shipper's death")


def _running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
