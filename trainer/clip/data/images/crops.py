"""RandomResizedCrop whose box is a function of a sample's key (torchvision's recipe, without its generator)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ablative.trainer.clip.data.images import streams

_TRIES = 10
_RATIO = (3 / 4, 4 / 3)


@dataclass(frozen=True)
class Crops:
    """RandomResizedCrop of some samples: a random key each, from which the box is a function."""

    keys: np.ndarray
    """uint64 (n,)."""
    scale: float
    """Smallest share of the image's area."""

    def __getitem__(self, rows: slice) -> Crops:
        return Crops(self.keys[rows], self.scale)


def boxes(crops: Crops, width: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Crop boxes float64 (n, 4) as left, top, right, bottom in pixels.

    As `torchvision.transforms.RandomResizedCrop`: area uniform in [scale, 1], aspect ratio log-uniform in
    [3/4, 4/3], the first of ten tries that fits, else the largest central box of an allowed ratio.

    Args:
        width: of each image, in pixels (n,).
        height: of each image, in pixels (n,).
    """
    u = streams.uniforms(crops.keys, 4 * _TRIES).reshape(-1, _TRIES, 4)
    width, height = width.astype(np.float64)[:, None], height.astype(np.float64)[:, None]
    area = width * height * (crops.scale + (1 - crops.scale) * u[:, :, 0])
    ratio = np.exp(np.log(_RATIO[0]) + u[:, :, 1] * (np.log(_RATIO[1]) - np.log(_RATIO[0])))
    w, h = np.sqrt(area * ratio), np.sqrt(area / ratio)
    fits = (w <= width) & (h <= height)
    rows, first = np.arange(len(u)), fits.argmax(axis=1)
    found = fits[rows, first]
    central_w = np.minimum(width[:, 0], height[:, 0] * _RATIO[1])
    central_h = np.minimum(height[:, 0], width[:, 0] / _RATIO[0])
    w = np.where(found, w[rows, first], central_w)
    h = np.where(found, h[rows, first], central_h)
    left = (width[:, 0] - w) * np.where(found, u[rows, first, 2], 0.5)
    top = (height[:, 0] - h) * np.where(found, u[rows, first, 3], 0.5)
    return np.stack([left, top, left + w, top + h], axis=1)


def crop_squares(images: np.ndarray, crops: Crops) -> np.ndarray:
    """Crop and enlarge again, bilinearly: uint8 (n, S, S, 3) → uint8 (n, S, S, 3).

    A crop is never larger than its image, so that no area has to be averaged.
    """
    n, size = images.shape[:2]
    side = np.full(n, size)
    box = boxes(crops, side, side).astype(np.float32)
    step = (np.arange(size, dtype=np.float32) + 0.5) / size
    across = _taps(box[:, 0, None] + step * (box[:, 2] - box[:, 0])[:, None], size)
    down = _taps(box[:, 1, None] + step * (box[:, 3] - box[:, 1])[:, None], size)
    rows = np.arange(n)[:, None, None]
    low, high, share = down
    source = images.reshape(n, size, size * 3)
    blended = source[rows[:, 0], low].astype(np.float32)
    blended += share[..., None] * (source[rows[:, 0], high].astype(np.float32) - blended)
    blended = blended.reshape(n, size, size, 3)
    low, high, share = across
    lines = np.arange(size)[None, :, None]
    left = blended[rows, lines, low[:, None, :]]
    right = blended[rows, lines, high[:, None, :]]
    return np.rint(left + share[:, None, :, None] * (right - left)).astype(np.uint8)


def _taps(at: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two neighbouring pixels and the second one's share, for positions in pixels (n, S)."""
    at = np.clip(at - 0.5, 0, size - 1)
    low = np.floor(at).astype(np.int64)
    return low, np.minimum(low + 1, size - 1), at - low
