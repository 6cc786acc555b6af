"""Every line of `ablate doctor` can say that something is broken, and then what to do."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import http.server
import os
import shutil
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from authority import Authority

from ablative.study.costs import devices
from ablative.study.home.paths import Home
from ablative.sweeps import doctor
from ablative.sweeps.doctor import Check
from ablative.sweeps.queue import leases
from ablative.sweeps.slurm import advice, cluster
from ablative.sweeps.slurm.cluster import Cluster, Node, Partition
from ablative.sweeps.slurm.squeue import SchedulerSilent
from ablative.sweeps.submission import local

HERE = os.uname().nodename


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    found = Home(tmp_path / "home")
    found.root.mkdir()
    return found


def broken(check: Check | None, *words: str) -> bool:
    assert check is not None
    return check.broken and all(word in check.text for word in words)


def test_packages_and_device(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not doctor._packages(home).broken
    monkeypatch.setattr(doctor, "PACKAGES", ("mlflow", "no_such_package"))
    assert broken(doctor._packages(home), "not installed: no_such_package", "pip install")
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(local, "gpus", lambda: ("0",))
    assert broken(doctor._device(home), "sees no GPU although there are some", "install the torch build")


def test_the_driver_is_told_from_its_own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "DRIVER", tmp_path)
    assert (devices.driver_version(), devices.driven()) == ("", "")
    words = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 2024\nGCC version: 12.2.0"
    (tmp_path / "version").write_text(words)
    (tmp_path / "gpus" / "0000:01:00.0").mkdir(parents=True)
    (tmp_path / "gpus" / "0000:01:00.0" / "information").write_text("Model: \t\t NVIDIA H200\nIRQ:   \t\t 512\n")
    assert (devices.driver_version(), devices.driven()) == ("550.54.15", "NVIDIA H200")
    (tmp_path / "version").write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.10  Release Build"
    )
    assert devices.driver_version() == "570.86.10"


def test_home_and_leases(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.version.write_text("99\n")
    lines = {check.name: check for check in doctor.examine(home) if check.name in ("home", "leases")}
    assert broken(lines["home"], "layout version '99'", "use the newer ablate") and not lines["leases"].broken
    monkeypatch.setattr(leases, "acquire", lambda *_: object())
    assert broken(doctor._leases(home), "without exclusion", "put the home on another file system")


def test_locks(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not doctor._locks(home).broken
    monkeypatch.setattr(fcntl, "lockf", lambda *_: None)
    assert broken(doctor._locks(home), "two processes can hold the same lock", "MLFLOW_TRACKING_URI")

    def refuse(*_: Any) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    assert broken(doctor._locks(home), "No locks available", "mounted with locks")
    assert list(home.root.iterdir()) == [], "nothing is left behind"


@contextlib.contextmanager
def server(ahead: float, authority: Authority | None = None) -> Iterator[str]:
    """A web server whose clock is `ahead` seconds ahead, and which refuses everything; over TLS with an authority."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_error(403)

        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string(time.time() + ahead)

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        if authority is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(authority.certificate("server"))
            listening.socket = context.wrap_socket(listening.socket, server_side=True)
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield f"{'http' if authority is None else 'https'}://ann:secret@127.0.0.1:{listening.server_address[1]}"
        finally:
            listening.shutdown()
            thread.join()


