"""Losses as pure functions of tensors, in fp32 under any autocast. Equation numbers are MAE-CLIP's."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from study.schema import ObjectiveConfig
from trainer.models.blocks import full_precision

PIXEL_EPS = 1e-6


def _pair_loss(image: Tensor, text: Tensor, logit_scale: Tensor | float) -> Tensor:
    """Symmetric InfoNCE of each pair among its group: unit vectors (G,n,E) twice → (G,n)."""
    with full_precision(image):
        logits = logit_scale * (image.float() @ text.float().transpose(1, 2))
    paired = logits.diagonal(dim1=1, dim2=2)
    return (logits.logsumexp(2) + logits.logsumexp(1)) / 2 - paired


def contrastive_loss(image: Tensor, text: Tensor, logit_scale: Tensor | float) -> Tensor:
    """Mean of image-to-text and text-to-image InfoNCE over the whole batch (eq. 1 and 2).

    image and text unit vectors (B,E), row i of both the same sample → scalar. `logit_scale` is 1/σ.
    """
    return _pair_loss(image[None], text[None], logit_scale).mean()


def local_contrastive_loss(image: Tensor, text: Tensor, logit_scale: Tensor | float, group: int) -> Tensor:
    """`contrastive_loss` with negatives from consecutive groups of `group` samples alone (section 4.1).

    The paper's groups are its GPUs. A last group may be smaller; the mean is over samples.
    """
    whole = len(image) - len(image) % group
    losses = (
        _pair_loss(
            image[:whole].unflatten(0, (-1, group)), text[:whole].unflatten(0, (-1, group)), logit_scale
        ).flatten()
        if whole
        else image.new_zeros(0)
    )
    if whole < len(image):
        losses = torch.cat([losses, _pair_loss(image[None, whole:], text[None, whole:], logit_scale)[0]])
    return losses.mean()


def normalize_patches(patches: Tensor) -> Tensor:
    """Each patch with mean 0 and (unbiased) variance 1, as MAE's code: patches (…,P) → (…,P)."""
    variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
    return (patches - mean) / (variance + PIXEL_EPS).sqrt()


def pixel_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over masked patches (eq. 3): both (B,M,P) → per sample (B,)."""
    return (predicted.float() - target.float()).square().mean((1, 2))


def token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of each token (eq. 4): logits (R,V), targets int64 (R,) → (R,)."""
    return F.cross_entropy(logits.float(), targets, reduction="none")


def token_weights(counts: Tensor, norm: str) -> Tensor:
    """Weight of each sample's summed token loss, so that Σ weights · sums is the batch's text loss.

    counts (B,) masked tokens of each sample of the global batch → (B,) fp32. "sample": average in each
    sample, then over the batch, where one without masked tokens counts as 0 (M3AE); "token": over all.
    """
    assert norm in ("sample", "token"), norm
    counts = counts.float()
    if norm == "token":
        return (1 / counts.sum().clamp(min=1)).expand_as(counts)
    return 1 / (counts.clamp(min=1) * len(counts))


class LossWeights(NamedTuple):
    """How the parts add up at one step."""

    contrastive: float
    image: float
    text: float
    local: bool
    """The contrastive loss has local negatives."""


def loss_weights(objective: ObjectiveConfig, step: int) -> LossWeights:
    """Weights of contrastive, pixel and token loss at optimiser step `step`, counted from 0.

    MAE-CLIP (section 4.1): contrastive loss with local negatives and all parts unweighted for the
    first `local_steps`; then global negatives, w_image and w_text (eq. 5). MAE and M3AE have no
    contrastive loss to be weighed against: image 1, text w_text / w_image (1 and 0.5, M3AE's own).
    """
    local = step < objective.local_steps
    if objective.name in ("clip", "masked_clip"):
        return LossWeights(1.0, 0.0, 0.0, local)
    if objective.name == "mae_clip":
        return (
            LossWeights(1.0, 1.0, 1.0, True) if local else LossWeights(1.0, objective.w_image, objective.w_text, False)
        )
    if objective.name == "mae":
        return LossWeights(0.0, 1.0, 0.0, False)
    if objective.w_image:
        return LossWeights(0.0, 1.0, objective.w_text / objective.w_image, False)
    return LossWeights(0.0, 0.0, 1.0, False)
