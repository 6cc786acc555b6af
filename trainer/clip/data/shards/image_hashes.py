"""Hashes of the images in shards: which pairs have an image that others have as well, or that a list names."""

from __future__ import annotations

import contextlib
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import click
import numpy as np

from ablative.study.core.files import replacing
from ablative.study.home.paths import Home
from ablative.trainer.clip.data.images.image_list import HASH, ImageList, image_hash
from ablative.trainer.clip.data.shards.shard_files import ShardFiles
from ablative.trainer.clip.data.shards.shard_index import IMAGES, writing

T = TypeVar("T")


def image_hashes(files: ShardFiles, home: Home) -> Iterator[np.ndarray]:
    """S16 (size,) of every shard: hash of each sample's image as it is stored, empty where it has none.

    Every image is read once; 16 bytes for each are kept in the cache, a file for each shard's content.

    Raises:
        DataError: a shard cannot be read.
        StoreError: the cache cannot be written.
    """
    return each_shard(files, lambda shard, part: _of_shard(files, shard, part, home), "Hashing images")


def each_shard(files: ShardFiles, read: Callable[[int, range], T], label: str) -> Iterator[T]:
    """`read` of every shard's number and samples, in order, several at a time; with a bar on a terminal."""
    found = _ahead(files, read)
    if len(files.paths) < 2 or not sys.stderr.isatty():
        yield from found
        return
    with click.progressbar(found, length=len(files.paths), label=label, file=sys.stderr) as bar:
        yield from bar


def _ahead(files: ShardFiles, read: Callable[[int, range], T]) -> Iterator[T]:
    """Only so many shards are read ahead as there are threads: all that was read would not fit into memory."""
    threads = min(len(files.paths), len(os.sched_getaffinity(0)), 8)
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for shard, end in enumerate(np.cumsum(files.sizes).tolist()):
                waiting.append(pool.submit(read, shard, range(end - int(files.sizes[shard]), end)))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for reading in waiting:
                reading.cancel()


def _of_shard(files: ShardFiles, shard: int, part: range, home: Home) -> np.ndarray:
    cached = home.image_hashes(files.contents[shard])
    known = _load(cached, len(part))
    if known is None:
        known = np.array([_of_sample(files, i) for i in part], HASH)
        with writing(cached.parent), replacing(cached) as file:
            np.save(file, known)
    return known


def _of_sample(files: ShardFiles, i: int) -> bytes:
    for suffix in IMAGES:
        if (content := files.read(i, suffix)) is not None:
            return image_hash(content)
    return b""


def _load(cached: Path, count: int) -> np.ndarray | None:
    with contextlib.suppress(OSError, ValueError, EOFError):
        found: np.ndarray = np.load(cached, allow_pickle=False)
        if found.dtype == HASH and found.shape == (count,):
            return found
    return None


def repeated(hashes: np.ndarray) -> np.ndarray:
    """bool (n,): another of the images S16 (n,) has the same bytes."""
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    follows = np.zeros(len(hashes), dtype=bool)
    follows[1:] = (ordered[1:] == ordered[:-1]) & (ordered[1:] != b"")
    found = np.empty_like(follows)
    found[order] = follows | np.append(follows[1:], False)
    return found


class ListedImages:
    """Which pairs a list leaves in; they are asked for in the order of the data, and only the list is in memory."""

    def __init__(self, listed: ImageList) -> None:
        self._images = np.unique(np.concatenate([listed.whole, listed.rest[listed.rest != b""]]))
        self._gone = np.isin(self._images, listed.whole)
        """bool (n,): no further pair with the image stays."""
        self._may_be = np.zeros(_STARTS, bool)
        self._may_be[starts(self._images)] = True

    def leave_in(self, hashes: np.ndarray, among: np.ndarray) -> np.ndarray:
        """bool (n,): those of `among` bool (n,) that stay, of the next pairs, whose images S16 (n,) are."""
        rows = np.flatnonzero(self._may_be[starts(hashes)] & among)
        places = np.minimum(np.searchsorted(self._images, hashes[rows]), len(self._images) - 1)
        hit = self._images[places] == hashes[rows] if len(rows) else np.empty(0, bool)
        rows, places = rows[hit], places[hit]
        _, first = np.unique(places, return_index=True)
        stays = np.zeros(len(rows), bool)
        stays[first] = ~self._gone[places[first]]
        self._gone[places] = True
        kept: np.ndarray = among.copy()
        kept[rows] = stays
        return kept


_STARTS = 2**22


def starts(hashes: np.ndarray) -> np.ndarray:
    """uint64 (n,) below 4,194,304: how each of S16 (n,) begins, by which most images are known to be different."""
    words: np.ndarray = np.ascontiguousarray(hashes).view("<u8")[::2]
    return words % np.uint64(_STARTS)
