"""RandAugment (Cubuk et al. 2020, arXiv 1909.13719) with the operations and ranges of timm's `rand-m9-mstd0.5-inc1`.

That is what MAE, BEiT and DeiT fine-tune with: 15 operations, of which each makes an image the less like itself the
greater the magnitude; an operation of those drawn is done with probability ½.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from ablative.trainer.clip.spec.training_options import AugmentConfig

NUMBERS = 4
"""Random numbers of an operation: which one, whether it is done, magnitude, sign."""
_PROBABILITY = 0.5
_FULL = 10.0
"""Greatest magnitude."""
_GREY = (128, 128, 128)
"""What comes in from outside the image: the mean of pixels that are scaled to [-1, 1]."""
_NORMAL = NormalDist()
_TINY = 1e-12

Operation = Callable[[Image.Image, float, float], Image.Image]
"""Image, strength in [0, 1] and sign (1 or -1) → image."""


def rand_augment(image: Image.Image, numbers: np.ndarray, options: AugmentConfig) -> Image.Image:
    """An RGB image after as many operations as there are rows in `numbers`, uniform in [0, 1), (n, `NUMBERS`)."""
    for which, done, level, side in numbers.tolist():
        if done < _PROBABILITY:
            magnitude = options.magnitude + options.magnitude_std * _NORMAL.inv_cdf(min(max(level, _TINY), 1 - _TINY))
            strength = min(max(magnitude, 0.0), _FULL) / _FULL
            image = OPERATIONS[int(which * len(OPERATIONS))](image, strength, 1.0 if side < 0.5 else -1.0)
    return image


def _moved(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    """Each pixel (x, y) is that at (a x + b y + c, d x + e y + f) before."""
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, resample=Image.Resampling.BICUBIC, fillcolor=_GREY
    )


def _rotate(image: Image.Image, strength: float, sign: float) -> Image.Image:
    return image.rotate(sign * 30 * strength, resample=Image.Resampling.BICUBIC, fillcolor=_GREY)


def _posterize(image: Image.Image, strength: float, sign: float) -> Image.Image:
    # At full strength nothing would be left, which Pillow refuses.
    return ImageOps.posterize(image, max(1, 4 - int(4 * strength)))


def _solarize(image: Image.Image, strength: float, sign: float) -> Image.Image:
    return ImageOps.solarize(image, 256 - int(256 * strength))


def _solarize_add(image: Image.Image, strength: float, sign: float) -> Image.Image:
    added = int(110 * strength)
    return image.point([value if value >= 128 else min(255, value + added) for value in range(256)] * 3)


def _enhanced(kind: Callable[[Image.Image], ImageEnhance._Enhance]) -> Operation:
    """Factor 1 ± 0.9 at full strength: colour, contrast, brightness or sharpness."""

    def enhance(image: Image.Image, strength: float, sign: float) -> Image.Image:
        return kind(image).enhance(max(0.1, 1 + sign * 0.9 * strength))

    return enhance


OPERATIONS: tuple[Operation, ...] = (
    lambda image, strength, sign: ImageOps.autocontrast(image),
    lambda image, strength, sign: ImageOps.equalize(image),
    lambda image, strength, sign: ImageOps.invert(image),
    _rotate,
    _posterize,
    _solarize,
    _solarize_add,
    _enhanced(ImageEnhance.Color),
    _enhanced(ImageEnhance.Contrast),
    _enhanced(ImageEnhance.Brightness),
    _enhanced(ImageEnhance.Sharpness),
    lambda image, strength, sign: _moved(image, (1, sign * 0.3 * strength, 0, 0, 1, 0)),
    lambda image, strength, sign: _moved(image, (1, 0, 0, sign * 0.3 * strength, 1, 0)),
    lambda image, strength, sign: _moved(image, (1, 0, sign * 0.45 * strength * image.width, 0, 1, 0)),
    lambda image, strength, sign: _moved(image, (1, 0, 0, 0, 1, sign * 0.45 * strength * image.height)),
)
"""The order is timm's: what depends on no strength, turns, tones, factors, shears and shifts."""
