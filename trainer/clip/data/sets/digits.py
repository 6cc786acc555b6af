"""Handwritten digits as a transfer task: real images that come with scikit-learn, nothing to download.

1,797 digits of 8×8 pixels in 17 grey levels (Alpaydin and Kaynak 1998, UCI "Optical Recognition of
Handwritten Digits", its test part), enlarged to the model's size. The split is fixed: in the package's order the
first 1,200 train, the last 597 test.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from pathlib import Path

import numpy as np
from PIL import Image

from ablative.study.core.errors import DataError, unknown
from ablative.trainer.clip.data.sets.set_files import count_of
from ablative.trainer.clip.spec.config import DatasetConfig

CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TRAIN = 1200
"""Images of the train split."""


class DigitSet:
    """The digits as an evaluation set; `train` and `test` take the first so many of each split."""

    classes: tuple[str, ...] = CLASSES
    background: tuple[str, ...] | None = None

    def __init__(self, dataset: DatasetConfig, image_size: int) -> None:
        if dataset.task:
            raise DataError(unknown("task of digits", dataset.task, (), f"data set {dataset.name}"))
        self._dataset, self._image_size = dataset, image_size

    def split(self, name: str) -> DigitSplit:
        """`train` or `test`; raises DataError where fewer samples exist than are asked for."""
        pixels, labels = _digits()
        rows = {"train": slice(0, TRAIN), "test": slice(TRAIN, None)}[name]
        pixels, labels = pixels[rows], labels[rows]
        wanted = count_of(self._dataset, name, len(labels), f"data set {self._dataset.name}")
        return DigitSplit(pixels[:wanted], labels[:wanted], self._image_size)


class DigitSplit:
    """See `evaluation.Split`."""

    captions: list[list[str]] | None = None

    def __init__(self, pixels: np.ndarray, labels: np.ndarray, image_size: int) -> None:
        """`pixels` uint8 (n, 8, 8)."""
        self.labels = labels
        self._pixels, self._image_size = pixels, image_size

    def __len__(self) -> int:
        return len(self.labels)

    def images(self, i: int) -> np.ndarray:
        """uint8 (S, S, 3), white strokes on black."""
        enlarged = Image.fromarray(self._pixels[i]).resize((self._image_size,) * 2, Image.Resampling.BICUBIC)
        return np.repeat(np.asarray(enlarged)[:, :, None], 3, axis=2)

    def masks(self, i: int) -> np.ndarray | None:
        return None


@functools.cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
    """Pixels uint8 (1797, 8, 8) in 0 … 255 and labels int64 (1797,)."""
    # Read from the package's file: importing scikit-learn takes seconds, which every task would pay.
    package = importlib.util.find_spec("sklearn")
    assert package is not None and package.origin is not None
    table = np.loadtxt(Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    return np.rint(table[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8), table[:, -1].astype(np.int64)


def fingerprint_digits() -> str:
    """Fingerprint of pixels, labels and the split."""
    pixels, labels = _digits()
    return hashlib.sha256(pixels.tobytes() + labels.tobytes() + str(TRAIN).encode()).hexdigest()[:16]
