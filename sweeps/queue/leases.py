"""Exclusive leases on files: two workers never hold the same one, whatever dies and whenever.

A lease is a small JSON file that exists while its owner works. It is made exclusively (one winner, on NFS
too); its modification time is the owner's heartbeat. A dead owner's lease is replaced, never
removed and made again: two takers that both saw it dead would otherwise remove each other's new leases.
Only the holder of the *right to replace* that one dead lease (itself a lease, named after the dead lease's
token) may do so, and it looks again before it does.
"""

from __future__ import annotations

import errno
import functools
import json
import os
import secrets
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from ablative.study.core.damage import DamagedError, set_aside, shape_of
from ablative.study.core.files import load_json, naming

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


@dataclass(frozen=True)
class Owner:
    """A process, named so that no other process in space or time can be taken for it."""

    host: str
    scope: str
    """Boot and process namespace: process ids mean something only inside it."""
    pid: int
    start: int
    """Start of the process in clock ticks since boot: a recycled pid has another."""
    job: str
    """The scheduler's job, for people."""
    token: str
    """Random; one per lease."""
    node: str = ""
    """The scheduler's name of the machine."""


@dataclass(frozen=True)
class LeaseState:
    """Who holds a lease file right now. `owner` is None while (or because) it was not written whole."""

    owner: Owner | None
    key: str
    alive: bool
    age: float
    """Seconds since the last heartbeat."""


@dataclass(frozen=True)
class Lease:
    """A lease that this process has won."""

    path: Path
    owner: Owner

    def heartbeat(self) -> bool:
        """Renew the lease; False when it is no longer ours and the work must stop."""
        if not self.held():
            return False
        os.utime(self.path)
        return True

    def held(self) -> bool:
        found = _read(self.path)
        return found is not None and found.token == self.owner.token

    def release(self) -> None:
        """Give the lease back (a lease that somebody else took over is left alone)."""
        if self.held():
            self.path.unlink(missing_ok=True)


def identify(job: str = "") -> Owner:
    """This process as an owner, with a fresh token."""
    pid = os.getpid()
    node = os.environ.get("SLURMD_NODENAME", "")
    return Owner(socket.gethostname(), _scope(), pid, start_time(pid) or 0, job, secrets.token_hex(8), node)


def acquire(path: Path, job: str, stale_seconds: float) -> Lease | None:
    """Take the lease file `path`, or None when a living process holds it (or was quicker).

    Args:
        path: the lease file; its directory exists.
        job: the scheduler's name of the job, for people.
        stale_seconds: a lease of another host without a heartbeat for this long is dead.

    Raises:
        OSError: the disk is full or read-only.
    """
    owner = identify(job)
    if _create(path, owner) or _replace(path, owner, stale_seconds):
        return Lease(path, owner)
    return None


def inspect(path: Path, stale_seconds: float) -> LeaseState | None:
    """Who holds the lease file, or None where the file does not exist."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    owner = _read(path)
    age = max(0.0, time.time() - status.st_mtime)
    key = owner.token if owner else str(status.st_ino)
    return LeaseState(owner, key, _alive(owner, age, stale_seconds), age)


def process_alive(pid: int, start: int) -> bool:
    """Whether the process of this machine that had `pid` and started at `start` still runs."""
    found = start_time(pid)
    if found is not None:
        return found == start
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # Another user's process, and /proc hides those (hidepid).
        return True
    # It is there, but a zombie.
    return False


def start_time(pid: int) -> int | None:
    """Start of a process in clock ticks since boot, or None when it is gone, a zombie, or hidden."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    # The command's name is in parentheses and may hold anything, parentheses and spaces too.
    fields = text[text.rindex(")") + 2 :].split()
    return None if fields[0] in "ZXx" else int(fields[19])


def same_machine(owner: Owner) -> bool:
    """Whether the owner's process id can be looked up from here."""
    return (owner.host, owner.scope) == (socket.gethostname(), _scope())


def _alive(owner: Owner | None, age: float, stale_seconds: float) -> bool:
    if owner is not None and same_machine(owner):
        return process_alive(owner.pid, owner.start)
    return age < stale_seconds


@functools.cache
def _scope() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}:{os.stat('/proc/self/ns/pid').st_ino}"


def _read(path: Path) -> Owner | None:
    try:
        content = load_json(path, shape_of(Owner))
        return Owner(**content)
    except (FileNotFoundError, DamagedError, TypeError):
        return None


def _create(path: Path, owner: Owner) -> bool:
    """Make the lease file, whole at once; False when it exists.

    A hard link is as exclusive as ``O_EXCL``, and its owner cannot die between making the file and filling it.
    """
    if path.exists():
        return False
    draft = _draft(path, owner)
    try:
        os.link(draft, path)
        return True
    except FileExistsError:
        # Over NFS the answer to a link that succeeded may be lost, and the repeated request fails.
        return draft.stat().st_nlink == 2
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _create_exclusively(path, owner)
    finally:
        draft.unlink(missing_ok=True)


def _draft(path: Path, owner: Owner) -> Path:
    draft = path.with_name(f".{path.name}.{owner.token}")
    with naming(path):
        draft.write_text(json.dumps(asdict(owner)))
    return draft


def _create_exclusively(path: Path, owner: Owner) -> bool:
    """`_create` on file systems without hard links; a lease that stays empty is judged by its age."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return False
    try:
        with naming(path):
            os.write(handle, json.dumps(asdict(owner)).encode())
    except OSError:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(handle)
    return True


def _replace(path: Path, owner: Owner, stale_seconds: float) -> bool:
    """Put `owner` in the place of a dead holder; False when the holder lives or another taker was quicker."""
    holder = inspect(path, stale_seconds)
    if holder is None or holder.alive:
        return False
    right = path.with_name(f"{path.name}.{holder.key}")
    # A taker may have died with the right in its hand: then the right itself is a dead lease.
    if not (_create(right, owner) or _replace(right, owner, stale_seconds)):
        return False
    try:
        now = inspect(path, stale_seconds)
        if now is None or now.key != holder.key or now.alive:
            return False
        if path.is_dir():
            set_aside(path, "a folder")
        os.replace(_draft(path, owner), path)
        return True
    finally:
        right.unlink(missing_ok=True)
