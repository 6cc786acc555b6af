"""UPerNet's head (Xiao et al. 2018, arXiv 1807.10221) and an auxiliary one, as mmsegmentation has them for BEiT."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

POOLS = (1, 2, 3, 6)
"""Grids of the pyramid pooling."""
DROPOUT = 0.1
"""How often training leaves a channel out before the classes."""


class Convolution(nn.Sequential):
    """Convolution, BatchNorm and ReLU at one resolution: (B,in,h,w) → (B,out,h,w)."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
        )


class UperHead(nn.Module):
    """Pyramid pooling on the coarsest map, a feature pyramid from there to the finest, and classes on all of them."""

    def __init__(self, inputs: int, levels: int, width: int, classes: int) -> None:
        super().__init__()
        self.pools = nn.ModuleList(Convolution(inputs, width, 1) for _ in POOLS)
        self.pooled = Convolution(inputs + len(POOLS) * width, width, 3)
        self.lateral = nn.ModuleList(Convolution(inputs, width, 1) for _ in range(levels - 1))
        self.smooth = nn.ModuleList(Convolution(width, width, 3) for _ in range(levels - 1))
        self.fused = Convolution(levels * width, width, 3)
        self.dropout = nn.Dropout2d(DROPOUT)
        self.classify = nn.Conv2d(width, classes, 1)
        initialise(self)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Maps (B,D,h,w), the finest first → logits (B,C,h,w) at the finest."""
        coarse = maps[-1]
        grids = [pool(F.adaptive_avg_pool2d(coarse, side)) for side, pool in zip(POOLS, self.pools, strict=True)]
        levels = [self.pooled(torch.cat([coarse, *(enlarged(grid, coarse.shape[2:]) for grid in grids)], 1))]
        for lateral, level in zip(reversed(self.lateral), reversed(maps[:-1]), strict=True):
            levels.insert(0, lateral(level) + enlarged(levels[0], level.shape[2:]))
        smoothed = [smooth(level) for smooth, level in zip(self.smooth, levels[:-1], strict=True)]
        size = levels[0].shape[2:]
        fused = self.fused(torch.cat([enlarged(level, size) for level in (*smoothed, levels[-1])], 1))
        return self.classify(self.dropout(fused))


class FcnHead(nn.Module):
    """A convolution and classes on one map (Long et al. 2015), whose loss is added while training."""

    def __init__(self, inputs: int, width: int, classes: int) -> None:
        super().__init__()
        self.convolution = Convolution(inputs, width, 3)
        self.dropout = nn.Dropout2d(DROPOUT)
        self.classify = nn.Conv2d(width, classes, 1)
        initialise(self)

    def forward(self, level: Tensor) -> Tensor:
        """(B,D,h,w) → logits (B,C,h,w)."""
        return self.classify(self.dropout(self.convolution(level)))


def initialise(head: nn.Module) -> None:
    """He's normal weights for what a ReLU follows, deviation 0.01 for classes; from torch's global generator."""
    for module in head.modules():
        if isinstance(module, nn.Conv2d) and module.bias is None:
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]


def enlarged(x: Tensor, size: tuple[int, ...] | torch.Size) -> Tensor:
    """(B,C,h,w) → (B,C,*size), bilinear."""
    return x if x.shape[2:] == size else F.interpolate(x, size=size, mode="bilinear", align_corners=False)
