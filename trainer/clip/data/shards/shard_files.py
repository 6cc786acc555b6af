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
from ablative.trainer.clip.data.shards.shard_index import IMAGES, ShardIndex, cache_name, shard_index, stamp, writing

FINGERPRINT_DIGITS = 12
_OPEN = 64
"""Shards kept open with their indexes, so that memory and file handles stay bounded with thousands of shards."""


class ShardFiles:
    """Samples of all shards, numbered through; shards stand in the order of their content hashes.

    Empty shards (img2dataset leaves them where every address failed) are named once and else do not count. So neither
    the shards' names nor their compression change which sample a number means. Reading needs no
    shared file position and is safe after a fork; a pickled copy opens its own files.
    """

    def __init__(self, paths: Sequence[Path], home: Home, where: str = "") -> None:
        """Indexes what is not yet in the cache.

        Args:
            where: whose shards they are, to stand in front of the error message.

        Raises DataError for the first shard that is unusable.
        """
        try:
            summary = _summary(paths, home)
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
        """Hexadecimal SHA-256 of each shard, uncompressed."""
        self.fingerprint = content_fingerprint(self.contents)
        self._ends = np.cumsum(self.sizes)
        self._home = home
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
        paths, home = self.paths, self._home
        # Without `self` in it, so that all is closed as soon as no reader uses it.
        self._opened = functools.lru_cache(_OPEN)(lambda shard: _Opened(shard_index(paths[shard], home)))


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


def content_fingerprint(hashes: Sequence[str]) -> str:
    """12 hexadecimal digits over the shards' content hashes, in whatever order they are given."""
    return hashlib.sha256("\n".join(sorted(hashes)).encode()).hexdigest()[:FINGERPRINT_DIGITS]


def index_shards(paths: Sequence[Path], home: Home) -> Iterator[ShardIndex | DataError]:
    """The index of every shard in order, or what is wrong with it; several at a time, with a bar on a terminal."""
    threads = min(len(paths), len(os.sched_getaffinity(0)), 8)
    hidden = len(paths) < 2 or not sys.stderr.isatty()
    with ThreadPoolExecutor(threads) as pool:
        results = pool.map(lambda path: _index_or_error(path, home), paths)
        if hidden:
            yield from results
            return
        with click.progressbar(results, length=len(paths), label="Indexing shards", file=sys.stderr) as bar:
            yield from bar


def _index_or_error(path: Path, home: Home) -> ShardIndex | DataError:
    try:
        return shard_index(path, home)
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


def _summary(paths: Sequence[Path], home: Home) -> list[tuple[str, int]]:
    """Content hash and number of samples of each shard, from one small file when these shards were seen before."""
    assert paths
    names = [cache_name(path) for path in paths]
    folder = home.cache / "shards"
    cached = folder / f"set-{hashlib.sha256(' '.join(names).encode()).hexdigest()[:24]}.json"
    try:
        known = read_json(cached)
        if known is not None:
            return [(str(sha256), int(count)) for sha256, count in known["shards"]]
    except (OSError, ValueError, KeyError, TypeError):
        pass  # damaged: made again below
    summary = []
    for index in index_shards(paths, home):
        if isinstance(index, DataError):
            raise index
        summary.append((index.sha256, len(index)))
    with writing(folder):
        write_json(cached, {"shards": summary})
    return summary
