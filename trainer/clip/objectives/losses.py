"""Losses as pure functions of tensors, in fp32 under any autocast. Equation numbers are MAE-CLIP's."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from ablative.trainer.clip.models.blocks import full_precision, narrow
from ablative.trainer.clip.spec.config import ObjectiveConfig
from ablative.trainer.clip.spec.recipes import INFO_NCE, TERMS, recipe_of

PIXEL_EPS = 1e-6

CHUNK = 256
"""Rows of logits at a time: 256 × 8,192 words in fp32 fit a core's cache, and are enough work for a GPU."""


CONTRASTS: dict[str, Callable[[Tensor, int], Tensor]] = {
    INFO_NCE: torch.logsumexp,
}
"""Contrastive losses by name (`Recipe.contrast`).

Each is a function of logits and of the dimension over which a sample meets all others; the loss of a pair is its value
less the pair's own logit, averaged over both directions.
"""


def _pair_loss(image: Tensor, text: Tensor, logit_scale: Tensor | float, contrast: str) -> Tensor:
    """Symmetric loss of each pair among its group: unit vectors (G,n,E) twice → (G,n)."""
    with full_precision(image):
        logits = logit_scale * (image.float() @ text.float().transpose(1, 2))
    against = CONTRASTS[contrast]
    # Taken first: gradients are summed in the reverse order of the operations; another order changes trained numbers.
    paired = logits.diagonal(dim1=1, dim2=2)
    return (against(logits, 2) + against(logits, 1)) / 2 - paired


def contrastive_loss(image: Tensor, text: Tensor, logit_scale: Tensor | float, contrast: str = INFO_NCE) -> Tensor:
    """Mean of image-to-text and text-to-image InfoNCE over the whole batch (eq. 1 and 2).

    image and text unit vectors (B,E), row i of both the same sample → scalar. `logit_scale` is 1/σ.
    """
    return _pair_loss(image[None], text[None], logit_scale, contrast).mean()


def local_contrastive_loss(
    image: Tensor, text: Tensor, logit_scale: Tensor | float, group: int, contrast: str = INFO_NCE
) -> Tensor:
    """`contrastive_loss` with negatives from consecutive groups of `group` samples alone (section 4.1).

    The paper's groups are its GPUs. A last group may be smaller; the mean is over samples.
    """
    whole = len(image) - len(image) % group
    losses = []
    if whole:
        images, texts = (x[:whole].unflatten(0, (-1, group)) for x in (image, text))
        losses.append(_pair_loss(images, texts, logit_scale, contrast).flatten())
    if whole < len(image):
        losses.append(_pair_loss(image[None, whole:], text[None, whole:], logit_scale, contrast).flatten())
    return torch.cat(losses).mean()


def contrastive_share(
    image: Tensor, text: Tensor, logit_scale: Tensor | float, rows: slice, group: int, contrast: str = INFO_NCE
) -> Tensor:
    """What the samples `rows` add to `local_contrastive_loss`, whose other samples are another process's.

    image and text unit vectors (B,E) of the whole batch, `group` B for global negatives → scalar. Only the logits
    of `rows` against their groups are ever there, one block a direction (open_clip's `local_loss`); the shares of
    all slices of the batch add up to its loss, and their gradients to its gradient.
    """
    share, against = image.new_zeros(()), CONTRASTS[contrast]
    for start in range(rows.start - rows.start % group, rows.stop, group):
        whole = slice(start, min(start + group, len(image)))
        own = slice(max(start, rows.start), min(whole.stop, rows.stop))
        with full_precision(image):
            to_text = logit_scale * (image[own].float() @ text[whole].float().T)
            to_image = logit_scale * (text[own].float() @ image[whole].float().T)
        paired = to_text.diagonal(own.start - start)
        share = share + ((against(to_text, 1) + against(to_image, 1)) / 2 - paired).sum()
    return share / len(image)


def nt_xent(first: Tensor, second: Tensor, temperature: float, rows: slice | None = None) -> Tensor:
    """Each view finds the other view of its image among the 2B − 1 others of the batch (SimCLR eq. 1).

    first and second unit vectors (B,E), row i of both of the same image → the mean over all 2B views, scalar; with
    `rows`, what the views of these samples add to it.
    """
    rows = slice(0, len(first)) if rows is None else rows
    with full_precision(first):
        across, back = first[rows] @ second.T / temperature, second[rows] @ first.T / temperature
        alike = [view[rows] @ view.T / temperature for view in (first, second)]
    places = torch.arange(len(first), device=first.device)
    itself = places[rows, None] == places
    paired = across.diagonal(rows.start)
    against = [
        torch.cat([others, same.masked_fill(itself, -torch.inf)], 1).logsumexp(1)
        for others, same in zip((across, back), alike, strict=True)
    ]
    return ((against[0] + against[1]) / 2 - paired).sum() / len(first)


def normalize_patches(patches: Tensor) -> Tensor:
    """Each patch with mean 0 and (unbiased) variance 1, as MAE's code: patches (…,P) → (…,P)."""
    variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
    return (patches - mean) / (variance + PIXEL_EPS).sqrt()


def pixel_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over masked patches (eq. 3): both (B,M,P) → per sample (B,)."""
    return (predicted.float() - target.float()).square().mean((1, 2))


def feature_loss(predicted: Tensor, target: Tensor, beta: float, reduce: str) -> Tensor:
    """SmoothL1 of each masked patch's features (MaskCLIP eq. 6): both (B,M,D) → mean over patches, per sample (B,)."""
    losses = F.smooth_l1_loss(predicted.float(), target.float(), beta=beta, reduction="none")
    return (losses.sum(2) if reduce == "sum" else losses.mean(2)).mean(1)


