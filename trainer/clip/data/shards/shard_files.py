"""Many shards as one line of samples whose files are read by number."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
import numpy as np

from ablative.study.core.errors import DataError
from ablative.study.core.files import read_json, write_json
from ablative.study.core.plurals import counted
from ablative.study.home.paths import Home
from ablative.trainer.clip.data.shards.shard_index import (
    CONTENT,
    IMAGES,
    SAMPLE,
    ShardIndex,
    ShardSummary,
    cache_name,
    known_summary,
    shard_index,
    shard_summary,
    stamp,
    writing,
)

FINGERPRINT_DIGITS = 12
_OPEN = 64
"""Shards kept open with their indexes, so that memory and file handles stay bounded with thousands of shards."""


class ShardFiles:
    """Samples of all shards, numbered through; shards stand in the order of their content hashes.

    Empty shards (img2dataset leaves them where every address failed) are named once and else do not count. So neither
    the shards' names nor their compression change which sample a number means. Reading needs no
    shared file position and is safe after a fork; a pickled copy opens its own files.
    """

    def __init__(self, paths: Sequence[Path], home: Home, where: str = "", by: str = CONTENT) -> None:
        """Indexes what is not yet in the cache.

        Args:
            where: whose shards they are, to stand in front of the error message.
            by: what shards are known by (`data.fingerprint_by`).

        Raises DataError for the first shard that is unusable, or is indexed by something else.
        """
        try:
            summary = _summary(paths, home, by)
        except DataError as error:
            raise DataError(f"{where}: {error}" if where else str(error)) from None
        order = sorted(range(len(paths)), key=lambda i: (summary[i][0], str(paths[i])))
        if empty := [paths[i] for i in order if not summary[i][1]]:
            order = [i for i in order if summary[i][1]]
            say(f"{where or paths[0].parent}: {_empty(empty, len(paths))}")
        if not order:
            raise DataError(f"{where or paths[0].parent}: all shards are empty, without a sample: {empty[0]} …")
        self.paths = [paths[i] for i in order]
        self.sizes = np.array([summary[i][1] for i in order], dtype=np.int64)
        """int64 (shards,): samples of each."""
        self.contents = [summary[i][0] for i in order]
        """Hexadecimal SHA-256 of each shard, uncompressed, or of parts of it."""
        self.fingerprint = shards_fingerprint(self.contents, by)
        self._ends = np.cumsum(self.sizes)
        self._home, self._by = home, by
        self._forget()

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_opened"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()

    def name(self, i: int) -> str:
        """How error messages name a sample: shard and key."""
        shard, row = self._locate(i)
        key = self._opened(shard).index.keys[row].decode("utf-8", "replace")
        return f"{self.paths[shard]}: sample '{key}'"

    def read(self, i: int, suffix: str) -> bytes | None:
        """Content of a sample's file `.suffix`, or None where it has none. Raises DataError when it is unreadable."""
        shard, row = self._locate(i)
        opened = self._opened(shard)
        column = opened.columns.get(suffix)
        return None if column is None else opened.read(row, column)

    def read_image(self, i: int) -> bytes:
        """Encoded image; raises DataError where the sample has none."""
        for suffix in IMAGES:
            content = self.read(i, suffix)
            if content is not None:
                return content
        raise DataError(f"{self.name(i)} has no image (.{', .'.join(IMAGES)})")

    def read_json(self, i: int) -> dict[str, Any]:
        """The sample's JSON, {} where it has none; raises DataError where that is no JSON object."""
        content = self.read(i, "json")
        if content is None:
            return {}
        try:
            value = json.loads(content)
        except ValueError as error:
            raise DataError(f"{self.name(i)}: .json is no JSON ({error})") from None
        if not isinstance(value, dict):
            raise DataError(f"{self.name(i)}: .json holds a {type(value).__name__}, expected an object")
        return value

    def read_text(self, i: int) -> str:
        """The sample's `.txt`, "" where it has none; raises DataError where that is no UTF-8."""
        try:
            return (self.read(i, "txt") or b"").decode()
        except UnicodeDecodeError as error:
            raise DataError(f"{self.name(i)}: .txt is no UTF-8 ({error})") from None

    def probe(self, count: int = 32) -> list[int]:
        """Numbers of at most `count` samples, evenly spread within the first shard and the last."""
        first = np.linspace(0, self.sizes[0] - 1, min(count, int(self.sizes[0])))
        last = len(self) - 1 - np.linspace(0, self.sizes[-1] - 1, min(count, int(self.sizes[-1])))
        return sorted({*first.astype(int).tolist(), *last.astype(int).tolist()})

    def _locate(self, i: int) -> tuple[int, int]:
        if not 0 <= i < len(self):
            raise IndexError(f"sample {i} of {len(self)}")
        shard = int(np.searchsorted(self._ends, i, side="right"))
        return shard, int(i - (self._ends[shard] - self.sizes[shard]))

    def _forget(self) -> None:
        paths, home, by = self.paths, self._home, self._by
        # Without `self` in it, so that all is closed as soon as no reader uses it.
        self._opened = functools.lru_cache(_OPEN)(lambda shard: _Opened(shard_index(paths[shard], home, by)))


