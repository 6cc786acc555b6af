"""Index of one WebDataset shard: where each sample's files lie, made once and kept in the cache."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import re
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
from filelock import UnixFileLock

from ablative.study.core.errors import DataError, StoreError
from ablative.study.core.files import replacing
from ablative.study.home.paths import Home
from ablative.trainer.clip.data.images import streams
from ablative.trainer.clip.data.shards.tar_members import members

VERSION = 1
"""Raise it whenever an index's content or layout changes."""
IMAGES = ("jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "ppm")
"""Suffixes of images; a sample's first one in this order is its image."""
MAX_SUFFIXES = 64
CONTENT, SAMPLE = "content", "sample"
"""What a shard is known by (`data.fingerprint_by`)."""
SAMPLED = 64
"""Files of a shard whose contents count for `sample`."""
_CHUNK = 1 << 20
_NAME = re.compile(r"^((?:.*/|)[^./][^./]*)\.([^/]*)$")
"""As WebDataset splits a member's name: key up to the first dot of the base name, then the suffix."""


@dataclass(frozen=True)
class ShardIndex:
    """Places of `n` samples' files, `s` suffixes, in one uncompressed archive."""

    path: Path
    """The shard as the user names it."""
    tar: Path
    """What is read: the shard itself, or its decompressed copy in the cache."""
    sha256: str
    """Hexadecimal digest: of the uncompressed archive, or for `sample` of parts of it."""
    stamp: tuple[int, int]
    """Size in bytes and modification time in ns of `tar`."""
    suffixes: tuple[str, ...]
    """Lower case, without the first dot: `webp`, `txt`, `seg.png`."""
    keys: np.ndarray
    """bytes (n,)."""
    offsets: np.ndarray
    """int64 (n, s), of each file's content; -1 where the sample has no such file."""
    sizes: np.ndarray
    """int64 (n, s), in bytes."""

    def __len__(self) -> int:
        return len(self.keys)


class ShardSummary(NamedTuple):
    """What all shards together are known by."""

    sha256: str
    samples: int


def known_summary(path: Path, home: Home, by: str = CONTENT) -> ShardSummary | None:
    """What the shard's index says, of which little is read; None where none is in the cache.

    Raises DataError where the shard is missing.
    """
    path = path.absolute()
    return _load_summary(home.cache / "shards" / f"{cache_name(path, by)}.npz", path)


def shard_summary(path: Path, home: Home, by: str = CONTENT) -> ShardSummary:
    """The same, from an index that is made now where there is none; raises as `shard_index` does."""
    found = known_summary(path, home, by)
    if found is None:
        index = shard_index(path, home, by)
        found = ShardSummary(index.sha256, len(index))
    return found


def shard_index(path: Path, home: Home, by: str = CONTENT) -> ShardIndex:
    """The index of a shard, from the cache or made now (hash, decompress once, read the headers).

    Args:
        by: what the shard is known by: all of its bytes (`content`), or its size, all of its headers and the contents
            of 64 of its files (`sample`).

    Processes that ask for the same shard at once wait for the first; a killed one leaves nothing half made.

    Raises:
        DataError: the shard is missing, truncated, no archive, or holds files and no images.
        StoreError: the cache cannot be written.
    """
    path = path.absolute()
    folder, name = home.cache / "shards", cache_name(path, by)
    index = _load(folder / f"{name}.npz", path)
    if index is not None:
        return index
    with writing(folder), locked(folder / f"{name}.lock"):
        index = _load(folder / f"{name}.npz", path)
        if index is None:
            index = _make(path, folder, name, by)
            _save(index, folder / f"{name}.npz")
    return index


def cache_name(path: Path, by: str = CONTENT) -> str:
    """Name of a shard's index: another one whenever the file's place, size or time changes, and for each `by`."""
    try:
        stat = path.stat()
    except OSError as error:
        raise DataError(f"shard {path}: {error.strerror}") from None
    kind = "" if by == CONTENT else f"\n{by}"
    return hashlib.sha256(f"{VERSION}\n{path}\n{stat.st_size}\n{stat.st_mtime_ns}{kind}".encode()).hexdigest()[:24]


def _make(path: Path, folder: Path, name: str, by: str) -> ShardIndex:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    tar, digest = folder / f"{name}.tar" if packed else path, ""
    if packed:
        digest = _decompress(path, tar)
    if by == CONTENT:
        return _index(path, tar, digest or _sha256(path), list(members(tar, path)))
    headers = hashlib.sha256()
    found = list(members(tar, path, headers.update))
    return _index(path, tar, _of_sample(tar, headers.digest(), found), found)


def _of_sample(tar: Path, headers: bytes, found: list[tuple[str, int, int]]) -> str:
    """Hexadecimal digest of an archive's size, its headers, and the contents of files that these choose."""
    state = hashlib.sha256(b"ablate sample 1\0" + tar.stat().st_size.to_bytes(8, "little") + headers)
    order = streams.permutation(int.from_bytes(headers[:8], "little"), len(found))
    with tar.open("rb") as file:
        for place in np.sort(order[:SAMPLED]).tolist():
            _, offset, size = found[place]
            state.update(os.pread(file.fileno(), size, offset))
    return state.hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _decompress(path: Path, tar: Path) -> str:
    """Write the decompressed archive and return its SHA-256."""
    for left in tar.parent.glob(f".{tar.name}.*"):  # by a process that was killed: the lock is ours
        left.unlink(missing_ok=True)
    state = hashlib.sha256()
    with replacing(tar) as out, gzip.open(path, "rb") as file:
        while chunk := _read_gzip(file, path):
            state.update(chunk)
            out.write(chunk)
    return state.hexdigest()


def _read_gzip(file: gzip.GzipFile, path: Path) -> bytes:
    try:
        return file.read(_CHUNK)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"shard {path}: truncated or damaged gzip ({error}); fetch it again") from None


