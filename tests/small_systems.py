"""Models small enough for tests, and batches for them."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from small_models import MODEL, VOCAB
from torch import Tensor

from ablative.trainer.clip.objectives.system import System
from ablative.trainer.clip.objectives.teacher import make_teacher
from ablative.trainer.clip.objectives.terms.contrastive import Contrastive, Embeddings
from ablative.trainer.clip.objectives.terms.reconstruction import Reconstruction, Restored
from ablative.trainer.clip.objectives.terms.term import TEACHER, BatchTerm, Draws, Inputs, Outcome
from ablative.trainer.clip.spec.config import ModelConfig, ObjectiveConfig
from ablative.trainer.clip.spec.loss_options import CodesConfig, SimclrConfig


def make_system(objective: str, seed: int = 0, **changes: Any) -> System:
    """A system; `changes` are fields of either configuration."""
    model_fields = {field.name for field in dataclasses.fields(ModelConfig)}
    model = dataclasses.replace(MODEL, **{k: v for k, v in changes.items() if k in model_fields})
    codes = CodesConfig(levels=(5, 4), stride=2, width=8, blocks=1)
    rest = {"simclr": SimclrConfig(hidden=32, dim=8), "codes": codes} | {
        k: v for k, v in changes.items() if k not in model_fields
    }
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


def contrast(system: System) -> Contrastive:
    return next(term for term in system.terms if isinstance(term, Contrastive))


def reconstruction(system: System) -> Reconstruction:
    return next(term for term in system.terms if isinstance(term, Reconstruction))


def embed(system: System, images: Tensor, tokens: Tensor, draws: Draws) -> Embeddings:
    """Outcome of the contrastive pass."""
    return contrast(system).features(Inputs(images, tokens, draws))


def reconstruct(
    system: System,
    images: Tensor,
    tokens: Tensor,
    draws: Draws,
    embeddings: Embeddings | None = None,
    rows: int | None = None,
) -> Restored:
    """Outcome of the reconstructing pass."""
    return reconstruction(system).losses(Inputs(images, tokens, draws, rows), {"contrastive": embeddings})


def losses(system: System, images: Tensor, tokens: Tensor, seed: int = 0) -> dict[str, Tensor]:
    """Each loss of the system on a whole batch."""
    draws = system.draw(len(images), torch.Generator().manual_seed(seed))
    inputs = Inputs(images, tokens, draws, views=torch.cat([images.flip(-1), images.flip(-2)]))
    values: dict[str, Tensor] = {}
    found: dict[str, Outcome] = {}
    teacher = make_teacher(system)
    if teacher is not None:
        found[TEACHER] = (teacher.features(images),)
    for term in system.terms:
        if isinstance(term, BatchTerm):
            found[term.names[0]] = term.features(inputs)
            values[term.names[0]] = term.loss(term.crossing(found[term.names[0]]), False, None)
        else:
            values |= term.values(term.losses(inputs, found), len(images), None)
    return values


def total_loss(system: System, images: Tensor, tokens: Tensor, seed: int = 0) -> Tensor:
    """All parts of the system's loss, unweighted."""
    return torch.stack(list(losses(system, images, tokens, seed).values())).sum()
