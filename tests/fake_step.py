"""A training step on tensors that have shapes and no values: what it asks for and needs, whatever the device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from ablative.trainer.clip import micro_batches
from ablative.trainer.clip import step as module
from ablative.trainer.clip.data.pairs.batch import Batch
from ablative.trainer.clip.micro_batches import Piece
from ablative.trainer.clip.objectives.system import System
from ablative.trainer.clip.objectives.terms.term import Draws
from ablative.trainer.clip.spec.config import RunConfig
from ablative.trainer.clip.step import Gradients, TrainStep


@contextmanager
def step_without_values(config: RunConfig, rows: int | None, length: int) -> Iterator[tuple[TrainStep, Batch]]:
    """A step and its batch, to be taken within the block.

    Args:
        rows: bound of a piece's masked tokens (`SampleTerm.rows`), which needs values and is found on the CPU.
        length: that all captions are trimmed to, likewise.
    """
    model, size = config.model, config.schedule.batch_size

    def piece(
        self: Gradients, images: Tensor, views: Tensor | None, tokens: Tensor, draws: Draws, places: Tensor | slice
    ) -> Piece:
        return Piece(images, tokens[:, :length], draws, rows, places, views, config.objective.views)

    def draw(self: System, count: int, generator: torch.Generator) -> Draws:
        patches = (model.image_size // model.patch_size) ** 2
        draws = torch.rand(count, patches), torch.rand(count, model.context_length)
        return Draws(*draws, torch.rand(self.recipe.views, count, 1))

    def augment(images: Tensor, numbers: Tensor, options: object) -> Tensor:
        return images  # which images an operation takes is found on the CPU, from values

    with (
        patch.object(module, "trim_padding", lambda tokens: tokens),
        patch.object(Gradients, "_piece", piece),
        patch.object(System, "draw", draw),
        patch.object(micro_batches, "augment", augment),
        FakeTensorMode(),
    ):
        update = TrainStep(System(model, config.objective, model.vocab_size), config, torch.device("cpu"))
        images = torch.empty(size, model.image_size, model.image_size, 3, dtype=torch.uint8)
        views = torch.empty(2, *images.shape, dtype=torch.uint8)
        yield update, Batch(images, torch.empty(size, model.context_length, dtype=torch.int64), views)
