"""Sizes that follow from the configuration alone: shared by the modules and by their arithmetic, without torch."""

from __future__ import annotations

ROUNDING = 1e-6
"""(1 − 0.9) · 10 is 0.99…98 in binary; it should keep 1."""


def keep_count(length: float, ratio: float) -> int:
    """Elements left visible of `length`: int((1 − ratio) · length) as in MAE (49 of 196), at least one."""
    return max(1, int((1 - ratio) * length + ROUNDING))


def conv_widths(patch_size: int, width: int) -> list[int]:
    """Channels after each stride-2 convolution: as many as halve `patch_size` to 1, the last `width` wide."""
    count = patch_size.bit_length() - 1
    assert count and patch_size == 1 << count, f"patch size {patch_size} is not a power of two"
    return [max(1, width >> (count - 1 - i)) for i in range(count)]
