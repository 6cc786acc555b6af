"""Test images with what a model makes of them, kept with an evaluation for figures (`study.home.panel_pictures`)."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from ablative.study.core.files import write_atomic
from ablative.study.home.paths import TaskPaths
from ablative.trainer.clip.protocols.parts.masks import IGNORE
from ablative.trainer.clip.spec.panel_pictures import pictures_path

EXAMPLES = 6
LARGEST = 256
"""Side of the squares, in pixels, that larger images are reduced to."""
BACKGROUND = "background"
_WHITE = 255


def keep(task: TaskPaths, dataset: str, arrays: Mapping[str, Any]) -> None:
    """Write the archive of a data set in one step."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_atomic(pictures_path(task, dataset), buffer.getvalue())


def examples(size: int) -> list[int]:
    """The same samples for every model, spread over the split.

    >>> examples(12), examples(4)
    ([0, 2, 4, 6, 8, 10], [0, 1, 2, 3])
    """
    return spread(size, EXAMPLES)


def spread(size: int, count: int) -> list[int]:
    """At most `count` of `size` samples, evenly spaced: published sets are sorted by class."""
    count = min(count, size)
    return [i * size // count for i in range(count)]


def names(classes: Sequence[str]) -> np.ndarray:
    """Names of label 0 and of the classes, each the first of its synonyms."""
    return np.array([BACKGROUND, *(name.split(",")[0] for name in classes)])


class Squares:
    """Whole images of any sizes as squares of one side: reduced to fit, in the upper left corner."""

    def __init__(self, sizes: list[tuple[int, int]]) -> None:
        """`sizes`: height and width of each image."""
        self.side = min(LARGEST, max(max(size) for size in sizes))
        self._sizes = sizes

    def scale(self, i: int) -> float:
        """Side of a square's pixel over that of image i."""
        return min(1.0, self.side / max(self._sizes[i]))

    def image(self, i: int, pixels: np.ndarray) -> np.ndarray:
        """uint8 (H, W, 3) → (S, S, 3), white where there is no image."""
        square = np.full((self.side, self.side, 3), _WHITE, dtype=np.uint8)
        height, width = self._fitted(i)
        own = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
        square[:height, :width] = np.asarray(own)
        return square

    def labels(self, i: int, labels: np.ndarray) -> np.ndarray:
        """Labels (h, w) of a whole image, maybe of another size → uint8 (S, S); 255 where there is no image."""
        square = np.full((self.side, self.side), IGNORE, dtype=np.uint8)
        height, width = self._fitted(i)
        own = Image.fromarray(labels.astype(np.uint8)).resize((width, height), Image.Resampling.NEAREST)
        square[:height, :width] = np.asarray(own)
        return square

    def _fitted(self, i: int) -> tuple[int, int]:
        height, width = (max(1, round(self.scale(i) * length)) for length in self._sizes[i])
        return height, width
