"""Mutual exclusion between processes, on one host and on the hosts that share a file system."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
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
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        if error.errno in UNSUPPORTED:
            return _create(path)
        return None
    if _is(handle, path):
        return handle
    os.close(handle)
    return None


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
        if not _bury(path, draft.with_suffix(".stale")):
            return None
        os.link(draft, path)
        return os.open(path, os.O_RDONLY)
    except FileExistsError:
        return None
    finally:
        draft.unlink(missing_ok=True)


def _bury(path: Path, grave: Path) -> bool:
    """Take an abandoned lock file away; False where it has an owner."""
    judged = _abandoned(path)
    if judged is None:
        return False
    try:
        os.rename(path, grave)
    except FileNotFoundError:
        return True
    if ours := grave.read_text() == judged:
        grave.unlink()
    else:
        # Somebody was quicker and this is their new lock: give it back.
        os.rename(grave, path)
    return ours


def _abandoned(path: Path) -> str | None:
    """Content of a lock file that was left behind (empty, its process dead on this host, or old), else None."""
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
