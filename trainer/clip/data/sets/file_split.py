"""A split of an evaluation set whose images are files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ablative.study.core.errors import DataError
from ablative.trainer.clip.data.images.pictures import check_mask, decode, resize, resize_labels, scaled, square_around


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
            mask: number of the image → uint8 (H, W) labels of the image's pixels as they are stored.
            boxes: what to show of each image, in such pixels (left, top, right, bottom); without, its central square.
        """
        self.labels = np.empty(0, dtype=np.int64) if labels is None else labels
        self.captions = captions
        self._images, self._image_size, self._mask, self._boxes = images, image_size, mask, boxes

    def __len__(self) -> int:
        return len(self._images)

    def images(self, i: int) -> np.ndarray:
        """uint8 (S, S, 3), the central square or that around the box; raises DataError where the file is missing or
        broken."""
        turn = self._mask is None and self._boxes is None
        image = decode(self.encoded(i), str(self._images[i]), turn)
        box = None if self._boxes is None else square_around(self._boxes[i], *image.size)
        return resize(image, self._image_size, box)

    def whole(self, i: int, short: int, long: int) -> np.ndarray:
        """See `evaluation.WholeImages`."""
        return scaled(decode(self.encoded(i), str(self._images[i]), self._mask is None), short, long)

    def whole_mask(self, i: int) -> np.ndarray | None:
        """See `evaluation.WholeImages`; raises as `masks` does."""
        if self._mask is None:
            return None
        labels = self._mask(i)
        check_mask(labels, self.encoded(i), str(self._images[i]))
        return labels

    def masks(self, i: int) -> np.ndarray | None:
        """uint8 (S, S) of the same square; raises DataError where the file is missing, broken or of another size."""
        labels = self.whole_mask(i)
        return None if labels is None else resize_labels(labels, self._image_size)

    def encoded(self, i: int) -> bytes:
        """See `evaluation.StoredImages`."""
        try:
            return self._images[i].read_bytes()
        except OSError as error:
            raise DataError(f"{self._images[i]}: {error.strerror}") from None
