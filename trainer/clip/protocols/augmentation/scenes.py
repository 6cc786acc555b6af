"""Augmentation of images with masks: scale, crop, flip, and colours as mmsegmentation's PhotoMetricDistortion."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ablative.trainer.clip.objectives.augmentation import turn_hue
from ablative.trainer.clip.spec.training_options import UpernetConfig

IGNORE = 255
"""Label of pixels that count for nothing."""
TRIES = 10
CROP_NUMBERS = 2 * TRIES + 1
"""Random numbers of a crop: top and left of each try, then whether it is flipped."""
COLOUR_NUMBERS = 9
"""Random numbers of an image's colours: for brightness, contrast, saturation and hue whether and how much, and when."""
_GREY = 128
_SHIFT, _SPREAD, _TURN = 32 / 255, 0.5, 0.1


def cut(image: np.ndarray, labels: np.ndarray, numbers: np.ndarray, options: UpernetConfig) -> tuple[np.ndarray, ...]:
    """A square of the options' side: uint8 (H,W,3) and labels (H,W) → (S,S,3) and (S,S); what is missing is ignored.

    Of ten places the first is taken in which no label but `IGNORE` has more than `most` of the pixels, else the last.
    `numbers` are uniform in [0, 1), (`CROP_NUMBERS`,).
    """
    side = options.side
    height, width = labels.shape
    image = np.pad(image, ((0, max(0, side - height)), (0, max(0, side - width)), (0, 0)), constant_values=_GREY)
    labels = np.pad(labels, ((0, max(0, side - height)), (0, max(0, side - width))), constant_values=IGNORE)
    room = max(0, height - side) + 1, max(0, width - side) + 1
    for down, across in numbers[:-1].reshape(TRIES, 2).tolist():
        top, left = int(down * room[0]), int(across * room[1])
        square = labels[top : top + side, left : left + side]
        counts = np.bincount(square[square != IGNORE], minlength=1)
        if (counts > 0).sum() > 1 and counts.max() < options.most * counts.sum():
            break
    pixels = image[top : top + side, left : left + side]
    if numbers[-1] < 0.5:
        pixels, square = pixels[:, ::-1], square[:, ::-1]
    return pixels, square


def scaled_labels(labels: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 (H,W) → (height, width), nearest pixel."""
    return np.array(Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST))


@torch.no_grad()
def distort(images: Tensor, numbers: Tensor) -> Tensor:
    """images (B,3,S,S) in [-1,1] → the same with other colours, by numbers uniform in [0,1), (B, `COLOUR_NUMBERS`).

    Each of four changes is made to every other image: a shift of brightness by up to 32 of 255, contrast (a factor of
    0.5 to 1.5 on pixels) before or after the rest, saturation by such a factor, hue by up to a tenth of the circle.
    """
    amounts = 2 * numbers[:, 1:8:2] - 1
    amounts = torch.where(numbers[:, 0:8:2] < 0.5, amounts, 0.0)
    shift, contrast, saturation, hue = amounts.to(images).view(-1, 4, 1, 1, 1).unbind(1)
    first = (numbers[:, 8] < 0.5).to(images.device).view(-1, 1, 1, 1)
    factor = 1 + _SPREAD * contrast
    x = images.add(1).div_(2).add_(_SHIFT * shift).clamp_(0, 1)
    x = torch.where(first, x * factor, x).clamp_(0, 1)
    x = saturate(x, 1 + _SPREAD * saturation)
    x = turn_hue(x, (_TURN * hue).flatten())
    x = torch.where(first, x, x * factor).clamp_(0, 1)
    return x.mul_(2).sub_(1)


def saturate(x: Tensor, factors: Tensor) -> Tensor:
    """x (B,3,S,S) in [0,1] with its HSV saturation times factors (B,1,1,1), at most 1; hue and value stay."""
    high = x.amax(1, keepdim=True)
    span = high - x.amin(1, keepdim=True)
    most = high / span.masked_fill(span == 0, 1)
    return high - torch.minimum(factors, most.masked_fill(span == 0, 1)) * (high - x)
