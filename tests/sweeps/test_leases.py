"""Claims: one owner at a time, whoever dies and whenever."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ablative.sweeps.queue import leases

STALE = 60.0


def dead_owner(**changes: object) -> leases.Owner:
    """An owner of this machine whose process is gone."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return dataclasses.replace(leases.identify("7"), pid=process.pid, **changes)


def write(path: Path, owner: leases.Owner, age: float = 0.0) -> None:
    path.write_text(json.dumps(dataclasses.asdict(owner)))
    os.utime(path, (time.time() - age,) * 2)


def test_a_held_lease_cannot_be_taken_and_a_released_one_can(tmp_path: Path) -> None:
    first = leases.acquire(tmp_path / "claim", "1", STALE)
    assert first is not None and first.held()
    assert leases.acquire(tmp_path / "claim", "2", STALE) is None
    first.release()
    second = leases.acquire(tmp_path / "claim", "2", STALE)
    assert second is not None and second.owner.job == "2"
    assert [path.name for path in tmp_path.iterdir()] == ["claim"]


def test_a_dead_process_of_this_host_loses_its_lease_at_once(tmp_path: Path) -> None:
    path = tmp_path / "claim"
    write(path, dead_owner())
    holder = leases.inspect(path, STALE)
    assert holder is not None and not holder.alive
    taken = leases.acquire(path, "2", STALE)
    assert taken is not None and taken.held()
    assert [item.name for item in tmp_path.iterdir()] == ["claim"]


def test_a_recycled_pid_is_not_taken_for_the_owner(tmp_path: Path) -> None:
    path = tmp_path / "claim"
    me = leases.identify()
    write(path, dataclasses.replace(me, start=me.start - 1))
    holder = leases.inspect(path, STALE)
    assert holder is not None and not holder.alive


def test_a_living_process_keeps_its_lease_however_old_the_heartbeat(tmp_path: Path) -> None:
    path = tmp_path / "claim"
    write(path, leases.identify(), age=1e6)
    assert leases.acquire(path, "2", STALE) is None


def test_a_zombie_counts_as_dead(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    start = leases.start_time(process.pid)
    assert start is not None and leases.process_alive(process.pid, start)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not leases.process_alive(process.pid, start)
    process.wait()
    assert not leases.process_alive(process.pid, start)


def test_without_hard_links_leases_are_as_exclusive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "no hard links here")

    monkeypatch.setattr(os, "link", link)
    lease = leases.acquire(tmp_path / "claim", "1", STALE)
    assert lease is not None and lease.held()
    assert not leases._create_exclusively(tmp_path / "claim", leases.identify())
    assert [item.name for item in tmp_path.iterdir()] == ["claim"]


@pytest.mark.parametrize("change", [{"host": "elsewhere"}, {"scope": "another boot"}])
def test_another_host_is_judged_by_its_heartbeat(tmp_path: Path, change: dict[str, str]) -> None:
    path = tmp_path / "claim"
    other = dataclasses.replace(leases.identify(), **change)
    write(path, other, age=STALE - 10)
    assert leases.acquire(path, "2", STALE) is None
    write(path, other, age=STALE + 10)
    assert leases.acquire(path, "2", STALE) is not None


def test_a_lease_that_was_not_written_whole_is_judged_by_its_age(tmp_path: Path) -> None:
    path = tmp_path / "claim"
    path.touch()
    assert leases.acquire(path, "2", STALE) is None
    os.utime(path, (time.time() - STALE - 1,) * 2)
    assert leases.acquire(path, "2", STALE) is not None


def test_an_owner_notices_that_its_lease_was_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "claim"
    lease = leases.acquire(path, "1", STALE)
    assert lease is not None and lease.heartbeat()
    other = dataclasses.replace(leases.identify(), host=socket.gethostname() + "2")
    write(path, other)
    assert not lease.heartbeat()
    lease.release()
    assert path.exists(), "the other's lease is not ours to remove"


def test_a_taker_that_died_with_the_right_to_replace_is_itself_replaced(tmp_path: Path) -> None:
    path = tmp_path / "claim"
    dead = dead_owner()
    write(path, dead)
    write(tmp_path / f"claim.{dead.token}", dead_owner(token="feed"))
    taken = leases.acquire(path, "2", STALE)
    assert taken is not None and taken.held()
    assert [item.name for item in tmp_path.iterdir()] == ["claim"]


def test_a_taker_that_saw_the_lease_before_another_took_it_leaves_it_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "claim"
    write(path, dead_owner())
    create, quicker = leases._create, []

    def slow(target: Path, owner: leases.Owner) -> bool:
        # Between our look at the dead lease and our taking the right to replace it, another does all of it.
        if target.name.startswith("claim.") and not quicker:
            monkeypatch.setattr(leases, "_create", create)
            quicker.append(leases.acquire(path, "quick", STALE))
        return create(target, owner)

    monkeypatch.setattr(leases, "_create", slow)
    assert leases.acquire(path, "slow", STALE) is None
    assert quicker[0] is not None and quicker[0].held()


RACE = """
import fcntl, os, random, sys, time
from pathlib import Path
from ablative.sweeps.queue import leases

folder, rounds, contenders = Path(sys.argv[1]), int(sys.argv[2]), 8

def note(name):
    os.write(os.open(folder / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT), b".")

def contend(start, seed):
    rng = random.Random(seed)
    while time.monotonic() < start:
        pass
    lease = leases.acquire(folder / "claim", "job", 60.0)
    if lease is not None:
        # The kernel's lock tells whether another process is in here, and dies with its owner as it should.
        guard = os.open(folder / "guard", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note("violations")
        note("wins")
        time.sleep(0.003)
        if rng.random() < 0.8:
            os.kill(os.getpid(), 9)
        os.close(guard)
        lease.release()
    os._exit(0)

rng = random.Random(0)
for _ in range(rounds):
    start, children = time.monotonic() + 0.003, []
    for index in range(contenders):
        pid = os.fork()
        if pid == 0:
            contend(start, rng.random() + index)
        children.append(pid)
    time.sleep(0.003 + rng.random() * 0.003)
    os.kill(rng.choice(children), 9)
    for pid in children:
        os.waitpid(pid, 0)
"""


def test_processes_that_die_at_any_moment_never_own_a_lease_together(tmp_path: Path) -> None:
    """In every round eight processes go for a lease that its owner mostly died with; one is killed from outside."""
    subprocess.run([sys.executable, "-c", RACE, str(tmp_path), "150"], check=True)
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert "violations" not in sizes, sizes
    assert sizes["wins"] > 50, sizes
    assert leases.acquire(tmp_path / "claim", "last", STALE) is not None, "a dead owner blocks the task"


def test_the_oracle_of_the_race_test_sees_two_owners(tmp_path: Path) -> None:
    first, second = (os.open(tmp_path / "guard", os.O_RDWR | os.O_CREAT) for _ in range(2))
    fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with pytest.raises(BlockingIOError):
        fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(first)
    os.close(second)
