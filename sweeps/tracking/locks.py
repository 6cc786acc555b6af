"""Mutual exclusion between processes, on one host and on the hosts that share a file system."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import hashlib
import os
import socket
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
"""What `flock` answers where the file system has no locks (some Lustre and NFS mounts)."""
STALE_SECONDS = 600.0
"""Age at which a lock file without a living owner counts as left behind (only without `flock`)."""
POLL_SECONDS = 0.02


class Busy(Exception):
    """Another process held the lock for all of the time that we were willing to wait."""


@contextlib.contextmanager
def exclusive(path: Path, wait: float) -> Iterator[None]:
    """Hold the lock file `path`, waiting up to `wait` seconds for it; raises `Busy`.

    `flock` where there is one: the system releases it with its owner, however that dies. Elsewhere exclusive
    creation, with the owner's name inside and stale locks broken. The file is removed on release.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + wait
    while (handle := _try(path)) is None:
        if time.monotonic() >= deadline:
            raise Busy(path)
        time.sleep(POLL_SECONDS)
    try:
        yield
    finally:
        # Removed while still held: whoever opened the old file sees, once it gets the lock, that the name is gone.
        path.unlink(missing_ok=True)
        os.close(handle)


def _try(path: Path) -> int | None:
    """An open handle that holds the lock, or None."""
    if not _has_flock(path.parent):
        return _create(path)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    if _is(handle, path):
        return handle
    os.close(handle)
    return None


@functools.cache
def _has_flock(folder: Path) -> bool:
    """Whether the folder's file system has `flock`; tried on a file of our own, which nobody takes for a lock."""
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in UNSUPPORTED:
                return False
            raise
    return True


def _is(handle: int, path: Path) -> bool:
    """Whether the handle is what the name still stands for."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _create(path: Path) -> int | None:
    """Exclusive creation: a hard link to a finished file, so that no other process ever reads half a name."""
    owner = f"{socket.gethostname()} {os.getpid()} {uuid.uuid4().hex}"
    draft = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    draft.write_text(owner)
    try:
        _bury(path)
        os.link(draft, path)
        return os.open(path, os.O_RDONLY)
    except FileExistsError:
        return None
    finally:
        draft.unlink(missing_ok=True)


def _bury(path: Path) -> None:
    """Take an abandoned lock file away.

    Only the holder of a right named after its content may: two that both saw a dead owner, and simply removed
    the file, could remove each other's new lock. The content holds a unique word, so a right is used once.
    """
    judged = _abandoned(path)
    if not judged:
        return
    right = path.with_name(f"{path.name}.{hashlib.sha256(judged.encode()).hexdigest()[:16]}")
    try:
        os.close(os.open(right, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        if time.time() - _modified(right) > STALE_SECONDS:
            right.unlink(missing_ok=True)
        return
    try:
        if path.exists() and path.read_text() == judged:
            path.unlink()
    finally:
        right.unlink(missing_ok=True)


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return time.time()


def _abandoned(path: Path) -> str | None:
    """Content of a lock file that was left behind (its process dead on this host, or old), else None."""
    try:
        content = path.read_text()
        age = time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return ""
    words = content.split()
    if len(words) != 3 or age > STALE_SECONDS:
        return content
    host, process, _ = words
    return content if host == socket.gethostname() and not _alive(int(process)) else None


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
