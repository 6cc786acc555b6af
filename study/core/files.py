"""Small durable file operations: what is written is either the old content or the whole new one."""

from __future__ import annotations

import errno
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from ablative.study.core.damage import DAMAGE, DamagedError, Shape, misfit, note, set_aside

Content = dict[str, Any]
"""A JSON object."""

READ_BY_PEOPLE = 20_000
"""Letters of JSON that are worth being indented, which takes Python ten times as long as to write them."""

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
        with naming(path), temporary.open("xb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        try:
            os.replace(temporary, path)
        except IsADirectoryError:
            set_aside(path, "a folder")
            os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def placing(folder: Path) -> Iterator[Path]:
    """A hidden folder to fill, which gets the name `folder` when the block ends well: one that is seen is complete.

    Where another process was quicker, its folder stays. Any exception removes what was filled.
    """
    draft = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    try:
        draft.mkdir(parents=True)
        yield draft
        try:
            draft.rename(folder)
        except OSError:
            if not folder.exists():
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Have an error of the disk in the block name the file that is written: a write does not know its name."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM and error.filename is None:
            error.filename = str(path)
        raise


def write_atomic(path: Path, content: str | bytes, durable: bool = True) -> None:
    """Replace `path` with `content` in one step; raises OSError and then leaves the old file as it was."""
    with replacing(path, durable) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, value: Any) -> None:
    """`write_atomic` of JSON, indented unless it is long; refuses NaN, which JSON has no word for."""
    text = json.dumps(value, allow_nan=False)
    if len(text) < READ_BY_PEOPLE:
        text = json.dumps(value, indent=1, allow_nan=False)
    write_atomic(path, text + "\n")


def read_text(path: Path) -> str:
    """Content of a text file; raises FileNotFoundError, and DamagedError where it is there and cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise DamagedError(path, "not text") from None
    except OSError as error:
        if error.errno in DAMAGE:
            raise DamagedError(path, str(error.strerror)) from None
        raise


def load_json(path: Path, shape: Shape = object) -> Any:
    """Content of a JSON file.

    Raises:
        FileNotFoundError: there is none.
        DamagedError: it is not JSON, does not have the shape, or cannot be read.
    """
    text = read_text(path)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise DamagedError(path, "not JSON" if text.strip() else "empty") from None
    if wrong := misfit(value, shape):
        raise DamagedError(path, wrong)
    return value


def read_json(path: Path, shape: Shape = object) -> Any | None:
    """Content of a JSON file of the shape (`study.core.damage`), or None where there is no such file.

    A damaged file is named on standard error, and is as good as none.
    """
    try:
        return load_json(path, shape)
    except FileNotFoundError:
        return None
    except DamagedError as error:
        note(error.path, error.reason)
        return None


def is_damaged(path: Path, shape: Shape = object) -> bool:
    """Whether there is a file, or something in its place, that `read_json` takes as absent."""
    return os.path.lexists(path) and read_json(path, shape) is None


def user_cache(name: str) -> Path | None:
    """`$XDG_CACHE_HOME/ablate/<name>`, by default below `~/.cache`; None for a user without a home folder."""
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    with suppress(RuntimeError):
        # The standard has a relative one ignored.
        return (named if named.is_absolute() else Path.home() / ".cache") / "ablate" / name
    return None
