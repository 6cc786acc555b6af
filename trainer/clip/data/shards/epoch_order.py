"""The order of an epoch over shards, worked out where it is asked for.

Of 1.4 billion pairs the whole order would be 11 GiB in every process of every run, and a quarter of an hour's sorting.
"""

from __future__ import annotations

import functools

import numpy as np

from ablative.trainer.clip.data.images import streams

WINDOW = 131_072
"""Samples are shuffled within groups of whole shards of at least this size: smaller data is shuffled altogether, and
larger data is read from a few shards at a time."""


class ShardOrder:
    """Every sample once: randomly dealt groups of shards one after the other, each shuffled within."""

    def __init__(self, sizes: np.ndarray, seed: int, epoch: int) -> None:
        """`sizes` int64 (shards,): samples of each shard, which are numbered through."""
        self._sizes, self._starts = sizes, np.cumsum(sizes) - sizes
        self._stream = streams.stream("pairs", seed, epoch)
        dealt = streams.permutation(streams.stream("shards", seed, epoch), len(sizes))
        group = (np.cumsum(sizes[dealt]) - sizes[dealt]) // WINDOW
        self._groups = np.split(dealt, np.flatnonzero(np.diff(group)) + 1)
        self._ends = np.cumsum([sizes[shards].sum() for shards in self._groups])
        self._order = functools.lru_cache(2)(self._shuffled)

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        """Samples int64 (n,) at `places` int64 (n,) of the epoch, counted from 0."""
        groups = np.searchsorted(self._ends, places, side="right")
        found = np.empty(len(places), np.int64)
        for number in np.unique(groups).tolist():
            here = groups == number
            order = self._order(number)
            found[here] = order[places[here] - (self._ends[number] - len(order))]
        return found

    def _shuffled(self, number: int) -> np.ndarray:
        shards = np.sort(self._groups[number])
        samples = np.concatenate([self._starts[shard] + np.arange(self._sizes[shard]) for shard in shards])
        return samples[np.argsort(streams.keys(self._stream, samples), kind="stable")]
