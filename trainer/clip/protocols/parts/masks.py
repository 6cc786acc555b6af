"""Labels of pixels: from score maps, of the background, and whether masks hold others."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from ablative.study.core.errors import DataError
from ablative.trainer.clip.protocols.parts import metrics
from ablative.trainer.clip.spec.config import ProtocolConfig

IGNORE = 255
PIXELS = 1 << 26
"""Scores that are held at once."""


def background_names(protocol: ProtocolConfig, own: tuple[str, ...] | None) -> str:
    """Names of label 0, separated by commas; empty where it is not scored. A data set's own names go first."""
    if own is not None:
        return ", ".join(own)
    return protocol.background_names if protocol.background else ""


def segment(maps: torch.Tensor, groups: list[list[int]], size: tuple[int, int]) -> np.ndarray:
    """Labels int64 (H, W) of one image, `metrics.UNDECIDED` where classes tie: (P, h, w) -> (H, W).

    Args:
        maps: scores of each prompt.
        groups: prompts of each label; the highest counts.
        size: of the mask, in pixels.
    """
    labels = [label for label, group in enumerate(groups) if group]
    best = maps.new_full(size, -torch.inf)
    hits, choice = (torch.zeros(size, dtype=torch.int64, device=maps.device) for _ in range(2))
    # A few labels at a time: all maps of a large image at once would not fit.
    count = max(1, PIXELS // (size[0] * size[1]))
    whole = _enlarged(maps, size) if len(maps) <= count else None
    for some in (labels[i : i + count] for i in range(0, len(labels), count)):
        own = (_enlarged(maps[groups[label]], size) if whole is None else whole[groups[label]] for label in some)
        scores = torch.stack([each.amax(dim=0) for each in own])
        top, place = scores.max(dim=0)
        first = torch.tensor(some, device=maps.device)[place]
        # Not a number is nowhere equal to itself, and has no hit.
        equal = (scores == top).sum(dim=0)
        better = (top > best) | top.isnan()
        hits = torch.where(better, equal, hits + equal * (top == best))
        best, choice = torch.where(better, top, best), torch.where(better, first, choice)
    return torch.where(hits == 1, choice, metrics.UNDECIDED).cpu().numpy()


def _enlarged(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    if maps.shape[1:] == size:
        return maps
    return F.interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0]


def check_labels(mask: np.ndarray, classes: int, name: str) -> None:
    """Raise DataError for a mask with a label that is neither below `classes` nor `IGNORE`."""
    wrong = np.setdiff1d(mask, [*range(classes), IGNORE])
    if wrong.size:
        raise DataError(f"data set {name}: mask label {wrong[0]}, expected 0 to {classes - 1} or {IGNORE}")
