"""Indexes of many shards, made by several processes here or by a cluster's jobs: what is there is not read again."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

from ablative.study.core.errors import DataError
from ablative.study.home.paths import Home
from ablative.trainer.clip.data.shards.shard_files import index_or_error, index_shards
from ablative.trainer.clip.data.shards.shard_index import CONTENT, SAMPLE, ShardSummary, known_summary, shard_summary


def by_content(shard: str, home: Home) -> None:
    """Index a shard in a job; raises as `shard_index` does."""
    shard_summary(Path(shard), home, CONTENT)


def by_sample(shard: str, home: Home) -> None:
    """The same by a sample of the content."""
    shard_summary(Path(shard), home, SAMPLE)


ENTRIES = {by: f"{__name__}:{call.__name__}" for by, call in ((CONTENT, by_content), (SAMPLE, by_sample))}
"""What shards are known by → `module:function` that a job calls with each of them."""


def not_indexed(paths: Sequence[Path], home: Home, by: str) -> list[Path]:
    """Shards without an index in the cache; raises DataError where one is missing."""
    with ThreadPoolExecutor(min(len(paths), len(os.sched_getaffinity(0)), 8)) as pool:
        known = pool.map(lambda path: known_summary(path, home, by), paths)
        return [path for path, found in zip(paths, known, strict=True) if found is None]


def index_here(
    paths: Sequence[Path], home: Home, by: str, processes: int, step: Callable[[int], None]
) -> Iterator[ShardSummary | DataError]:
    """What the index of every shard says, in order, or what is wrong with it.

    Args:
        paths: the shards.
        home: keeps the indexes.
        by: what the shards are known by.
        processes: that read shards, each one after the other; 0: threads of this one, with a bar of their own.
        step: is called with 1 for every shard that a process has read.

    Raises DataError where a process is killed.
    """
    if not processes or not paths:
        yield from index_shards(paths, home, by) if paths else ()
        return
    context, index = multiprocessing.get_context("spawn"), partial(index_or_error, home=home, by=by)
    with ProcessPoolExecutor(min(processes, len(paths)), mp_context=context) as pool:
        try:
            for found in pool.map(index, paths):
                step(1)
                yield found
        except BrokenProcessPool:
            raise DataError(
                "a process that read shards was killed; what is indexed stays, the same command goes on"
            ) from None
