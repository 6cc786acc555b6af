"""Mutual exclusion between processes, on one host and on the hosts that share a file system."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import lock_descriptor

from ablative.sweeps.queue import leases

UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
"""What `flock` answers where the file system has no locks (some Lustre and NFS mounts)."""
STALE_SECONDS = 600.0
"""Age at which another host's lock file counts as left behind (only without `flock`)."""
POLL_SECONDS = 0.02


class Busy(Exception):
    """Another process held the lock for the whole time that the caller was willing to wait."""


@contextlib.contextmanager
def exclusive(path: Path, wait: float) -> Iterator[None]:
    """Hold the lock file `path`, waiting up to `wait` seconds for it.

    The lock is `flock` where the file system has it: the kernel releases it when its owner dies, on whichever host.
    Elsewhere it is a lease (`sweeps.queue.leases`), taken over from an owner that is dead, or on another host and
    older than `STALE_SECONDS`. The file is removed on release.

    Raises:
        Busy: another process held the lock until the end.
        OSError: the file cannot be created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _flock(path, wait) if _has_flock(path.parent) else _lease(path, wait):
        yield


@contextlib.contextmanager
def _flock(path: Path, wait: float) -> Iterator[None]:
    deadline = time.monotonic() + wait
    while (handle := _locked(path)) is None:
        if time.monotonic() >= deadline:
            raise Busy(path)
        time.sleep(POLL_SECONDS)
    try:
        yield
    finally:
        # Removed while held: a process that waits for the removed file sees that the name is gone, and starts anew.
        path.unlink(missing_ok=True)
        os.close(handle)


def _locked(path: Path) -> int | None:
    """An open descriptor of the file `path` that holds its lock; None where another process holds it.

    Raises OSError when the file cannot be created.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    # An error is no lock yet: a file server that is away (EIO, ESTALE) may come back before the deadline.
    with contextlib.suppress(OSError):
        # NFS renames a removed file that is open, so its count of links does not show that its name is gone.
        if lock_descriptor(handle, blocking=False) and os.path.samestat(os.fstat(handle), path.stat()):
            return handle
    os.close(handle)
    return None


@contextlib.contextmanager
def _lease(path: Path, wait: float) -> Iterator[None]:
    deadline = time.monotonic() + wait
    while (lease := leases.acquire(path, "", STALE_SECONDS)) is None:
        if time.monotonic() >= deadline:
            raise Busy(path)
        time.sleep(POLL_SECONDS)
    try:
        yield
    finally:
        lease.release()


@functools.cache
def _has_flock(folder: Path) -> bool:
    """Whether the folder's file system has `flock`; tried on a nameless file, which no process takes for a lock."""
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in UNSUPPORTED:
                return False
            raise
    return True
