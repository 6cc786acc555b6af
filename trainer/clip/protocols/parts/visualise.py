"""What a model sees, without a score: where a prompt finds its evidence, and what is restored of hidden patches."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ablative.trainer.clip.models.patches import patchify
from ablative.trainer.clip.objectives.losses import PIXEL_EPS
from ablative.trainer.clip.objectives.system import System
from ablative.trainer.clip.objectives.terms.reconstruction import Reconstruction
from ablative.trainer.clip.objectives.terms.term import BatchTerm, Inputs


def grad_cam(system: System, images: Tensor, texts: Tensor) -> Tensor:
    """Evidence of each image for its text: (B,3,S,S), unit vectors (B,E) → float32 (B,S,S) from 0 to 1.

    Grad-CAM (Selvaraju et al. 2017, equations 1 and 2) of the cosine similarity: activations are the tokens that the
    last block leaves, weights their gradient's mean over positions. Where the class token alone is pooled, no other
    token of these has a gradient: activations are then, as in pytorch-grad-cam, what enters the last block's
    attention. An image whose map is nowhere positive stays 0.
    """
    taken: list[Tensor] = []

    def take(_: nn.Module, __: object, output: Tensor) -> Tensor:
        taken.append(output.detach().float().requires_grad_())
        return taken[-1]

    trunk = system.image.trunk
    last: nn.Module = trunk if system.model.pooling != "cls" else trunk.blocks[-1].get_submodule("norm1")
    with torch.enable_grad(), hooked(last, take):
        similarity = (system.encode_image(images) * texts).sum()
        [gradient] = torch.autograd.grad(similarity, taken[-1])
    activations, gradient = system.image.patches(taken[-1].detach()), system.image.patches(gradient)
    evidence = F.relu((activations * gradient.mean(dim=1, keepdim=True)).sum(dim=-1))
    side = math.isqrt(evidence.shape[1])
    maps = F.interpolate(evidence.view(-1, 1, side, side), size=images.shape[-2:], mode="bilinear", align_corners=False)
    return (maps / maps.amax(dim=(2, 3), keepdim=True).clamp(min=1e-12))[:, 0]


@torch.no_grad()
def restore_images(system: System, images: Tensor, tokens: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """What is hidden, and images restored there: (B,3,S,S), int64 (B,L) → bool (B,S,S), (B,3,S,S).

    Hidden are the same patches for every model that hides at random; `generator` (CPU) draws them. Where pixels were
    normalised in training, a patch's true mean and deviation are put back, without which there would be no picture.
    """
    draws = dataclasses.replace(system.draw(len(images), generator).to(images.device), paths=None)
    term = next(term for term in system.terms if isinstance(term, Reconstruction))
    inputs, found = Inputs(images, tokens, draws), {}
    if term.by_similarity:
        found = {other.names[0]: other.features(inputs) for other in system.terms if isinstance(other, BatchTerm)}
    pixels: list[Tensor] = []
    with hooked(system.decoder.to_pixels, lambda _, __, output: pixels.append(output.float())):
        term.losses(inputs, found)
    hidden = term.splits(tokens != 0, draws, found)[0].hidden
    patches = patchify(images, system.model.patch_size)
    index = hidden[..., None].expand_as(pixels[-1])
    restored = pixels[-1]
    if system.objective.normalize_pixels:
        variance, mean = torch.var_mean(patches.gather(1, index), dim=-1, keepdim=True)
        restored = restored * (variance + PIXEL_EPS).sqrt() + mean
    mask = torch.zeros_like(patches).scatter(1, index, 1.0)
    whole = patches.scatter(1, index, restored)
    size = system.model.patch_size
    return unpatchify(mask, size)[:, 0] > 0, unpatchify(whole, size)


def unpatchify(patches: Tensor, size: int) -> Tensor:
    """The inverse of `patchify`: (B,N,size²·3) → (B,3,S,S)."""
    grid = math.isqrt(patches.shape[1])
    cells = patches.view(len(patches), grid, grid, size, size, 3)
    return cells.permute(0, 5, 1, 3, 2, 4).reshape(len(patches), 3, grid * size, grid * size)


@contextmanager
def hooked(module: nn.Module, function: Callable[..., Tensor | None]) -> Iterator[None]:
    """Call a forward hook while the block runs."""
    handle = module.register_forward_hook(function)
    try:
        yield
    finally:
        handle.remove()
