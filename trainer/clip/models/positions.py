"""Positions of image patches: fixed ones, and those of one grid on another."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def sincos_2d(width: int, side: int) -> Tensor:
    """2-D sine-cosine positions of a side × side grid, row-major → (side², width) float32.

    As MAE's `util/pos_embed.py`: the first half of the channels encodes the column, the second the
    row, each as [sin, cos] at frequencies 10000^(−k/(width/4)). (big_vision and MoCo-v3 divide by
    width/4 − 1, which is another encoding.) `width` must be a multiple of 4.
    """
    assert width % 4 == 0, width
    rates = 10000.0 ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    steps = torch.arange(side, dtype=torch.float64)
    angles = steps[:, None] * rates
    line = torch.cat([angles.sin(), angles.cos()], dim=1)
    columns = line[None, :, :].expand(side, side, -1)
    rows = line[:, None, :].expand(side, side, -1)
    return torch.cat([columns, rows], dim=-1).flatten(0, 1).float()


def resampling(side: int, rows: int, columns: int) -> Tensor:
    """Matrix (rows · columns, side²) that takes values on a side × side grid to one of another size.

    Bicubic with antialiasing, as timm's `resample_abs_pos_embed`. A product is the same on every device and in both
    directions, which a kernel that interpolates is not.
    """
    units = torch.eye(side * side).view(-1, 1, side, side)
    return F.interpolate(units, size=(rows, columns), mode="bicubic", antialias=True).flatten(1).T.contiguous()


def fixed_positions(width: int, side: int, grid: int = 0) -> Tensor:
    """`sincos_2d` of a side × side grid, (side², width); of a `grid` of another size: those of that one, resampled."""
    return sincos_2d(width, side) if grid in (0, side) else resampling(grid, side, side) @ sincos_2d(width, grid)
