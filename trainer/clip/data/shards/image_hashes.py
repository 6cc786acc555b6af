"""Hashes of the images in shards: which pairs have an image that others have as well, or that a list names."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
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


def image_hashes(files: ShardFiles, home: Home) -> np.ndarray:
    """S16 (samples,): hash of each sample's image as it is stored, empty where it has none.

    Every image is read once; 16 bytes for each are kept in the cache, a file for each shard's content.

    Raises:
        DataError: a shard cannot be read.
        StoreError: the cache cannot be written.
    """
    return np.concatenate(each_shard(files, lambda shard, part: _of_shard(files, shard, part, home), "Hashing images"))


def each_shard(files: ShardFiles, read: Callable[[int, range], T], label: str) -> Sequence[T]:
    """`read` of every shard's number and samples, several at a time; with a bar on a terminal."""
    ends = np.cumsum(files.sizes).tolist()
    parts = [range(end - size, end) for end, size in zip(ends, files.sizes.tolist(), strict=True)]
    with ThreadPoolExecutor(min(len(parts), len(os.sched_getaffinity(0)), 8)) as pool:
        found = pool.map(read, range(len(parts)), parts)
        if len(parts) < 2 or not sys.stderr.isatty():
            return list(found)
        with click.progressbar(found, length=len(parts), label=label, file=sys.stderr) as bar:
            return list(bar)


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


def copies(hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """bool (n,) each: another of the images S16 (n,) has the same bytes, and an earlier one has."""
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    follows = np.zeros(len(hashes), dtype=bool)
    follows[1:] = (ordered[1:] == ordered[:-1]) & (ordered[1:] != b"")
    repeated, later = np.empty_like(follows), np.empty_like(follows)
    repeated[order] = follows | np.append(follows[1:], False)
    later[order] = follows
    return repeated, later


def without(listed: ImageList, hashes: np.ndarray) -> np.ndarray:
    """bool (n,): the list leaves the pair in, where the images S16 (n,) are all that there are."""
    excess = np.isin(hashes, listed.rest) & copies(hashes)[1]
    kept: np.ndarray = ~(np.isin(hashes, listed.whole) | excess)
    return kept
