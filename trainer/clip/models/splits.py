"""Visible and hidden elements of a sequence: how many, taking them out, and putting the visible ones back."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ablative.trainer.clip.models.sizes import ROUNDING


def keep_counts(lengths: Tensor, ratio: float) -> Tensor:
    """`keep_count` of each of int64 lengths (B,) → int64 (B,)."""
    return ((1 - ratio) * lengths.double() + ROUNDING).long().clamp(min=1)


class MaskSplit(NamedTuple):
    """Which elements the encoder sees and which the decoder must restore, as places in the sequence.

    The counts V and M are the same for every sample, so that shapes never depend on the data (no
    host synchronisation, no recompilation); where samples have fewer, the flags say which slots count.
    """

    visible: Tensor
    """int64 (B,V)."""
    hidden: Tensor
    """int64 (B,M)."""
    visible_valid: Tensor | None = None
    """bool (B,V); None: every slot holds an element."""
    hidden_valid: Tensor | None = None
    """bool (B,M); None: every slot holds an element."""

    def hidden_counts(self) -> Tensor:
        """int64 (B,): how many elements of each sample are hidden."""
        valid = torch.ones_like(self.hidden) if self.hidden_valid is None else self.hidden_valid
        return valid.sum(1)


def take(x: Tensor, index: Tensor) -> Tensor:
    """Rows of every sample: x (B,N,D), index (B,K) → (B,K,D)."""
    return x.gather(1, index[..., None].expand(-1, -1, x.shape[-1]))


def restore(visible: Tensor, mask_token: Tensor, split: MaskSplit, length: int) -> Tensor:
    """Encoded elements back in their places, the mask token elsewhere.

    visible (B,V,W), mask_token (W) → (B,length,W). Slots of `visible` that hold no element go to an
    extra place, which is cut off again.
    """
    index, extra = split.visible, 0
    if split.visible_valid is not None:
        index, extra = index.where(split.visible_valid, length), 1
    base = mask_token.to(visible.dtype).expand(len(visible), length + extra, -1)
    return base.scatter(1, index[..., None].expand_as(visible), visible)[:, :length]