def _index(path: Path, tar: Path, sha256: str, found: list[tuple[str, int, int]]) -> ShardIndex:
    """The index of an archive from its members; files of one key are a sample, a suffix seen again begins the next."""
    columns: dict[str, int] = {}
    latest: dict[str, int] = {}
    keys: list[bytes] = []
    taken: set[tuple[int, int]] = set()
    entries: list[tuple[int, int, int, int]] = []
    if not found:  # as img2dataset leaves it where every address failed
        none = np.empty((0, 0), dtype=np.int64)
        return ShardIndex(path, tar, sha256, stamp(tar.stat()), (), np.empty(0, dtype="S1"), none, none)
    for name, offset, size in found:
        split = _NAME.match(name)
        if split is None:
            continue
        key, suffix = split[1], split[2].lower()
        column = columns.setdefault(suffix, len(columns))
        if len(columns) > MAX_SUFFIXES:
            raise DataError(
                f"shard {path}: more than {MAX_SUFFIXES} kinds of files, the last '.{suffix}' of {name}; "
                "a name's suffix begins at its first dot, so that keys must not hold dots"
            )
        row = latest.get(key, -1)
        if row < 0 or (row, column) in taken:
            row = latest[key] = len(keys)
            keys.append(key.encode("utf-8", "surrogateescape"))
        taken.add((row, column))
        entries.append((row, column, offset, size))
    if not any(suffix in columns for suffix in IMAGES):
        there = ", ".join(f".{suffix}" for suffix in sorted(columns)[:8]) or found[0][0]
        raise DataError(f"shard {path}: no images (expected .{', .'.join(IMAGES)}; found {there})")
    offsets = np.full((len(keys), len(columns)), -1, dtype=np.int64)
    sizes = np.zeros((len(keys), len(columns)), dtype=np.int64)
    rows, places, starts, lengths = np.array(entries, dtype=np.int64).T
    offsets[rows, places], sizes[rows, places] = starts, lengths
    return ShardIndex(path, tar, sha256, stamp(tar.stat()), tuple(columns), np.array(keys), offsets, sizes)


def stamp(stat: os.stat_result) -> tuple[int, int]:
    """See `ShardIndex.stamp`."""
    return stat.st_size, stat.st_mtime_ns


def _save(index: ShardIndex, cached: Path) -> None:
    with replacing(cached) as file:
        np.savez(
            file,
            sha256=np.array(index.sha256),
            stamp=np.array(index.stamp),
            suffixes=np.array(index.suffixes),
            keys=index.keys,
            offsets=index.offsets,
            sizes=index.sizes,
        )


def _load(cached: Path, path: Path) -> ShardIndex | None:
    """The cached index, or None where there is none, it is damaged, or its decompressed archive is gone."""
    with contextlib.suppress(*_DAMAGED), cached.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        content = {name: arrays[name] for name in arrays.files}
        tar = _indexed(content["stamp"], cached, path)
        if tar is not None:
            suffixes = tuple(content["suffixes"].tolist())
            places = (content["keys"], content["offsets"], content["sizes"])
            size, modified = content["stamp"].tolist()
            return ShardIndex(path, tar, str(content["sha256"]), (size, modified), suffixes, *places)
    return None


def _load_summary(cached: Path, path: Path) -> ShardSummary | None:
    """The same without the samples' places: of 10,000 samples these are half a megabyte."""
    with contextlib.suppress(*_DAMAGED), cached.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        if _indexed(arrays["stamp"], cached, path) is not None:
            with arrays.zip.open("keys.npy") as keys:
                if np.lib.format.read_magic(keys) == (1, 0):
                    (samples,), _, _ = np.lib.format.read_array_header_1_0(keys)
                    return ShardSummary(str(arrays["sha256"]), int(samples))
    return None


_DAMAGED = (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error)


def _indexed(written: np.ndarray, cached: Path, path: Path) -> Path | None:
    """The archive that an index is of; None where it has changed since."""
    copy = cached.with_suffix(".tar")
    tar = copy if copy.exists() else path
    return tar if stamp(tar.stat()) == tuple(written.tolist()) else None


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Raise StoreError that names the folder where it cannot be written, and what helps."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        free = f"{shutil.disk_usage(folder).free / 2**30:.1f} GiB free" if folder.exists() else "missing"
        raise StoreError(
            f"cannot write the shards' cache {folder} ({free}): {error.strerror or error}; "
            "make room there, or let $ABLATE_HOME name another folder"
        ) from None


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Exclusive while the block runs; on a file system without locks the atomic renames have to do.

    Raises:
        OSError: the lock file cannot be created.
    """
    path.touch()
    # filelock's replacement for a missing flock takes the file that is there already for another process's lock.
    lock = UnixFileLock(path, fallback_to_soft=False)
    with contextlib.suppress(OSError):
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
