"""Mixup, CutMix and random erasing of a batch on its device, as timm does them, from given random numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ablative.trainer.clip.spec.training_options import AugmentConfig

_TRIES = 10
ERASING_NUMBERS = 1 + 4 * _TRIES
"""Random numbers of an image: whether it loses a rectangle, then area, proportion, top and left of each try."""
_AREA = (0.02, 1 / 3)
_PROPORTION = (math.log(0.3), math.log(1 / 0.3))


@dataclass(frozen=True)
class Mixture:
    """How each image of a batch is mixed with the one at its place from the end."""

    share: float
    """Share of the image itself."""
    box: tuple[int, int, int, int] | None = None
    """CutMix: top, bottom, left and right of what is the other image's; None: the two are blended."""


def draw_mixture(options: AugmentConfig, side: int, key: int) -> Mixture | None:
    """What a batch of images of `side` pixels gets, a function of `key`; None where nothing is mixed."""
    if not (options.mixup or options.cutmix):
        return None
    generator = np.random.Generator(np.random.Philox(key))
    cut = bool(options.cutmix) and (not options.mixup or generator.random() < 0.5)
    alpha = options.cutmix if cut else options.mixup
    share = float(generator.beta(alpha, alpha))
    if not cut:
        return Mixture(share)
    y, x = (int(value) for value in generator.integers(0, side, 2))
    return cut_mixture(share, side, y, x)


def cut_mixture(share: float, side: int, y: int, x: int) -> Mixture:
    """A square around (y, x) of 1 - `share` of the area, cut off at the border: the share is what is then left."""
    length = int(side * math.sqrt(1 - share))
    top, left = max(0, y - length // 2), max(0, x - length // 2)
    bottom, right = min(side, y + (length + 1) // 2), min(side, x + (length + 1) // 2)
    return Mixture(1 - (bottom - top) * (right - left) / side**2, (top, bottom, left, right))


def mix(images: Tensor, mixture: Mixture) -> Tensor:
    """images (B,3,S,S) → the same, each with the one at its place from the end."""
    other = images.flip(0)
    if mixture.box is None:
        return images.mul(mixture.share).add_(other, alpha=1 - mixture.share)
    top, bottom, left, right = mixture.box
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = other[:, :, top:bottom, left:right]
    return mixed


def mixed_targets(labels: Tensor, classes: int, smoothing: float, mixture: Mixture) -> Tensor:
    """Probabilities float32 (B, classes) of labels int64 (B,): smoothed, and mixed as the images."""
    own = F.one_hot(labels, classes).to(torch.float32).mul_(1 - smoothing).add_(smoothing / classes)
    return own.mul(mixture.share).add_(own.flip(0), alpha=1 - mixture.share)


def erase(images: Tensor, numbers: np.ndarray, probability: float, generator: torch.Generator) -> None:
    """Fill a rectangle of some of images (B,3,S,S) with noise of deviation 1, in place.

    Args:
        numbers: uniform in [0, 1), (B, `ERASING_NUMBERS`).
        generator: of the noise, on the CPU.
    """
    for image, own in zip(images, numbers, strict=True):
        box = erased_box(own, probability, image.shape[1], image.shape[2])
        if box is not None:
            top, left, height, width = box
            noise = torch.randn(len(image), height, width, generator=generator)
            image[:, top : top + height, left : left + width] = noise.to(image)


def erased_box(numbers: np.ndarray, probability: float, height: int, width: int) -> tuple[int, int, int, int] | None:
    """Top, left, height and width of what an image loses; None where it loses nothing."""
    if numbers[0] >= probability:
        return None
    for area, proportion, down, across in numbers[1:].reshape(_TRIES, 4).tolist():
        pixels = (_AREA[0] + (_AREA[1] - _AREA[0]) * area) * height * width
        ratio = math.exp(_PROPORTION[0] + (_PROPORTION[1] - _PROPORTION[0]) * proportion)
        h, w = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if h < height and w < width:
            return int(down * (height - h + 1)), int(across * (width - w + 1)), h, w
    return None
