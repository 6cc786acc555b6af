"""Small durable file operations: what is written is either the old content or the whole new one."""

from __future__ import annotations

import errno
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Disk, quota or largest file full."""


@contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path` in one step when the block ends well.

    Temporary file in the same folder, fsync, rename; `durable=False` skips the fsync, for what can be made again from
    what is durable. Any exception (disk full, interrupt) leaves the old file as it
    was and removes the temporary one; only a kill leaves it behind, as `.<name>.<random>`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not tempfile: its files are for their owner alone, and a home may be shared.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        # Such a write does not say itself which file it was for.
        if isinstance(error, OSError) and error.errno in NO_ROOM and error.filename is None:
            error.filename = str(path)
        raise


def write_atomic(path: Path, content: str | bytes, durable: bool = True) -> None:
    """Replace `path` with `content` in one step; raises OSError and then leaves the old file as it was."""
    with replacing(path, durable) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, value: Any) -> None:
    """`write_atomic` of indented JSON; refuses NaN, which JSON has no word for."""
    write_atomic(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any | None:
    """Content of a JSON file, or None where there is no such file."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
