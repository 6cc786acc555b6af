"""Indexes of many shards, and hashes of their images, made by several processes here or by a cluster's jobs: what is
there is not read again."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

from ablative.study.core.errors import DataError
from ablative.study.home.paths import Home
from ablative.trainer.clip.data.shards.image_hashes import image_hashes
from ablative.trainer.clip.data.shards.shard_files import ShardFiles, index_or_error, index_shards
from ablative.trainer.clip.data.shards.shard_index import CONTENT, SAMPLE, ShardSummary, known_summary, shard_summary


def by_content(shard: str, home: Home) -> None:
    """Index a shard in a job; raises as `shard_index` does."""
    shard_summary(Path(shard), home, CONTENT)


def by_sample(shard: str, home: Home) -> None:
    """The same by a sample of the content."""
    shard_summary(Path(shard), home, SAMPLE)


def images_by_content(shard: str, home: Home) -> None:
    """Index a shard in a job and hash its images; raises as `shard_index` and `image_hashes` do."""
    _hash_images([Path(shard)], home, CONTENT)


def images_by_sample(shard: str, home: Home) -> None:
    """The same by a sample of the content."""
    _hash_images([Path(shard)], home, SAMPLE)


ENTRIES = {
    (CONTENT, False): f"{__name__}:{by_content.__name__}",
    (CONTENT, True): f"{__name__}:{images_by_content.__name__}",
    (SAMPLE, False): f"{__name__}:{by_sample.__name__}",
    (SAMPLE, True): f"{__name__}:{images_by_sample.__name__}",
}
"""What shards are known by, and whether images are hashed → `module:function` that a job calls with each shard."""


def not_indexed(paths: Sequence[Path], home: Home, by: str, images: bool = False) -> list[Path]:
    """Shards without an index, or with `images` without hashes, in the cache; raises DataError where one is missing."""

    def known(path: Path) -> bool:
        found = known_summary(path, home, by)
        return found is not None and not (images and not home.image_hashes(found.sha256).exists())

    with ThreadPoolExecutor(min(len(paths), len(os.sched_getaffinity(0)), 8)) as pool:
        return [path for path, done in zip(paths, pool.map(known, paths), strict=True) if not done]


def index_here(
    paths: Sequence[Path], home: Home, by: str, processes: int, step: Callable[[int], None], images: bool = False
) -> Iterator[ShardSummary | DataError]:
    """What the index of every shard says, in order, or what is wrong with it.

    Args:
        paths: the shards.
        home: keeps the indexes.
        by: what the shards are known by.
        processes: that read shards, each one after the other; 0: threads of this one, with bars of their own.
        step: is called with 1 for every shard that a process has read.
        images: hash the images of usable shards, too.

    Raises DataError where a process is killed.
    """
    if not processes or not paths:
        every = list(index_shards(paths, home, by)) if paths else []
        usable = [path for path, each in zip(paths, every, strict=True) if isinstance(each, ShardSummary)]
        if images and usable:
            _hash_images(usable, home, by)
        yield from every
        return
    context, index = multiprocessing.get_context("spawn"), partial(_indexed, home=home, by=by, images=images)
    with ProcessPoolExecutor(min(processes, len(paths)), mp_context=context) as pool:
        try:
            for found in pool.map(index, paths):
                step(1)
                yield found
        except BrokenProcessPool:
            raise DataError(
                "a process that read shards was killed; what is indexed stays, the same command goes on"
            ) from None


def _indexed(path: Path, home: Home, by: str, images: bool) -> ShardSummary | DataError:
    found = index_or_error(path, home, by)
    if images and isinstance(found, ShardSummary):
        try:
            _hash_images([path], home, by)
        except DataError as error:
            return error
    return found


def _hash_images(paths: Sequence[Path], home: Home, by: str) -> None:
    files = ShardFiles(paths, home, str(paths[0]), by)
    deque(image_hashes(files, home), maxlen=0)
