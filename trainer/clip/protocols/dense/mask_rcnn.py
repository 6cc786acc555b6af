"""torchvision's Mask R-CNN on a plain image tower with BEiT's neck and a feature pyramid; numbers are mmdetection's.

It imports torchvision, which `operators.load_torchvision` has to load first.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.models.detection.transform import GeneralizedRCNNTransform
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
    model = MaskRCNN(
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
    model.transform = WholeMasks(options.short_side, options.long_side, _HALF, _HALF, size_divisible=2 * patch)
    return model


class WholeMasks(GeneralizedRCNNTransform):
    """torchvision's resizing of images, with masks in the places that they were learned from.

    Its own masks end a pixel further right and down than their boxes: with boxes and masks that are all right, an AP of
    52 is left of 100 where things are 8 to 45 pixels large.
    """

    def postprocess(
        self, result: list[dict[str, Tensor]], image_shapes: list[tuple[int, int]], original: list[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        """Boxes and masks of the resized images → of the images as they were given."""
        if self.training:
            return result
        for found, resized, size in zip(result, image_shapes, original, strict=True):
            scales = size[0] / resized[0], size[1] / resized[1]
            down, across = scales
            found["boxes"] = found["boxes"] * found["boxes"].new_tensor([across, down, across, down])
            if "masks" in found:
                found["masks"] = whole_masks(found["masks"], found["boxes"], size, scales)
        return result


def whole_masks(masks: Tensor, boxes: Tensor, size: tuple[int, int], scales: tuple[float, float]) -> Tensor:
    """Masks (k,1,M,M) in boxes (k,4) → of whole images (k,1,H,W), 0 outside the boxes.

    What a mask has at a share of its box was learned from the pixel whose number, not whose middle, is there
    (`roi_align` without `aligned`): half a pixel of the image that was seen, of which one is `scales` of these.
    """
    whole = masks.new_zeros(len(masks), 1, *size)
    for i, (left, top, right, bottom) in enumerate(boxes.tolist()):
        rows, down = _inside(top, bottom, size[0], scales[0], boxes.device)
        columns, across = _inside(left, right, size[1], scales[1], boxes.device)
        if len(rows) and len(columns):
            grid = torch.stack(torch.meshgrid(across, down, indexing="xy"), 2)
            own = F.grid_sample(masks[i : i + 1], grid[None], padding_mode="border", align_corners=False)
            whole[i, 0, rows[:, None], columns] = own[0, 0]
    return whole


def _inside(low: float, high: float, length: int, scale: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Pixels whose middle is between two edges, and where they are on the mask, from -1 to 1."""
    first, last = max(0, math.ceil(low - 0.5)), min(length, math.ceil(high - 0.5))
    pixels = torch.arange(first, max(first, last), device=device)
    return pixels, 2 * (pixels + 0.5 - 0.5 * scale - low) / (high - low) - 1