class _Opened:
    """An index with a file handle, which is closed when the last reader is gone."""

    def __init__(self, index: ShardIndex) -> None:
        self.index = index
        self.columns = {suffix: column for column, suffix in enumerate(index.suffixes)}
        self._handle = os.open(index.tar, os.O_RDONLY | os.O_CLOEXEC)
        if stamp(os.fstat(self._handle)) != index.stamp:
            raise DataError(f"shard {index.path} changed while it was in use")

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            os.close(self._handle)

    def read(self, row: int, column: int) -> bytes | None:
        offset, size = int(self.index.offsets[row, column]), int(self.index.sizes[row, column])
        if offset < 0:
            return None
        try:
            content = os.pread(self._handle, size, offset)
        except OSError as error:
            raise DataError(f"shard {self.index.tar}: {error.strerror}") from None
        if len(content) < size:
            raise DataError(f"shard {self.index.tar} was cut off while it was in use")
        return content


def shards_fingerprint(hashes: Sequence[str], by: str = CONTENT) -> str:
    """12 hexadecimal digits over the shards' hashes, in whatever order they are given; says so where these are of a
    sample of the content."""
    digits = hashlib.sha256("\n".join(sorted(hashes)).encode()).hexdigest()[:FINGERPRINT_DIGITS]
    return digits if by == CONTENT else f"{by}:{digits}"


def index_shards(paths: Sequence[Path], home: Home, by: str = CONTENT) -> Iterator[ShardSummary | DataError]:
    """What the index of every shard says, in order, or what is wrong; several at a time, with a bar on a terminal."""
    threads = min(len(paths), len(os.sched_getaffinity(0)), 8)
    hidden = len(paths) < 2 or not sys.stderr.isatty()
    with ThreadPoolExecutor(threads) as pool:
        results = pool.map(lambda path: index_or_error(path, home, by), paths)
        if hidden:
            yield from results
            return
        with click.progressbar(results, length=len(paths), label="Indexing shards", file=sys.stderr) as bar:
            yield from bar


def index_or_error(path: Path, home: Home, by: str = CONTENT) -> ShardSummary | DataError:
    """What the index of a shard says, made now where there is none, or what is wrong with the shard."""
    try:
        return shard_summary(path, home, by)
    except DataError as error:
        return error


def _empty(shards: Sequence[Path], of: int) -> str:
    names = ", ".join(sorted(path.name for path in shards)[:3]) + (" …" if len(shards) > 3 else "")
    verb = "is" if len(shards) == 1 else "are"
    return f"{len(shards)} of {counted(of, 'shard')} {verb} empty, with 0 samples: {names}"


@functools.cache
def say(note: str) -> None:
    """Write a note to standard error, once in a process."""
    click.echo(note, err=True)


def _check_kind(paths: Sequence[Path], home: Home, by: str) -> None:
    """Raise DataError where shards are indexed by a sample and all of their bytes would have to be read now."""
    first = next((path for path in paths if known_summary(path, home, by) is None), None) if by == CONTENT else None
    if first is not None and known_summary(first, home, SAMPLE) is not None:
        raise DataError(
            f"shard {first} is indexed by '{SAMPLE}', expected '{by}': say data.fingerprint_by={SAMPLE}, or read all "
            "bytes of the shards once with `ablate data index`"
        )


def _summary(paths: Sequence[Path], home: Home, by: str) -> list[tuple[str, int]]:
    """Content hash and number of samples of each shard, from one small file when these shards were seen before."""
    assert paths
    names = [cache_name(path, by) for path in paths]
    folder = home.cache / "shards"
    cached = folder / f"set-{hashlib.sha256(' '.join(names).encode()).hexdigest()[:24]}.json"
    try:
        known = read_json(cached)
        if known is not None:
            return [(str(sha256), int(count)) for sha256, count in known["shards"]]
    except (OSError, ValueError, KeyError, TypeError):
        pass  # damaged: made again below
    summary = []
    _check_kind(paths, home, by)
    for found in index_shards(paths, home, by):
        if isinstance(found, DataError):
            raise found
        summary.append((found.sha256, found.samples))
    with writing(folder):
        write_json(cached, {"shards": summary})
    return summary
