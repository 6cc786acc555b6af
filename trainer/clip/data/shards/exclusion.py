"""Pairs that are no part of a data set: their captions hold certain words (`data.exclude`), or a list names their
images (`data.exclude_images`)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ablative.study.core.errors import DataError, UnfitDataError
from ablative.study.core.files import replacing
from ablative.study.core.identity import canonical, digest
from ablative.study.home.paths import Home
from ablative.trainer.clip.data.images.image_list import read_list
from ablative.trainer.clip.data.images.places import locate
from ablative.trainer.clip.data.shards.captions import all_captions
from ablative.trainer.clip.data.shards.image_hashes import each_shard, image_hashes, without
from ablative.trainer.clip.data.shards.shard_files import ShardFiles, say
from ablative.trainer.clip.data.shards.shard_index import locked, writing
from ablative.trainer.clip.spec.config import DataConfig
from ablative.trainer.clip.spec.fingerprints import ContentFile


def kept_pairs(files: ShardFiles, data: DataConfig, home: Home) -> np.ndarray | None:
    """Numbers int64 (n,), ascending, of the samples that `data.exclude` and `data.exclude_images` leave; None: all.

    A function of the content of the shards and the list alone. Every caption, and every image, is read once (11 million
    captions take some minutes), and one bit for each sample is kept in the cache; processes that ask at once wait for
    the first.

    Raises:
        UnfitDataError: no sample is left.
        ConfigError: the list of images has another format.
        AbsentDataError: there is no such list.
        DataError: a shard or the list cannot be read.
        StoreError: the cache cannot be written.
    """
    kept = _by_captions(files, data, home) if data.exclude else None
    if data.exclude_images:
        kept = _by_images(files, data, home, kept)
    return None if kept is None or kept.all() else np.flatnonzero(kept)


def _by_captions(files: ShardFiles, data: DataConfig, home: Home) -> np.ndarray:
    """bool (samples,): no caption that may be chosen holds one of the words."""
    words = sorted(set(data.exclude))
    kept = _once(home.kept_pairs(_words_key(files, data)), len(files), lambda: _read(files, data, words))
    if not kept.any():
        raise UnfitDataError(
            f"data '{data.name}': exclude leaves none of {len(files)} samples; every caption holds "
            + " or ".join(repr(word) for word in words)
        )
    return kept


def _words_key(files: ShardFiles, data: DataConfig) -> str:
    several = [] if data.captions == "first" else [data.captions]
    return digest(canonical([files.fingerprint, data.caption, sorted(set(data.exclude)), *several]))


def _by_images(files: ShardFiles, data: DataConfig, home: Home, among: np.ndarray | None) -> np.ndarray:
    """bool (samples,): one of `among` (all samples), and the list leaves its image in; says how many are left out."""
    source = ContentFile.images(data)
    path = locate(source.path, source.where, source.expected)
    listed = read_list(path, source.where)

    def read() -> np.ndarray:
        rows = np.arange(len(files)) if among is None else np.flatnonzero(among)
        kept = np.zeros(len(files), dtype=bool)
        kept[rows[without(listed, image_hashes(files, home)[rows])]] = True
        return kept

    before = "" if among is None else _words_key(files, data)
    kept = _once(home.kept_pairs(digest(canonical([files.fingerprint, before, listed.digest]))), len(files), read)
    count = len(files) if among is None else int(among.sum())
    left = int(kept.sum())
    if not left:
        raise UnfitDataError(
            f"data '{data.name}': exclude_images leaves none of {count} samples; {path} names them all"
        )
    say(f"data '{data.name}': {count - left} of {count} pairs are left out, whose images {path} names")
    return kept


def _once(cached: Path, count: int, make: Callable[[], np.ndarray]) -> np.ndarray:
    """bool (count,), made now or before: a bit each in the cache."""
    kept = _load(cached, count)
    if kept is None:
        with writing(cached.parent), locked(cached.with_suffix(".lock")):
            kept = _load(cached, count)
            if kept is None:
                kept = make()
                with replacing(cached) as file:
                    np.save(file, np.packbits(kept))
    return kept


def _read(files: ShardFiles, data: DataConfig, words: list[str]) -> np.ndarray:
    """bool (samples,): no caption that may be chosen holds one of the words."""
    found = each_shard(files, lambda _, part: [_without(files, i, data, words) for i in part], "Reading captions")
    return np.concatenate([np.array(part, dtype=bool) for part in found])


def _without(files: ShardFiles, i: int, data: DataConfig, words: list[str]) -> bool:
    try:
        texts = all_captions(files, i, data.caption)
    except DataError:
        # A damaged caption is a broken sample, which training deals with; a disk that fails is no answer.
        files.read(i, "txt" if data.caption == "txt" else "json")
        return True
    chosen = texts[: 1 if data.captions == "first" else None] or ("",)
    return not any(word in text for text in chosen for word in words)


def _load(cached: Path, count: int) -> np.ndarray | None:
    """bool (count,), or None where there is no such file or it is damaged."""
    with contextlib.suppress(OSError, ValueError, EOFError):
        packed = np.load(cached, allow_pickle=False)
        if packed.dtype == np.uint8 and packed.shape == (-(-count // 8),):
            return np.unpackbits(packed, count=count).astype(bool)
    return None
