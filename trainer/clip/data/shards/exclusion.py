"""Pairs that are no part of a data set, since their captions hold certain words (`data.exclude`)."""

from __future__ import annotations

import contextlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import numpy as np

from ablative.study.core.errors import DataError, UnfitDataError
from ablative.study.core.files import replacing
from ablative.study.core.identity import canonical, digest
from ablative.study.home.paths import Home
from ablative.trainer.clip.data.shards.captions import first_caption
from ablative.trainer.clip.data.shards.shard_files import ShardFiles
from ablative.trainer.clip.data.shards.shard_index import locked, writing
from ablative.trainer.clip.spec.config import DataConfig


def kept_pairs(files: ShardFiles, data: DataConfig, home: Home) -> np.ndarray | None:
    """Numbers int64 (n,), ascending, of the samples whose captions hold none of `data.exclude`; None: all samples.

    A function of the shards' content alone. Every caption is read once (11 million take some minutes), and one bit
    for each is kept in the cache; processes that ask at once wait for the first.

    Raises:
        UnfitDataError: no sample is left.
        DataError: a shard cannot be read.
        StoreError: the cache cannot be written.
    """
    if not data.exclude:
        return None
    words = sorted(set(data.exclude))
    cached = home.kept_pairs(digest(canonical([files.fingerprint, data.caption, words])))
    kept = _load(cached, len(files))
    if kept is None:
        with writing(cached.parent), locked(cached.with_suffix(".lock")):
            kept = _load(cached, len(files))
            if kept is None:
                kept = _read(files, data.caption, words)
                with replacing(cached) as file:
                    np.save(file, np.packbits(kept))
    if not kept.any():
        raise UnfitDataError(
            f"data '{data.name}': exclude leaves none of {len(files)} samples; every caption holds "
            + " or ".join(repr(word) for word in words)
        )
    return None if kept.all() else np.flatnonzero(kept)


def _read(files: ShardFiles, caption: str, words: list[str]) -> np.ndarray:
    """bool (samples,): the caption holds none of the words; with a bar on a terminal."""
    ends = np.cumsum(files.sizes).tolist()
    parts = [range(end - size, end) for end, size in zip(ends, files.sizes.tolist(), strict=True)]
    with ThreadPoolExecutor(min(len(parts), len(os.sched_getaffinity(0)), 8)) as pool:
        found = pool.map(lambda part: [_without(files, i, caption, words) for i in part], parts)
        if len(parts) < 2 or not sys.stderr.isatty():
            return np.concatenate([np.array(part, dtype=bool) for part in found])
        with click.progressbar(found, length=len(parts), label="Reading captions", file=sys.stderr) as bar:
            return np.concatenate([np.array(part, dtype=bool) for part in bar])


def _without(files: ShardFiles, i: int, caption: str, words: list[str]) -> bool:
    try:
        text = first_caption(files, i, caption)
    except DataError:
        # A damaged caption is a broken sample, which training deals with; a disk that fails is no answer.
        files.read(i, "txt" if caption == "txt" else "json")
        return True
    return not any(word in text for word in words)


def _load(cached: Path, count: int) -> np.ndarray | None:
    """bool (count,), or None where there is no such file or it is damaged."""
    with contextlib.suppress(OSError, ValueError, EOFError):
        packed = np.load(cached, allow_pickle=False)
        if packed.dtype == np.uint8 and packed.shape == (-(-count // 8),):
            return np.unpackbits(packed, count=count).astype(bool)
    return None
