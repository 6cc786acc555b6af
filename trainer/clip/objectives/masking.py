"""Choosing what is hidden from the encoder: pure functions of scores, which are random numbers or similarities.

Elements are ranked by score; the lowest stay visible, the highest are hidden. Random numbers are below 1; those of
patches that a rectangle covers are 1 or more (`block_scores`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ablative.trainer.clip.models.blocks import full_precision
from ablative.trainer.clip.models.sizes import keep_count
from ablative.trainer.clip.models.splits import MaskSplit, keep_counts
from ablative.trainer.clip.spec.loss_options import MaskConfig

ATTEMPTS = 10
"""Rectangles that are tried before a sample keeps what it has, as in BEiT."""


def split_image(scores: Tensor, ratio: float) -> MaskSplit:
    """Split of patches by scores (B,N): the keep_count lowest of every sample are visible."""
    order = scores.argsort(dim=1, stable=True)
    keep = keep_count(scores.shape[1], ratio)
    return MaskSplit(order[:, :keep], order[:, keep:])


def split_blocks(scores: Tensor, ratio: float) -> MaskSplit:
    """`split_image`, but of what is hidden only patches of rectangles count, and one patch at least."""
    split = split_image(scores, ratio)
    valid = scores.gather(1, split.hidden) >= 1
    valid[:, -1] = True
    return split._replace(hidden_valid=valid)


def block_scores(scores: Tensor, count: int, options: MaskConfig, generator: torch.Generator) -> Tensor:
    """Random scores (B,N) of a square of patches, with 1 added where rectangles are laid, `count` patches at most.

    Area and aspect ratio of a rectangle, then its place, are drawn until it covers a patch more and no more than are
    still to be hidden; a sample is done when all are, or after `ATTEMPTS` rectangles that do not fit (Bao et al. 2021,
    BEiT, algorithm 1 and the code that they published). All samples are laid together, one rectangle each a time.
    """
    side = math.isqrt(scores.shape[1])
    covered = torch.zeros(len(scores), side, side, dtype=torch.bool)
    left, failed = torch.full((len(scores),), count), torch.zeros(len(scores), dtype=torch.int64)
    while len(rows := ((left > 0) & (failed < ATTEMPTS)).nonzero()[:, 0]):
        limit = left[rows].clamp(max=options.max_patches or count)
        block, inside = _rectangles(torch.rand(len(rows), 4, generator=generator), limit, side, options)
        gain = (block & ~covered[rows]).sum((1, 2))
        fits = inside & (gain > 0) & (gain <= limit)
        laid = rows[fits]
        covered[laid] |= block[fits]
        left[laid] -= gain[fits]
        failed[rows] = torch.where(fits, 0, failed[rows] + 1)
    return scores + covered.flatten(1)


def _rectangles(numbers: Tensor, limit: Tensor, side: int, options: MaskConfig) -> tuple[Tensor, Tensor]:
    """A rectangle by uniform numbers (n,4), with about `limit` (n,) patches at most: bool (n,side,side), and whether it
    is narrower and lower than the image."""
    area = options.min_patches + (limit - options.min_patches) * numbers[:, 0]
    aspect = torch.exp(math.log(options.min_aspect) * (1 - 2 * numbers[:, 1]))
    height, width = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    place = torch.arange(side)
    inside, parts = (height < side) & (width < side), []
    for length, number in ((height, numbers[:, 2]), (width, numbers[:, 3])):
        start = (number * (side - length + 1)).floor()[:, None]
        parts.append((place >= start) & (place < start + length[:, None]))
    return parts[0][:, :, None] & parts[1][:, None, :], inside


def split_text(scores: Tensor, valid: Tensor, ratio: float, include_pads: bool = False) -> MaskSplit:
    """Split of tokens by scores (B,L), valid bool (B,L): not padding; the ratio is over valid tokens.

    With `include_pads` padding is ranked and counted like anything else (the M3AE code), and only
    then left out of both parts. At least one valid token always stays visible.
    """
    length = scores.shape[1]
    padding_last = scores.masked_fill(~valid, torch.inf)
    order = (
        (scores if include_pads else padding_last)
        .scatter(1, padding_last.argmin(1, keepdim=True), -torch.inf)
        .argsort(dim=1, stable=True)
    )
    counts = torch.full_like(valid[:, 0], length, dtype=torch.int64) if include_pads else valid.sum(1)
    keep = keep_counts(counts, ratio)[:, None]
    # A longer caption keeps no fewer and hides no fewer, so the full length bounds both counts.
    most = keep_count(length, ratio)
    visible = order[:, :most]
    hidden = order.gather(1, keep + torch.arange(length - most, device=order.device))
    slots = torch.arange(most, device=order.device)
    return MaskSplit(visible, hidden, (slots < keep) & valid.gather(1, visible), valid.gather(1, hidden))


def pooled_similarity(elements: Tensor, other: Tensor) -> Tensor:
    """Cosine of each element with the other modality's pooled embedding.

    elements (B,N,E) and other (B,E), unit vectors → (B,N).
    """
    with full_precision(elements):
        return (elements @ other[:, :, None]).squeeze(-1)


def filip_similarity(elements: Tensor, others: Tensor, valid: Tensor | None = None) -> Tensor:
    """Cosine of each element with the most similar element of the other modality (FILIP's token-wise maximum).

    elements (B,N,E) and others (B,M,E), unit vectors; valid bool (B,M) → (B,N).
    """
    with full_precision(elements):
        similarity = elements @ others.transpose(1, 2)
    if valid is not None:
        similarity = similarity.masked_fill(~valid[:, None, :], -torch.inf)
    return similarity.amax(-1)
