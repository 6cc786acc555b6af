"""One row for each image of a split, computed once and then read at random, from memory or from a file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

MEMORY_BYTES = 2 * 2**30
"""Larger arrays live in a file; the tokens of CLEVR's images are 20 GB."""


def gathered(blocks: Iterable[np.ndarray], rows: int, folder: Path) -> np.ndarray:
    """Blocks (b, …) one below the other: (rows, …).

    Args:
        blocks: at least one, together `rows` rows of one shape and type.
        folder: where the file lies if there is one. It has no name, so it goes with the array, however that ends.
    """
    parts: Iterator[np.ndarray] = iter(blocks)
    first = next(parts)
    whole = _room((rows, *first.shape[1:]), first.dtype, folder)
    whole[: len(first)] = first
    end = len(first)
    for block in parts:
        whole[end : end + len(block)] = block
        end += len(block)
    assert end == rows, (end, rows)
    return whole


def _room(shape: tuple[int, ...], dtype: np.dtype, folder: Path) -> np.ndarray:
    if int(np.prod(shape, dtype=np.int64)) * dtype.itemsize <= MEMORY_BYTES:
        return np.empty(shape, dtype)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        return np.memmap(file, dtype=dtype, mode="w+", shape=shape)
