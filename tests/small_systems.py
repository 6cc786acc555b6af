"""Models small enough for tests, and batches for them."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from small_models import MODEL, VOCAB
from torch import Tensor

from ablative.trainer.clip.objectives.losses import contrastive_loss, token_weights
from ablative.trainer.clip.objectives.system import System
from ablative.trainer.clip.spec.config import ModelConfig, ObjectiveConfig


def make_system(objective: str, seed: int = 0, **changes: Any) -> System:
    """A system; `changes` are fields of either configuration."""
    model_fields = {field.name for field in dataclasses.fields(ModelConfig)}
    model = dataclasses.replace(MODEL, **{k: v for k, v in changes.items() if k in model_fields})
    rest = {k: v for k, v in changes.items() if k not in model_fields}
    torch.manual_seed(seed)
    return System(model, ObjectiveConfig(name=objective, **rest), VOCAB)


def make_batch(size: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images (B,3,32,32) and tokens (B,12) of 1, 12 and then random lengths."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(size, 3, 32, 32, generator=generator)
    tokens = torch.randint(3, VOCAB, (size, 12), generator=generator)
    lengths = torch.randint(2, 12, (size,), generator=generator)
    lengths[:2] = torch.tensor([1, 12])
    return images, tokens.masked_fill(torch.arange(12) >= lengths[:, None], 0)


def total_loss(system: System, images: Tensor, tokens: Tensor, seed: int = 0) -> Tensor:
    """All parts of the system's loss, unweighted."""
    draws = system.draw(len(images), torch.Generator().manual_seed(seed))
    loss, embeddings = torch.zeros(()), None
    if system.contrastive:
        embeddings = system.embed(images, tokens, draws)
        loss = loss + contrastive_loss(embeddings.image, embeddings.text, system.logit_scale)
    if system.generative:
        parts = system.reconstruct(images, tokens, draws, embeddings)
        loss = loss + parts.image.mean() + (token_weights(parts.text_count, "sample") * parts.text).sum()
    return loss
