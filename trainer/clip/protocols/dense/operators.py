"""torchvision where its compiled operators cannot be loaded: built for another torch, or for GPUs where there is none.

Its detection models need two of them, `nms` and `roi_align`. It has a `roi_align` in Python itself, which compiles for
minutes and keeps every sample in memory.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def load_torchvision() -> None:
    """Import torchvision so that its detection models work; raises ModuleNotFoundError where it is not installed."""
    library = provide()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        boxes = importlib.import_module("torchvision.ops.boxes")
        regions = importlib.import_module("torchvision.ops.roi_align")
    if library is not None:
        # It asks whether all its operators are there before it calls the one that is.
        boxes._assert_has_ops = lambda: None  # type: ignore[attr-defined]
        regions._roi_align = roi_align  # type: ignore[attr-defined]


@functools.cache
def provide() -> torch.library.Library | None:
    """Register what torchvision needs to be imported, and `nms`; None where its own operators can be loaded."""
    if _compiled():
        return None
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.impl("nms", nms, "CompositeExplicitAutograd")
    return library


def _compiled() -> bool:
    """Whether torchvision's own operators can be loaded."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return True
    for path in Path(spec.origin).parent.glob("_C*.so"):
        try:
            torch.ops.load_library(str(path))
        except OSError:
            continue
        return True
    return False


def nms(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Non-maximum suppression: boxes (n,4) as left, top, right, bottom, scores (n,) → int64 (k,), the best first.

    A box is left out where a better one that is kept overlaps it with an IoU above the threshold.
    """
    order = scores.argsort(descending=True, stable=True)
    rivals = (overlaps(boxes[order]) > threshold).cpu().numpy()
    kept = np.ones(len(rivals), dtype=bool)
    for i in range(len(rivals)):
        if kept[i]:
            kept[i + 1 :] &= ~rivals[i, i + 1 :]
    return order[torch.from_numpy(kept).to(order.device)]


def overlaps(boxes: Tensor) -> Tensor:
    """IoU of each box (n,4) with each: (n,n)."""
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    low = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(2)
    return shared / (area[:, None] + area[None] - shared)


def roi_align(
    maps: Tensor, regions: Tensor, scale: float, height: int, width: int, samples: int, aligned: bool = False
) -> Tensor:
    """The mean of samples × samples points, interpolated, in each of height × width parts of regions.

    Args:
        maps: (B,C,H,W).
        regions: (k,5), the number of the map and left, top, right, bottom; those times `scale` are places on the map.
        samples: along each side of a part; below 1: as many as it has pixels, rounded up.
        aligned: pixels are half a pixel from their numbers, and a region may be smaller than one.

    Returns:
        (k,C,height,width).
    """
    corners = regions[:, 1:] * scale - 0.5 * aligned
    sizes = corners[:, 2:] - corners[:, :2]
    sizes = sizes if aligned else sizes.clamp(min=1)
    parts = torch.tensor([width, height], device=sizes.device)
    counts = torch.full_like(sizes, samples) if samples > 0 else (sizes / parts).ceil().clamp(min=1)
    # Regions of one map with as many points are computed at once.
    kinds = torch.cat([regions[:, :1], counts], 1).long()
    found, order = [maps.new_zeros(0, maps.shape[1], height, width)], [kinds.new_zeros(0)]
    for kind in kinds.unique(dim=0):
        rows = (kinds == kind).all(1).nonzero()[:, 0]
        number, columns, lines = kind.tolist()
        across = _places(corners[rows, 0], sizes[rows, 0], width * columns)
        down = _places(corners[rows, 1], sizes[rows, 1], height * lines)
        points = _points(maps[number], across, down)
        found.append(F.avg_pool2d(points, (lines, columns)).transpose(0, 1))
        order.append(rows)
    return torch.cat(found)[torch.cat(order).argsort()]


def _places(start: Tensor, size: Tensor, count: int) -> Tensor:
    """Middles of so many equal parts of each stretch: (k,) → (k, count)."""
    return start[:, None] + size[:, None] * (torch.arange(count, device=start.device) + 0.5) / count


def _points(image: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """image (C,H,W) at columns (k,m) and rows (k,n): (C,k,n,m); 0 more than a pixel outside."""
    height, width = image.shape[1:]
    inside = ((down >= -1) & (down <= height))[:, :, None] & ((across >= -1) & (across <= width))[:, None]
    x, y = (2 * across + 1) / width - 1, (2 * down + 1) / height - 1
    grid = torch.stack([x[:, None].expand(-1, y.shape[1], -1), y[:, :, None].expand(-1, -1, x.shape[1])], 3)
    found = F.grid_sample(image[None], grid.flatten(0, 1)[None], padding_mode="border", align_corners=False)[0]
    return found.unflatten(1, inside.shape[:2]) * inside
