"""Files that grow while they are read: what was appended since the last look, whatever else happens to the file."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

CHUNK = 1 << 20
BUDGET = 16 << 20
"""Bytes of one file that one look reads; the rest waits for the next, so that no look takes long."""
LONGEST_LINE = 1 << 20
"""Bytes; a longer line holds no record."""
_ANCHOR = 64
_DIGITS = re.compile(r"([0-9]+)")


class Tail:
    """The bytes of one file, each once; from the start again when the file was replaced, cut or written anew."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.generation = 0
        """How often the file was another one."""
        self.exists = False
        self.fault = ""
        """Why it cannot be read; empty: it can, or it is not there."""
        self._offset, self._anchor = 0, b""
        self._inode: tuple[int, int] | None = None
        self._seen: tuple[int, ...] = ()

    def chunks(self, whole: bool = False) -> Iterator[bytes]:
        """What is new; `generation` has grown where it begins another file.

        Args:
            whole: up to the end of the file; False: at most `BUDGET` bytes.
        """
        self.fault = ""
        try:
            status = os.stat(self.path)
            if not stat.S_ISREG(status.st_mode):
                # A pipe would wait for its writer.
                self.fault = "no regular file"
            elif _signature(status) != self._seen:
                yield from self._new(whole)
        except FileNotFoundError:
            return
        except OSError as error:
            # A network file system may answer the next look.
            self.fault = str(error.strerror)

    def _new(self, whole: bool) -> Iterator[bytes]:
        with self.path.open("rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            self.exists = True
            if self._is_another(file.fileno(), status):
                self.generation += 1
                self._offset, self._anchor = 0, b""
            self._inode = (status.st_dev, status.st_ino)
            left = BUDGET
            while whole or left > 0:
                data = os.pread(file.fileno(), CHUNK, self._offset)
                if not data:
                    # As it was before it was read: what was appended meanwhile shows in the next look.
                    self._seen = _signature(status)
                    return
                self._offset += len(data)
                self._anchor = (self._anchor + data)[-_ANCHOR:]
                left -= len(data)
                yield data

    def _is_another(self, file: int, status: os.stat_result) -> bool:
        if self._inode is None:
            return False
        if self._inode != (status.st_dev, status.st_ino) or status.st_size < self._offset:
            return True
        start = self._offset - len(self._anchor)
        return os.pread(file, len(self._anchor), start) != self._anchor


class Lines:
    """Complete lines of one file, as text."""

    def __init__(self, path: Path) -> None:
        self.tail = Tail(path)
        self.too_long = 0
        self._rest, self._skipping, self._generation = b"", False, 0

    def read(self, last: bool) -> Iterator[str]:
        """New lines without their ends; `last`: also one that has no end yet, since no more will come."""
        for data in self.tail.chunks(last):
            if self.tail.generation != self._generation:
                self._generation, self._rest, self._skipping = self.tail.generation, b"", False
            yield from self._split(data)
        if last and self._rest and self.tail.generation == self._generation:
            rest, self._rest = self._rest, b""
            yield _text(rest)

    def _split(self, data: bytes) -> Iterator[str]:
        *complete, rest = (self._rest + data).split(b"\n")
        for line in complete:
            if self._skipping:
                self._skipping = False
            elif len(line) > LONGEST_LINE:
                self.too_long += 1
            else:
                yield _text(line)
        if len(rest) > LONGEST_LINE:
            self.too_long += not self._skipping
            self._skipping, rest = True, b""
        self._rest = b"" if self._skipping else rest


def matching(folder: Path, pattern: str) -> list[Path]:
    """Files of a folder by name or glob, in the order in which people count (`epoch-9` before `epoch-10`)."""
    if not is_glob(pattern):
        return [folder / pattern]
    return sorted((path for path in folder.glob(pattern) if path.is_file()), key=natural)


def is_glob(pattern: str) -> bool:
    """Whether it means several files."""
    return any(character in pattern for character in "*?[")


def natural(path: Path) -> list[tuple[bool, int, str]]:
    """Sorts numbers in names by their value."""
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in _DIGITS.split(str(path))]


def _signature(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").removesuffix("\r").removeprefix("\ufeff")
