"""Windows that slide over an image, as mmsegmentation's `slide_inference` has them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

BATCH = 32
"""Windows of one forward pass."""


def starts(length: int, window: int, stride: int) -> list[int]:
    """Where windows begin along a side of so many pixels; the last one ends with it.

    >>> starts(512, 224, 112), starts(224, 224, 112)
    ([0, 112, 224, 288], [0])
    """
    return [min(i * stride, length - window) for i in range(-(-(length - window) // stride) + 1)]


def slide(image: Tensor, window: int, stride: int, score: Callable[[Tensor], Tensor]) -> Tensor:
    """Scores of every pixel, the mean over the windows that hold it: float32 (3,H,W) → (P,H,W).

    An image with a side below the window's is continued with 0, the mean colour, of which no score is kept.

    Args:
        score: windows (B,3,S,S) → score maps of any resolution (B,P,h,w).
    """
    height, width = image.shape[1:]
    image = F.pad(image, (0, max(0, window - width), 0, max(0, window - height)))
    places = [
        (top, left) for top in starts(image.shape[1], window, stride) for left in starts(image.shape[2], window, stride)
    ]
    total, count = None, image.new_zeros(image.shape[1:])
    for first in range(0, len(places), BATCH):
        batch = places[first : first + BATCH]
        cut = torch.stack([image[:, top : top + window, left : left + window] for top, left in batch])
        for (top, left), maps in zip(batch, score(cut), strict=True):
            if total is None:
                total = image.new_zeros(len(maps), *image.shape[1:])
            rows, columns = slice(top, top + window), slice(left, left + window)
            total[:, rows, columns] += _enlarged(maps, window)
            count[rows, columns] += 1
    assert total is not None
    return (total / count)[:, :height, :width]


def _enlarged(maps: Tensor, side: int) -> Tensor:
    return F.interpolate(maps[None], size=(side, side), mode="bilinear", align_corners=False)[0]
