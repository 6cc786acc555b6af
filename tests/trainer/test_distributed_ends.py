"""The processes of a run end together, however one of them ends, and the next attempt goes on."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from forked import Forked
from tiny_run import job, make_config, make_home, write_run

from ablative.study.core.errors import EXIT_OUT_OF_MEMORY, ConfigError, DataError, Interrupted
from ablative.study.home.attempt_times import MET, WAITING
from ablative.study.home.journal import read
from ablative.study.home.paths import Home, RunPaths
from ablative.sweeps.queue import failures
from ablative.trainer.clip.spec.config import RuntimeConfig
from ablative.trainer.clip.tasks import execute
from ablative.trainer.torch import process_group as peers
from ablative.trainer.torch.distributed import PeerLostError, World
from ablative.trainer.torch.process_group import VARIABLES, scheduled, team

RUN = "aaaaaaaaaaaa"
SECONDS = 200.0


def start(home: Home, processes: int, steps: int = 100_000) -> RunPaths:
    """A run that lasts until somebody ends it."""
    return write_run(home, make_config("clip", schedule__steps=steps, runtime__processes=processes))


def train_until_told(home: Home) -> str:
    """As a worker's task: stop signals are noted, and asked for after every step."""
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: stopping.append(number))
    try:
        execute(job(home.run(RUN), home, lambda: bool(stopping)))
    except Interrupted as error:
        return str(error)
    return "completed"


def train_to_failure(home: Home, failing: int, error: Exception) -> str:
    """A run in which process `failing` (0 or 1) raises `error` after its third step; what the task raises."""
    first, asked = os.getpid(), iter(range(1, 1000))

    def stop() -> bool:
        if next(asked) == 3 and (os.getpid() == first) == (failing == 0):
            raise error
        return False

    try:
        execute(job(home.run(RUN), home, stop))
    except Exception as raised:
        return f"{type(raised).__name__}: {raised}"
    return "completed"


def await_true(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def reported(paths: RunPaths) -> bool:
    """Whether the run has taken a step."""
    return any(entry["kind"] == "metrics" for entry in read(paths.journal)[0])


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def gone(pid: int) -> bool:
    """Ended; waiting for its parent to be told counts."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def names(paths: RunPaths) -> list[str]:
    """Events, without those of the processes' meeting, which every run on several has."""
    events = [entry["name"] for entry in read(paths.journal)[0] if entry["kind"] == "event"]
    assert events[1:3] == [WAITING, MET]
    return [event for event in events if event not in (WAITING, MET)]


def test_a_stop_signal_to_the_first_process_saves_once_and_ends_all(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    paths = start(home, 3)
    running = Forked(train_until_told, home)
    await_true(lambda: reported(paths), "no step was taken")
    peers = children(running.pid)
    assert len(peers) == 2
    os.kill(running.pid, signal.SIGTERM)
    assert running.answer().startswith("stopped after step")
    assert paths.checkpoint.exists() and all(gone(pid) for pid in peers)
    assert names(paths) == ["started", "interrupted"]


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_takes_the_others_with_it(victim: int, tmp_path: Path) -> None:
    """Whoever waits for the first process sees the signal that killed another."""
    home = make_home(tmp_path)
    paths = start(home, 3)
    running = Forked(train_until_told, home)
    await_true(lambda: reported(paths), "no step was taken")
    family = [running.pid, *children(running.pid)]
    assert len(family) == 3
    os.kill(family[victim], signal.SIGKILL)
    assert running.exitcode() == -signal.SIGKILL
    await_true(lambda: all(gone(pid) for pid in family), "a process was left behind")
    assert names(paths) == ["started"]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (DataError("torn shard"), "DataError: torn shard"),
        (OSError(28, "No space left on device"), "OSError: [Errno 28] No space left on device"),
        (KeyError("absent"), "RuntimeError: process 1: KeyError: 'absent'"),
    ],
)
def test_what_another_process_raises_is_raised_in_the_first(error: Exception, expected: str, tmp_path: Path) -> None:
    home = make_home(tmp_path)
    paths = start(home, 2)
    assert Forked(train_to_failure, home, 1, error).answer() == expected
    assert names(paths) == ["started", "failed"]


def wait_in_the_driver(home: Home) -> str:
    """The first process hears nothing, as when its stream waits for a peer's; the other runs out of memory."""
    peers.STUCK = 0.5

    def follow(world: World) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with team(RuntimeConfig(device="cpu", processes=2), follow):
        time.sleep(SECONDS)
    return "completed"


def test_out_of_memory_elsewhere_is_told_by_a_process_that_cannot_speak(tmp_path: Path) -> None:
    code = Forked(wait_in_the_driver, make_home(tmp_path)).exitcode()
    assert code == EXIT_OUT_OF_MEMORY
    assert failures.from_exit(code << 8, out_of_memory=False).cause == "out of memory"


def test_what_the_first_process_raises_ends_the_others(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    start(home, 2)
    assert Forked(train_to_failure, home, 0, KeyError("absent")).answer() == "KeyError: 'absent'"


# ---- processes that a scheduler started


def scheduled_rank(rank: int, port: int, home: Home, steps: int) -> str:
    """One of two processes as `srun` starts them; the second leaves after `steps` steps without a word."""
    values = (rank, 2, rank, "127.0.0.1", port)
    os.environ.update({name: str(value) for name, value in zip(VARIABLES, values, strict=True)})
    asked = iter(range(1, 1000))

    def stop() -> bool:
        if rank == 1 and next(asked) == steps:
            os._exit(1)
        return False

    try:
        execute(job(home.run(RUN), home, stop))
    except PeerLostError as error:
        return str(error)
    return "completed"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_processes_of_a_scheduler(tmp_path: Path) -> None:
    home, port = make_home(tmp_path), free_port()
    paths = start(home, 1, steps=8)
    ranks = [Forked(scheduled_rank, rank, port, home, 0) for rank in (1, 0)]
    assert [rank.answer() for rank in ranks] == ["completed", "completed"]
    assert paths.record.exists() and paths.model.exists() and names(paths) == ["started", "completed"]


def test_a_process_of_a_scheduler_is_missed(tmp_path: Path) -> None:
    home, port = make_home(tmp_path), free_port()
    paths = start(home, 1)
    first, second = (Forked(scheduled_rank, rank, port, home, 3) for rank in (0, 1))
    assert second.exitcode() == 1
    assert "another process of the run is gone" in first.answer()
    assert names(paths) == ["started", "failed"]
    assert failures.from_exception(PeerLostError("gone"), Interrupted).cause in failures.RESUMABLE


def test_half_described_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert scheduled() is None
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert scheduled() is None
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ConfigError, match="WORLD_SIZE is 2, and LOCAL_RANK, MASTER_ADDR, MASTER_PORT not set"):
        scheduled()


def test_more_processes_than_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("ablative.trainer.torch.process_group.PATIENCE", 0.1)
    message = r"runtime\.processes: 2, but the task sees 1 GPUs"
    with pytest.raises(ConfigError, match=message), team(RuntimeConfig(processes=2), lambda _: None):
        raise AssertionError("met")
