"""Scores of queries against candidates, with exact ties where candidates are equal."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

CHUNK_SCORES = 1 << 24
"""Scores held at once: 64 MiB of float32."""


def score_chunks(queries: np.ndarray, candidates: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Inner products, a block of queries at a time: (rows of the block, float32 (rows, len(candidates))).

    Equal candidates get bit-identical scores: each distinct one is multiplied once, because the last bits of
    a product depend on its column in the matrix.

    Args:
        queries: float32 (n, E).
        candidates: float32 (c, E).
    """
    distinct, place = distinct_rows(candidates)
    columns = np.ascontiguousarray(distinct.T)
    rows = max(1, CHUNK_SCORES // len(candidates))
    for start in range(0, len(queries), rows):
        block = slice(start, min(start + rows, len(queries)))
        yield block, (queries[block] @ columns)[:, place]


def distinct_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(distinct, place) with ``distinct[place]`` equal to `rows` (n, m); rows are compared bit by bit.

    `np.unique` with an axis makes a record type of m fields, which is slow from some hundred columns on.
    """
    rows = np.ascontiguousarray(rows)
    whole = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).reshape(-1)
    _, first, place = np.unique(whole, return_index=True, return_inverse=True)
    return rows[first], place.reshape(-1)
