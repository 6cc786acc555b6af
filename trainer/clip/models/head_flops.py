"""Arithmetic of heads on feature maps in closed form, as `flops` counts: forward passes of one image.

A tower with N patches has four maps of 16 N, 4 N, N and N/4 cells, by BEiT's neck.
"""

from __future__ import annotations

from ablative.trainer.clip.spec.training_options import DetectionConfig, UpernetConfig

CELLS = 16 + 4 + 1
"""Cells of the three finest maps, over the patches."""
_POOLED = 1 + 4 + 9 + 36
_ON_OBJECTS = 0.25
"""Share of a training image's regions that masks are learned on."""


def neck_flops(width: int, patches: float) -> float:
    """Three transposed convolutions of 2 × 2: one on N cells and one on 4 N, then one on N."""
    return 8.0 * width**2 * (patches + 4 * patches + patches)


def upernet_flops(width: int, patches: float, options: UpernetConfig) -> float:
    """Pyramid pooling, laterals, 3 × 3 convolutions and the auxiliary head; classes are left out."""
    own = options.width
    pooling = 2.0 * width * own * _POOLED + 18.0 * (width + 4 * own) * own * patches / 4
    lateral = 2.0 * width * own * CELLS * patches
    convolutions = 18.0 * own**2 * CELLS * patches + 18.0 * 4 * own**2 * 16 * patches
    return pooling + lateral + convolutions + 18.0 * width * options.auxiliary_width * patches


def mask_rcnn_flops(width: int, patches: float, options: DetectionConfig) -> float:
    """Feature pyramid, proposals, and the heads of boxes and masks; classes are left out."""
    own, cells = options.width, (CELLS + 0.25) * patches
    pyramid = 2.0 * width * own * cells + 18.0 * own**2 * cells
    proposals = 18.0 * own**2 * cells
    boxes = options.regions * 2.0 * (49 * own * options.hidden + options.hidden**2)
    masks = _ON_OBJECTS * options.regions * 196 * (4 * 18.0 * own**2 + 8.0 * own**2)
    return pyramid + proposals + boxes + masks
