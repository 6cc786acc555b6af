"""Which samples of shards are pairs, worked out shard by shard: 1.4 billion numbers take 11 GiB in each process."""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Iterator

import numpy as np

from ablative.study.core.errors import UnfitDataError
from ablative.study.core.files import replacing
from ablative.study.core.identity import canonical, digest
from ablative.study.home.paths import Home
from ablative.trainer.clip.data.images import streams
from ablative.trainer.clip.data.shards.exclusion import SampleBits, kept_pairs, runs
from ablative.trainer.clip.data.shards.shard_files import ShardFiles
from ablative.trainer.clip.data.shards.shard_index import writing
from ablative.trainer.clip.spec.config import DataConfig

_LOOKED_UP = 256
"""Shards of which the rows stay in memory."""
_KEPT_FROM = 2**24
"""A choice among more samples than this takes so long that it is kept in the cache."""


class Selection:
    """The samples that `exclude` and `exclude_images` leave, or the first `pairs` of a fixed shuffle of these.

    A smaller subset of the same seed lies within a larger one. In memory is a number for each shard.
    """

    def __init__(self, files: ShardFiles, kept: SampleBits | None, data: DataConfig, home: Home) -> None:
        """`kept`: the samples that are not excluded; None: all."""
        self._kept, self._home = kept, home
        self._left = files.sizes if kept is None else kept.counts
        self._left_firsts = np.cumsum(self._left) - self._left
        self._firsts = np.cumsum(files.sizes) - files.sizes
        self._file_sizes = files.sizes
        count = int(self._left.sum())
        self._pairs = data.pairs if data.pairs < count else 0
        self._stream = streams.stream("subset", data.seed)
        self._forget()

    @functools.cached_property
    def sizes(self) -> np.ndarray:
        """int64 (shards,): how many pairs lie in each."""
        return self._drawn[1:].astype(np.int64) if self._pairs else self._left

    @functools.cached_property
    def _ends(self) -> np.ndarray:
        return np.cumsum(self.sizes)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if name != "_rows"}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state)
        self._forget()

    def number(self, i: int) -> int:
        """Which sample of all shards pair `i` is."""
        shard = int(np.searchsorted(self._ends, i, side="right"))
        return int(self._firsts[shard] + self._rows(shard)[i - (self._ends[shard] - self.sizes[shard])])

    def _forget(self) -> None:
        self._rows = functools.lru_cache(_LOOKED_UP)(self._of_shard)

    def _of_shard(self, shard: int) -> np.ndarray:
        """int32 (n,), ascending: rows of the pairs in a shard."""
        rows = np.arange(self._file_sizes[shard], dtype=np.int32)
        if self._kept is not None:
            rows = rows[self._kept.of(shard)]
        if self._pairs:
            first = int(self._left_firsts[shard])
            rows = rows[self._chosen(first, first + len(rows))]
        return rows

    def _chosen(self, start: int, end: int) -> np.ndarray:
        """bool (end - start,): these of the samples that are left are in the subset."""
        chosen: np.ndarray = streams.keys(self._stream, np.arange(start, end)) <= self._drawn[0]
        return chosen

    @functools.cached_property
    def _drawn(self) -> np.ndarray:
        """uint64 (1 + shards,): the largest key of a sample of the subset, and how many of them each shard has."""
        count = int(self._left.sum())
        if count <= _KEPT_FROM:
            return self._draw(count)
        shards = hashlib.sha256(self._left.astype("<i8").tobytes()).hexdigest()
        cached = self._home.kept_pairs(digest(canonical(["subset", self._stream, self._pairs, shards])))
        with contextlib.suppress(OSError, ValueError, EOFError):
            found: np.ndarray = np.load(cached, allow_pickle=False)
            if found.dtype == np.uint64 and found.shape == (1 + len(self._left),):
                return found
        found = self._draw(count)
        with writing(cached.parent), replacing(cached) as file:
            np.save(file, found)
        return found

    def _draw(self, count: int) -> np.ndarray:
        last = np.uint64(streams.last_key(self._stream, count, self._pairs))
        return np.array([last, *self._counts(last)], np.uint64)

    def _counts(self, last: np.uint64) -> Iterator[int]:
        """How many samples of each shard have no larger key."""
        ends = np.cumsum(self._left)
        for shards in runs(self._left):
            start = int(ends[shards.start] - self._left[shards.start])
            chosen = streams.keys(self._stream, np.arange(start, ends[shards.stop - 1])) <= last
            totals = np.concatenate([[0], np.cumsum(chosen)])[ends[shards] - start]
            yield from np.diff(totals, prepend=0).tolist()


def subset(files: ShardFiles, data: DataConfig, home: Home) -> Selection | None:
    """The samples that `data` takes; None: all. Raises UnfitDataError where there are too few."""
    kept = kept_pairs(files, data, home)
    count = len(files) if kept is None else int(kept.counts.sum())
    if data.pairs > count:
        words = " and ".join(key for key in ("exclude", "exclude_images") if getattr(data, key))
        verb = "leave" if " and " in words else "leaves"
        left_out = f", of which {words} {verb} {count}" if kept is not None else ""
        raise UnfitDataError(
            f"data '{data.name}': data.pairs={data.pairs}, but the shards hold {len(files)} samples{left_out}"
        )
    return None if kept is None and data.pairs in (0, count) else Selection(files, kept, data, home)
