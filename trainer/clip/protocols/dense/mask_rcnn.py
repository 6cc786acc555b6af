"""torchvision's Mask R-CNN on a plain image tower with BEiT's neck and a feature pyramid; numbers are mmdetection's.

It imports torchvision, which `operators.load_torchvision` has to load first.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from ablative.trainer.clip.models.towers import ImageTower
from ablative.trainer.clip.protocols.dense.trunk import INPUTS as TRUNK_INPUTS
from ablative.trainer.clip.protocols.dense.trunk import LEVELS, PyramidTrunk
from ablative.trainer.clip.spec.training_options import DetectionConfig

INPUTS = tuple(f"backbone.{name}" for name in TRUNK_INPUTS)
"""Parameters before the blocks."""
_BOX_GRID, _MASK_GRID = 7, 14
_PROPORTIONS = (0.5, 1.0, 2.0)
_HALF = [0.5, 0.5, 0.5]
"""Mean and deviation of pixels in [0, 1] that the tower takes out (`to_pixels`)."""


class Pyramid(nn.Module):
    """Images (B,3,H,W) → five maps of `out_channels`, each of half the resolution of the one before."""

    def __init__(self, image: ImageTower, width: int, drop_path: float, bf16: bool) -> None:
        super().__init__()
        self.trunk = PyramidTrunk(image, drop_path)
        self.pyramid = FeaturePyramidNetwork([self.trunk.width] * LEVELS, width, extra_blocks=LastLevelMaxPool())
        self.out_channels = width
        self._bf16, self._drop_path = bf16, drop_path

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """While training, which residual branches are left out comes from torch's global generator on the CPU."""
        paths = None
        if self.training and self._drop_path:
            paths = torch.rand(len(images), 2 * len(self.trunk.image.trunk.blocks)).to(images.device)
        # Boxes do not survive bf16.
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self._bf16):
            maps = self.trunk(images, paths)
        found: dict[str, Tensor] = self.pyramid({str(level): each.float() for level, each in enumerate(maps)})
        return found


def mask_rcnn(
    image: ImageTower, classes: int, options: DetectionConfig, drop_path: float, bf16: bool = False
) -> MaskRCNN:
    """The model for so many classes besides the background, whose label is 0; weights that are new come from torch's
    global generator.

    It takes images (3,H,W) in [0,1] of any sizes, with targets while it trains, as torchvision documents.
    """
    patch, width = image.stem.patch_size, options.width
    levels = [str(level) for level in range(LEVELS)]
    scales = [
        options.anchor_scale * patch * 2.0 ** (i / options.scales_per_octave) for i in range(options.scales_per_octave)
    ]
    anchors = tuple(tuple(scale * 2.0 ** (level - 2) for scale in scales) for level in range(LEVELS + 1))
    return MaskRCNN(
        Pyramid(image, width, drop_path, bf16),
        min_size=options.short_side,
        max_size=options.long_side,
        image_mean=_HALF,
        image_std=_HALF,
        size_divisible=2 * patch,
        rpn_anchor_generator=AnchorGenerator(anchors, (_PROPORTIONS,) * len(anchors)),
        rpn_pre_nms_top_n_train=2 * options.proposals,
        rpn_pre_nms_top_n_test=options.proposals,
        rpn_post_nms_top_n_train=options.proposals,
        rpn_post_nms_top_n_test=options.proposals,
        box_batch_size_per_image=options.regions,
        box_roi_pool=MultiScaleRoIAlign(levels, _BOX_GRID, sampling_ratio=2),
        box_head=TwoMLPHead(width * _BOX_GRID**2, options.hidden),
        box_predictor=FastRCNNPredictor(options.hidden, classes + 1),
        mask_roi_pool=MultiScaleRoIAlign(levels, _MASK_GRID, sampling_ratio=2),
        mask_head=MaskRCNNHeads(width, (width,) * 4, 1),
        mask_predictor=MaskRCNNPredictor(width, width, classes + 1),
    )
