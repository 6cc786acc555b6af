"""Choosing what is hidden from the encoder: pure functions of scores, which are random numbers or similarities.

Elements are ranked by score; the lowest stay visible, the highest are hidden.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ablative.trainer.clip.models.blocks import full_precision
from ablative.trainer.clip.models.sizes import keep_count
from ablative.trainer.clip.models.splits import MaskSplit, keep_counts


def split_image(scores: Tensor, ratio: float) -> MaskSplit:
    """Split of patches by scores (B,N): the keep_count lowest of every sample are visible."""
    order = scores.argsort(dim=1, stable=True)
    keep = keep_count(scores.shape[1], ratio)
    return MaskSplit(order[:, :keep], order[:, keep:])


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
