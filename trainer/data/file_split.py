"""A split of an evaluation set whose images are files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from study.errors import DataError
from trainer.data.pictures import decode, resize, resize_labels, square_around


class FileSplit:
    """See `evaluation.Split`."""

    def __init__(
        self,
        images: Sequence[Path],
        image_size: int,
        labels: np.ndarray | None = None,
        captions: list[list[str]] | None = None,
        mask: Callable[[int], np.ndarray] | None = None,
        boxes: Sequence[tuple[float, float, float, float]] | None = None,
    ) -> None:
        """
        Args:
            labels: int64 (n,).
            mask: number of the image → uint8 (H, W) labels at the image's own size.
            boxes: what to show of each image, in pixels (left, top, right, bottom); without, its central square.
        """
        self.labels = np.empty(0, dtype=np.int64) if labels is None else labels
        self.captions = captions
        self._images, self._image_size, self._mask, self._boxes = images, image_size, mask, boxes

    def __len__(self) -> int:
        return len(self._images)

    def images(self, i: int) -> np.ndarray:
        """uint8 (S, S, 3), the central square or that around the box; raises DataError where the file is missing or
        broken."""
        path = self._images[i]
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}") from None
        image = decode(content, str(path))
        box = None if self._boxes is None else square_around(self._boxes[i], *image.size)
        return resize(image, self._image_size, box)

    def masks(self, i: int) -> np.ndarray | None:
        """uint8 (S, S) of the same square; raises DataError where the file is missing or broken."""
        return None if self._mask is None else resize_labels(self._mask(i), self._image_size)
