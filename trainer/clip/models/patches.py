"""Images as sequences of patches: cutting them up, and the two ways of embedding them."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablative.trainer.clip.models.blocks import LayerNorm
from ablative.trainer.clip.models.sizes import conv_widths
from ablative.trainer.clip.models.splits import take


def patchify(images: Tensor, size: int) -> Tensor:
    """images (B,C,H,W) → (B,N,size²·C): patches row by row, inside a patch rows, columns, channels (MAE)."""
    batch, channels, height, width = images.shape
    rows, columns = height // size, width // size
    cells = images.reshape(batch, channels, rows, size, columns, size)
    return cells.permute(0, 2, 4, 3, 5, 1).reshape(batch, rows * columns, size * size * channels)


def blank(images: Tensor, hidden: Tensor, size: int) -> Tensor:
    """Images (B,3,S,S) with zeros in the patches of those numbers, int64 (B,M)."""
    grid = images.shape[-1] // size
    seen = images.new_ones(len(images), grid * grid).scatter(1, hidden, 0.0)
    return images * F.interpolate(seen.view(-1, 1, grid, grid), scale_factor=size)


class LinearStem(nn.Module):
    """One linear projection per patch (ViT). A product, not a convolution, so only kept patches cost."""

    def __init__(self, patch_size: int, width: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.project = nn.Linear(3 * patch_size**2, width)

    def forward(self, images: Tensor, keep: Tensor | None = None) -> Tensor:
        """images (B,3,S,S), keep (B,K) patch numbers or None for all → (B,K or N,D)."""
        patches = patchify(images, self.patch_size)
        return self.project(patches if keep is None else take(patches, keep))


class ConvStem(nn.Module):
    """3×3 convolutions of stride 2, doubling the width up to the tower's, then 1×1 (Xiao et al. 2021, [93]).

    Four convolutions for 16-pixel patches, three for 8. Normalises over channels at each pixel instead
    of over the batch, so that a sample's result does not depend on the micro-batch it comes in. Hidden
    patches are blanked first: receptive fields overlap, and would leak what is to be reconstructed.
    """

    def __init__(self, patch_size: int, width: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        widths = [3, *conv_widths(patch_size, width)]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1, bias=False) for a, b in pairwise(widths)
        )
        self.norms = nn.ModuleList(LayerNorm(b) for b in widths[1:])
        self.project = nn.Linear(widths[-1], width)

    def forward(self, images: Tensor, keep: Tensor | None = None) -> Tensor:
        """images (B,3,S,S), keep (B,K) patch numbers or None for all → (B,K or N,D)."""
        x = images if keep is None else self._blank(images, keep)
        x = x.contiguous(memory_format=torch.channels_last)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = F.relu(norm(convolution(x).movedim(1, -1))).movedim(-1, 1)
        patches = x.flatten(2).transpose(1, 2)
        return self.project(patches if keep is None else take(patches, keep))

    def _blank(self, images: Tensor, keep: Tensor) -> Tensor:
        grid = images.shape[-1] // self.patch_size
        seen = images.new_zeros(len(images), grid * grid).scatter(1, keep, 1.0)
        return images * F.interpolate(seen.view(-1, 1, grid, grid), scale_factor=self.patch_size)
