"""Pairs that are no part of a data set: their captions hold certain words (`data.exclude`), or a list names their
images (`data.exclude_images`)."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ablative.study.core.errors import DataError, StoreError, UnfitDataError
from ablative.study.core.files import replacing
from ablative.study.core.identity import canonical, digest
from ablative.study.home.paths import Home
from ablative.trainer.clip.data.images.image_list import ImageList, read_list
from ablative.trainer.clip.data.images.places import locate
from ablative.trainer.clip.data.shards.captions import all_captions
from ablative.trainer.clip.data.shards.image_hashes import ListedImages, each_shard, image_hashes
from ablative.trainer.clip.data.shards.shard_files import ShardFiles, say
from ablative.trainer.clip.data.shards.shard_index import locked, writing
from ablative.trainer.clip.spec.config import DataConfig
from ablative.trainer.clip.spec.fingerprints import ContentFile

_RUN = 2**18
"""Samples of whole shards that are looked at together."""


def runs(sizes: np.ndarray) -> Iterator[slice]:
    """Neighbouring shards, of `sizes` int64 (shards,), with about 262,144 samples together."""
    run = (np.cumsum(sizes) - sizes) // _RUN
    ends = [*np.flatnonzero(np.diff(run)) + 1, len(sizes)]
    return map(slice, [0, *ends[:-1]], ends)


@dataclass(frozen=True)
class SampleBits:
    """A bit for each sample of some shards, in a file of which a shard's part is read when it is asked for."""

    path: Path
    start: int
    """Where in the file the bits begin."""
    sizes: np.ndarray
    """int64 (shards,): samples of each."""

    @functools.cached_property
    def counts(self) -> np.ndarray:
        """int64 (shards,): how many bits of each shard are set."""
        firsts = self._ends - self.sizes
        found = []
        for shards in runs(self.sizes):
            first = int(firsts[shards.start])
            bits = self._between(first, int(self._ends[shards.stop - 1]))
            found.append(np.add.reduceat(bits, firsts[shards] - first, dtype=np.int64))
        return np.concatenate(found)

    def of(self, shard: int) -> np.ndarray:
        """bool (size,): the bits of a shard."""
        end = int(self._ends[shard])
        return self._between(end - int(self.sizes[shard]), end).view(bool)

    @functools.cached_property
    def _ends(self) -> np.ndarray:
        return np.cumsum(self.sizes)

    def _between(self, first: int, end: int) -> np.ndarray:
        """uint8 (end - first,) of 0 and 1."""
        byte = first // 8
        try:
            packed = np.fromfile(self.path, np.uint8, -(-end // 8) - byte, offset=self.start + byte)
        except OSError as error:
            raise StoreError(f"{self.path}: {error.strerror}; it was there when these data were opened") from None
        bits = np.unpackbits(packed)[first - 8 * byte : end - 8 * byte]
        if len(bits) < end - first:
            raise StoreError(f"{self.path} was cut off while it was in use")
        return bits


def kept_pairs(files: ShardFiles, data: DataConfig, home: Home) -> SampleBits | None:
    """The samples that `data.exclude` and `data.exclude_images` leave; None: all.

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
    return None if kept is None or kept.counts.sum() == len(files) else kept


def _by_captions(files: ShardFiles, data: DataConfig, home: Home) -> SampleBits:
    """Set where no caption that may be chosen holds one of the words."""
    words = sorted(set(data.exclude))
    kept = _once(home.kept_pairs(_words_key(files, data)), files.sizes, lambda: _read(files, data, words))
    if not kept.counts.any():
        raise UnfitDataError(
            f"data '{data.name}': exclude leaves none of {len(files)} samples; every caption holds "
            + " or ".join(repr(word) for word in words)
        )
    return kept


def _words_key(files: ShardFiles, data: DataConfig) -> str:
    several = [] if data.captions == "first" else [data.captions]
    return digest(canonical([files.fingerprint, data.caption, sorted(set(data.exclude)), *several]))


def _by_images(files: ShardFiles, data: DataConfig, home: Home, among: SampleBits | None) -> SampleBits:
    """Set for those of `among` (all samples) whose image the list leaves in; says how many are left out."""
    source = ContentFile.images(data)
    path = locate(source.path, source.where, source.expected)
    listed = read_list(path, source.where)
    before = "" if among is None else _words_key(files, data)
    cached = home.kept_pairs(digest(canonical([files.fingerprint, before, listed.digest])))
    kept = _once(cached, files.sizes, lambda: _unlisted(files, listed, among, home))
    count = len(files) if among is None else int(among.counts.sum())
    left = int(kept.counts.sum())
    if not left:
        raise UnfitDataError(
            f"data '{data.name}': exclude_images leaves none of {count} samples; {path} names them all"
        )
    say(f"data '{data.name}': {count - left} of {count} pairs are left out, whose images {path} names")
    return kept


def _unlisted(files: ShardFiles, listed: ImageList, among: SampleBits | None, home: Home) -> Iterator[np.ndarray]:
    """bool (size,) of every shard: one of `among`, and the list leaves its image in."""
    images = ListedImages(listed)
    for shard, hashes in enumerate(image_hashes(files, home)):
        yield images.leave_in(hashes, np.ones(len(hashes), bool) if among is None else among.of(shard))


def _once(cached: Path, sizes: np.ndarray, make: Callable[[], Iterable[np.ndarray]]) -> SampleBits:
    """Bits of shards of these sizes, which `make` gives shard by shard, made now or before: a file in the cache."""
    kept = _load(cached, sizes)
    if kept is None:
        with writing(cached.parent), locked(cached.with_suffix(".lock")):
            kept = _load(cached, sizes)
            if kept is None:
                with replacing(cached) as file:
                    _write(file, int(sizes.sum()), make())
                kept = _load(cached, sizes)
                assert kept is not None
    return kept


def _write(file: BinaryIO, count: int, parts: Iterable[np.ndarray]) -> None:
    """Write what `np.save` would of the packed bits of all parts, which are never there together."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (-(-count // 8),)}
    np.lib.format.write_array_header_1_0(file, header)
    left = np.empty(0, bool)
    for part in parts:
        bits = np.concatenate([left, part])
        whole = len(bits) // 8 * 8
        file.write(np.packbits(bits[:whole]).tobytes())
        left = bits[whole:]
    file.write(np.packbits(left).tobytes())


def _read(files: ShardFiles, data: DataConfig, words: list[str]) -> Iterator[np.ndarray]:
    """bool (size,) of every shard: no caption that may be chosen holds one of the words."""

    def of_shard(_: int, part: range) -> np.ndarray:
        return np.array([_without(files, i, data, words) for i in part], bool)

    return each_shard(files, of_shard, "Reading captions")


def _without(files: ShardFiles, i: int, data: DataConfig, words: list[str]) -> bool:
    try:
        texts = all_captions(files, i, data.caption)
    except DataError:
        # A damaged caption is a broken sample, which training deals with; a disk that fails is no answer.
        files.read(i, "txt" if data.caption == "txt" else "json")
        return True
    chosen = texts[: 1 if data.captions == "first" else None] or ("",)
    return not any(word in text for text in chosen for word in words)


def _load(cached: Path, sizes: np.ndarray) -> SampleBits | None:
    """The bits of a file, or None where there is no such file or it is damaged."""
    count = -(-int(sizes.sum()) // 8)
    with contextlib.suppress(OSError, ValueError, EOFError), cached.open("rb") as file:
        if np.lib.format.read_magic(file) == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            start = file.tell()
            if (shape, dtype, file.seek(0, 2)) == ((count,), np.dtype(np.uint8), start + count):
                return SampleBits(cached, start, sizes)
    return None
