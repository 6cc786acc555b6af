"""A validation split for sets that come without one: every fifth training sample, held back from training.

A search chooses by it, so that the test split stays untouched until the report.
"""

from __future__ import annotations

import numpy as np

from ablative.trainer.clip.data.sets.evaluation import EvaluationSet, Split, StoredImages

EVERY = 5


class HoldOut:
    """An evaluation set whose `train` lacks the samples that its `test` consists of; see `evaluation.EvaluationSet`."""

    def __init__(self, inner: EvaluationSet) -> None:
        self.classes, self.background = inner.classes, inner.background
        self._inner = inner

    def split(self, name: str) -> Split:
        """`train`: four of five training samples; `test`: the others. Raises as the set does without training data."""
        train = self._inner.split("train")
        held = np.arange(len(train)) % EVERY == EVERY - 1
        return Rows(train, np.flatnonzero(held if name == "test" else ~held))


class Rows:
    """Some samples of a split."""

    def __init__(self, split: Split, rows: np.ndarray) -> None:
        """`rows`: int64 (n,), numbers in `split`."""
        self._split, self._rows = split, rows
        self.labels = split.labels[rows] if len(split.labels) else split.labels

    @property
    def captions(self) -> list[list[str]] | None:
        captions = self._split.captions
        return None if captions is None else [captions[row] for row in self._rows]

    def __len__(self) -> int:
        return len(self._rows)

    def images(self, i: int) -> np.ndarray:
        return self._split.images(int(self._rows[i]))

    def encoded(self, i: int) -> bytes:
        """See `evaluation.StoredImages`; only where the whole split has it."""
        assert isinstance(self._split, StoredImages)
        return self._split.encoded(int(self._rows[i]))

    def masks(self, i: int) -> np.ndarray | None:
        return self._split.masks(int(self._rows[i]))
