"""A batch of training pairs as tensors, and its pixels as the model takes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Images and captions of the same samples, row by row."""

    images: Tensor
    """uint8 (B, S, S, 3): a quarter of what `to_pixels` makes of them, which is left to the device that trains."""
    tokens: Tensor
    """int64 (B, L): `BOS … EOS`, then `PAD` up to the context length."""
    views: Tensor | None = None
    """uint8 (V, B, S, S, 3): further crops of the same images, where the objective asks for them."""

    def __len__(self) -> int:
        return len(self.images)


def to_pixels(images: Tensor | np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """uint8 (B, S, S, 3) → float32 (B, 3, S, S) in [-1, 1] on `device`.

    That is pixels in [0, 1] with mean 0.5 and deviation 0.5 taken out.
    """
    planes = torch.as_tensor(images).to(device, non_blocking=True).permute(0, 3, 1, 2)
    return planes.to(torch.float32, memory_format=torch.contiguous_format).div_(127.5).sub_(1.0)
