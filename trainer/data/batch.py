"""What the training loop eats."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

PAD, BOS, EOS, UNK = 0, 1, 2, 3
"""Token ids with a meaning of their own."""


@dataclass(frozen=True)
class Batch:
    """Images and captions of the same samples, row by row."""

    images: Tensor
    """float32 (B, 3, S, S) in [-1, 1]: pixels in [0, 1] with mean 0.5 and deviation 0.5 taken out."""
    tokens: Tensor
    """int64 (B, L): `BOS … EOS`, then `PAD` up to the context length."""

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: slice | Tensor) -> Batch:
        """The micro-batch of these rows (a view, of a slice)."""
        return Batch(self.images[rows], self.tokens[rows])

    def to(self, device: torch.device | str) -> Batch:
        return Batch(self.images.to(device, non_blocking=True), self.tokens.to(device, non_blocking=True))


def to_tensor(images: np.ndarray) -> Tensor:
    """uint8 (B, S, S, 3) → float32 (B, 3, S, S) in [-1, 1]."""
    planes = torch.from_numpy(images).permute(0, 3, 1, 2)
    return planes.to(torch.float32, memory_format=torch.contiguous_format).div_(127.5).sub_(1.0)