def token_loss(rows: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of each masked token over the vocabulary (eq. 4), its linear head included.

    rows (R,W), weight (V,W), bias (V), targets int64 (R,) → (R,) fp32.
    """
    rows, weight, bias = (narrow(x) for x in (rows, weight, bias))
    with full_precision(rows):
        losses: Tensor = torch.ops.ablate.head_and_cross_entropy(rows, weight, bias, targets)[0]
        return losses


def _logits(rows: Tensor, weight: Tensor, bias: Tensor, out: Tensor) -> Tensor:
    """fp32 logits (R,V) of rows (R,W); they are made in `out`, where that is fp32 too, which spares a copy."""
    if out.dtype == torch.float32:
        return torch.addmm(bias, rows, weight.T, out=out)
    return F.linear(rows, weight, bias).float()


def _head_and_cross_entropy(rows: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Linear head and cross-entropy in one: at 49,408 words the logits are the largest thing of a step.

    Softmax runs on `CHUNK` rows while they are in cache, and one matrix (R,V), the gradient with
    respect to the logits, is all that is ever stored; as two operations there are four such matrices.
    The compiler sees one operation, whatever the number of rows: of the loop it would make a graph for each number.
    Losses (R,) fp32, and that gradient.
    """
    slopes, losses = rows.new_empty(len(rows), len(weight)), []
    for start in range(0, len(rows), CHUNK):
        chunk = slice(start, start + CHUNK)
        logits, target = _logits(rows[chunk], weight, bias, slopes[chunk]), targets[chunk, None]
        top, hit = logits.amax(1, keepdim=True), logits.gather(1, target)
        powers = logits.sub_(top).exp_()
        total = powers.sum(1, keepdim=True)
        powers.div_(total).scatter_add_(1, target, powers.new_full((1, 1), -1.0).expand_as(target))
        if powers.dtype != slopes.dtype:
            slopes[chunk] = powers
        losses.append(total.log() + top - hit)
    return torch.cat(losses)[:, 0] if losses else rows.new_zeros(0, dtype=torch.float32), slopes


def _shapes(rows: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    # Not `len`, which would make a constant of the number of rows.
    return rows.new_empty(rows.shape[0], dtype=torch.float32), rows.new_empty(rows.shape[0], weight.shape[0])


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    rows, weight, _, _ = inputs
    ctx.save_for_backward(rows, weight, output[1])
    # Nothing depends on the second output, whose gradient autograd would make as another matrix (R,V), of zeros.
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor, _: None) -> tuple[Tensor, Tensor, Tensor, None]:
    rows, weight, slopes = ctx.saved_tensors
    grad = grad[:, None].to(rows.dtype)
    return grad * (slopes @ weight), slopes.T @ (grad * rows), (slopes.T @ grad)[:, 0], None


_LIBRARY = torch.library.Library("ablate", "DEF")
"""Not `torch.library.custom_op`, whose first call loads the compiler: two seconds for each task."""
_OPERATION = "ablate::head_and_cross_entropy"
_LIBRARY.define("head_and_cross_entropy(Tensor rows, Tensor weight, Tensor bias, Tensor targets) -> (Tensor, Tensor)")
_LIBRARY.impl("head_and_cross_entropy", _head_and_cross_entropy, "CompositeExplicitAutograd")
torch.library.register_fake(_OPERATION, _shapes, lib=_LIBRARY)
torch.library.register_autograd(_OPERATION, _backward, setup_context=_keep, lib=_LIBRARY)


@register_flop_formula(torch.ops.ablate.head_and_cross_entropy)
def _flops(rows: torch.Size, weight: torch.Size, *_: Any, **__: Any) -> int:
    # Torch's counter does not look into an operation.
    return 2 * rows[0] * weight[0] * weight[1]


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


def loss_weights(objective: ObjectiveConfig, step: int) -> dict[str, float]:
    """Weights of an objective's losses at optimiser step `step`, counted from 0, by the names of its terms.

    With a contrastive loss, which is the mean of both directions, the others are weighed against it (where a paper
    weighs against their sum, as MaskCLIP's eq. 2, its weight is twice ours); for the first `local_steps` all are
    unweighted (MAE-CLIP section 4.1). Without one their ratio alone counts, and the first that
    has a weight gets 1: M3AE's text then has w_text / w_image (0.5, its own).
    """
    recipe = recipe_of(objective)
    weights = {name: _weight(objective, TERMS[name].weight) for name in recipe.terms}
    if recipe.contrastive:
        return dict.fromkeys(weights, 1.0) if has_local_negatives(objective, step) else weights
    unit = next((weight for weight in weights.values() if weight), 0.0) if len(weights) > 1 else 0.0
    if not unit:
        return {**weights, recipe.terms[-1]: 1.0}
    return {name: weight / unit for name, weight in weights.items()}


def has_local_negatives(objective: ObjectiveConfig, step: int) -> bool:
    """Whether the contrastive loss of a step compares inside groups of `local_batch` alone."""
    return recipe_of(objective).contrastive and step < objective.local_steps


def _weight(objective: ObjectiveConfig, key: str) -> float:
    return float(operator.attrgetter(key.removeprefix("objective."))(objective)) if key else 1.0