def test_clock(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not doctor._clock(home).broken
    with server(ahead=7200) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert broken(doctor._clock(home), "the tracking server is +7", "s off", "NTP")
    assert not doctor._clock(home).broken, "a server that is away has no clock"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    now = time.time()
    monkeypatch.setattr(doctor, "time", SimpleNamespace(time=lambda: now + 3600))
    assert broken(doctor._clock(home), "file system is -3", "judged by their age")


def test_the_clock_of_a_server_with_a_private_authority(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(authority.bundle))
    with server(ahead=7200, authority=authority) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert broken(doctor._clock(home), "the tracking server is +7")


def test_store(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    from ablative.study.core.errors import StoreError
    from ablative.sweeps.tracking import store

    assert not doctor._store(home).broken
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking.invalid:5000")
    written: list[tuple[str, str]] = []

    class Client:
        def search_experiments(self) -> list[Any]:
            return [SimpleNamespace(experiment_id="0")]

        def set_experiment_tag(self, experiment: str, key: str, value: str) -> None:
            if written:
                raise StoreError("403: this token may only read")
            written.append((experiment, key))

    monkeypatch.setattr(store, "client", lambda uri: Client())
    assert not doctor._store(home).broken and written == [("0", "ablate.doctor")]
    [line] = [check for check in doctor.examine(home) if check.name == "store"]
    assert broken(line, "may only read")


def test_disk_machine_and_data(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_files=10**6, f_favail=12))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=5 * doctor.GIB))
    assert broken(doctor._disk(home), "room for only 12 more files", "higher quota")
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_files=0, f_favail=0))
    assert not doctor._disk(home).broken
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=doctor.GIB))
    assert broken(doctor._disk(home), "1.0 GiB free", "point $ABLATE_HOME elsewhere")
    assert not doctor._machine(home).broken
    monkeypatch.setattr(local, "cores", lambda: 10_000)
    assert broken(doctor._machine(home), "limit them with --jobs")
    monkeypatch.setenv("ABLATE_DATA", str(tmp_path / "nowhere"))
    assert broken(doctor._data(home), "is no folder; set it")


NODES = (Node("n1", 4, 8.0, {"a100": 2}, frozenset(), HERE), Node("n2", 4, 8.0, {}, frozenset(), "elsewhere"))
PARTITION = Partition("gpu", True, True, 120.0, {}, {}, "OFF", 0, NODES)


def test_slurm_and_its_limits(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_answer() -> Cluster:
        raise SchedulerSilent("scontrol: Unable to contact slurm controller")

    monkeypatch.setattr(cluster, "installed", lambda: False)
    assert not doctor._slurm(home).broken and doctor._limits(home) is doctor._shared(home) is None
    monkeypatch.setenv("SLURM_CONF", "somewhere")
    monkeypatch.setattr(cluster, "installed", lambda: True)
    monkeypatch.setattr(cluster, "inspect", no_answer)
    assert broken(doctor._slurm(home), "Unable to contact", "ask the administrators")
    assert doctor._limits(home) is doctor._shared(home) is None
    settings = {"ClusterName": "c1", "MaxArraySize": "501", "MaxJobCount": "900", "JobRequeue": "0"}
    monkeypatch.setattr(cluster, "inspect", lambda: Cluster(settings, {"gpu": PARTITION}))
    assert doctor._slurm(home).text == "c1 answers; partitions: gpu* (2 nodes, 2×a100, 4 cores, 2 h)"
    limits = doctor._limits(home)
    assert limits is not None and limits.text.startswith("500 elements an array, 900 jobs in all")
    assert "JobRequeue=0" in limits.text
    down = dataclasses.replace(PARTITION, up=False)
    monkeypatch.setattr(cluster, "inspect", lambda: Cluster(settings, {"gpu": down}))
    assert broken(doctor._slurm(home), "all partitions are down", "sinfo")


@pytest.mark.parametrize(
    ("root", "kind", "nodes", "expected", "words"),
    [
        ("/tmp/home", "xfs", NODES, True, "/tmp/home is on xfs under /tmp, which is this machine's own: elsewhere"),
        ("/data/home", "tmpfs", NODES, True, "point --home or $ABLATE_HOME to the cluster's file system"),
        ("/home/ann", "ext2/ext3", NODES, False, "elsewhere see it only if it is exported"),
        ("/home/ann", "nfs", NODES, False, "several machines may share"),
        ("/tmp/home", "tmpfs", NODES[:1], False, "all nodes are on this machine"),
    ],
)
def test_whether_nodes_see_the_home(root: str, kind: str, nodes: tuple[Node, ...], expected: bool, words: str) -> None:
    found = Cluster({}, {"gpu": dataclasses.replace(PARTITION, nodes=nodes)})
    is_broken, text = advice.shared(found, Path(root), kind)
    assert is_broken == expected and words in text


def test_the_kind_of_a_file_system_is_known(home: Home) -> None:
    assert advice.file_system(home.root) not in ("", "unknown")
    assert advice.file_system(home.root / "nowhere") == "unknown"
