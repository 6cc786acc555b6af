"""Two augmented views of an image, which find each other among the views of a batch (SimCLR; with CLIP, SLIP)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn

from ablative.trainer.clip.models.blocks import full_precision, l2_normalize, wide
from ablative.trainer.clip.models.pooling import image_pool
from ablative.trainer.clip.objectives.losses import nt_xent
from ablative.trainer.clip.objectives.terms.term import BatchTerm, Inputs, Setting
from ablative.trainer.clip.spec.recipes import SIMCLR


class Pooled(NamedTuple):
    """Outcome of the views' pass."""

    first: Tensor
    """(B,D)."""
    second: Tensor
    """(B,D)."""


class Simclr(BatchTerm[Pooled]):
    """Both views through the image tower, pooled as the contrastive loss pools, projected, compared.

    What crosses to the whole batch is the pooled tokens: the projector's BatchNorm then sees the batch, whatever pieces
    and processes it is computed in.
    """

    names = (SIMCLR,)
    passes = 2

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        model, options = setting.model, setting.objective.simclr
        self.projector = make_projector(model.width, options.hidden, options.dim)
        self.parts = {"projector": self.projector}
        self.pooled: Callable[[Tensor], Tensor]
        if setting.head is None:
            pool = image_pool(model)
            self.pooled, self.parts = pool, {"image_pool": pool, **self.parts}
        else:
            self.pooled = setting.head.pooled

    def features(self, inputs: Inputs) -> Pooled:
        assert inputs.views is not None
        first, second = wide(self.pooled(self.image(inputs.views, paths=self.paths(inputs.draws)))).chunk(2)
        return Pooled(first, second)

    def crossing(self, features: Pooled) -> tuple[Tensor, ...]:
        return features

    def loss(self, crossing: tuple[Tensor, ...], local: bool, rows: slice | None) -> Tensor:
        # Each view is normalised by its own batch, as in SLIP.
        with full_precision(crossing[0]):
            first, second = (l2_normalize(self.projector(view)) for view in crossing)
        return nt_xent(first, second, self.objective.simclr.temperature, rows)


def make_projector(width: int, hidden: int, dim: int) -> nn.Sequential:
    """(B,width) → (B,dim): an MLP with BatchNorm after its hidden layers, of which no evaluation makes use."""
    layers: list[nn.Module] = []
    for inputs in (width, hidden):
        # BatchNorm would take a bias out again, and has no use for statistics of earlier batches.
        layers += [nn.Linear(inputs, hidden, bias=False), nn.BatchNorm1d(hidden, track_running_stats=False), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden, dim))
