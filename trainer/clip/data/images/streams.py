"""Random numbers that are a function of (stream, counter): the same in any order, batch, process or library version.

A sample's numbers come from its own key, so that one sample can be drawn alone or among thousands with the
same result, and nothing depends on numpy's generators, whose streams may change between versions. The mixing
function is the finaliser of SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number
generators"), computed on whole arrays.
"""

from __future__ import annotations

import hashlib

import numpy as np

CHUNK = 2**17
"""Numbers that are looked at together where all of them would take too much memory: a megabyte stays in the caches."""
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_30, _27, _31, _11, _48 = (np.uint64(bits) for bits in (30, 27, 31, 11, 48))


def mix(x: np.ndarray) -> np.ndarray:
    """Bijection of uint64 whose output bits all depend on all input bits; wraps around."""
    x = (x ^ (x >> _30)) * _FIRST
    x = (x ^ (x >> _27)) * _SECOND
    return x ^ (x >> _31)


def stream(*parts: int | str) -> int:
    """A 64-bit stream number named by its parts, as `stream("order", seed, epoch)`."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "little")


def keys(number: int, indices: np.ndarray) -> np.ndarray:
    """One uint64 key for each index of a stream."""
    counters = np.asarray(indices).astype(np.uint64) + np.uint64(1)
    return mix(counters * _GOLDEN + np.asarray([number], np.uint64))


def words(key: np.ndarray, count: int) -> np.ndarray:
    """uint64 (n, count): the first `count` random words of each key (n,)."""
    steps = np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN
    return mix(key[:, None] + steps)


def uniforms(key: np.ndarray, count: int) -> np.ndarray:
    """float64 (n, count) in [0, 1): the first `count` numbers of each key (n,)."""
    return (words(key, count) >> _11).astype(np.float64) * 2.0**-53


def last_key(number: int, size: int, count: int) -> int:
    """The largest of the keys of the first `count` (at least 1) of `permutation(number, size)`, which is never there as
    a whole: that of 1.4 billion samples would take 30 GiB.

    These are the ones with `keys(number, i) <= last_key(…)`, since no two keys are equal. Two passes over all keys find
    it: how many begin with the same 16 bits, then the keys that begin like the one that is looked for.
    """
    starts = range(0, size, CHUNK)
    counts = np.zeros(2**16, np.int64)
    for start in starts:
        counts += np.bincount((_chunk(number, start, size) >> _48).astype(np.int64), minlength=2**16)
    ends = np.cumsum(counts)
    first = int(np.searchsorted(ends, count))
    like = []
    for start in starts:
        own = _chunk(number, start, size)
        like.append(own[own >> _48 == np.uint64(first)])
    return int(np.sort(np.concatenate(like))[count - 1 - (ends[first] - counts[first])])


def _chunk(number: int, start: int, size: int) -> np.ndarray:
    return keys(number, np.arange(start, min(start + CHUNK, size)))


def permutation(number: int, size: int) -> np.ndarray:
    """int64 (size,): a random order of 0 … size-1, the same for ever for the same stream."""
    return np.argsort(keys(number, np.arange(size)), kind="stable")
