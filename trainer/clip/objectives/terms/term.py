"""What a loss is to the step that trains with it.

The value of a `BatchTerm` depends on all samples of a batch at once: what it needs of each sample crosses to the whole
batch, and the gradient comes back the same way. The value of a `SampleTerm` is a sum over samples.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from ablative.study.core.registry import load
from ablative.trainer.clip.models.pooling import Head
from ablative.trainer.clip.models.towers import ImageTower, TextTower
from ablative.trainer.clip.spec.config import ModelConfig, ObjectiveConfig
from ablative.trainer.clip.spec.recipes import TERMS, recipe_of


@dataclass(frozen=True)
class Draws:
    """Every random number of a batch; slice it along with the batch."""

    image: Tensor
    """Uniform fp32 (B,N), or (B,0) where no patch is ever hidden."""
    text: Tensor
    """Uniform fp32 (B,L), or (B,0)."""
    views: Tensor
    """Uniform fp32 (V,B,K) for the augmentation of V further views, which may be none. They stay on the CPU: there it
    is decided which samples each operation takes."""
    paths: Tensor | None = None
    """Uniform fp32 (P,B,2·depth) for the stochastic depth of P passes of the image tower; None: without."""

    def __getitem__(self, rows: slice | Tensor) -> Draws:
        paths = None if self.paths is None else self.paths[:, rows]
        return Draws(self.image[rows], self.text[rows], self.views[:, rows], paths)

    def to(self, device: torch.device | str) -> Draws:
        paths = None if self.paths is None else self.paths.to(device)
        return Draws(self.image.to(device), self.text.to(device), self.views, paths)


class Inputs(NamedTuple):
    """A piece of a batch, b samples, as losses take it."""

    images: Tensor
    """float32 (b,3,S,S)."""
    tokens: Tensor
    """int64 (b,L), 0 is padding."""
    draws: Draws
    rows: int | None = None
    """Masked tokens at most, where that is known without a look at the device."""
    views: Tensor | None = None
    """float32 (V·b,3,S,S): the first further view of each sample, then the second; None where no loss asks for them."""


class Setting(NamedTuple):
    """What a loss is built on."""

    image: ImageTower | None
    text: TextTower | None
    model: ModelConfig
    objective: ObjectiveConfig
    vocab_size: int
    head: Head | None = None
    """How an earlier loss of the objective pools images, which later ones share."""
    passes: int = 0
    """Passes of the image tower that earlier losses make."""


Outcome = tuple[Tensor | None, ...]
"""What a pass yields for each sample: a named tuple of the term."""
Own = TypeVar("Own", bound=Outcome)
TEACHER = "teacher"
"""Name under which the outcome of the teacher's pass is found: its features of whole images, (B,N,D)."""
Found = Mapping[str, Outcome]
"""Outcomes of `BatchTerm.features` on the same samples, by the term's name: a pass is not computed twice."""


class Term(ABC):
    """One loss, or several that share their pass."""

    names: tuple[str, ...]
    """Names of its values, among `trainer.clip.spec.recipes.TERMS`."""
    parts: Mapping[str, nn.Module | nn.Parameter]
    """What it trains besides the towers, by the names under which a system has them."""
    passes = 1
    """Passes of the image tower that it makes."""

    def __init__(self, setting: Setting) -> None:
        """Initialised from torch's global generator."""
        self._image, self.text = setting.image, setting.text
        self.model, self.objective = setting.model, setting.objective
        self.recipe = recipe_of(setting.objective)
        self._first_pass = setting.passes

    @property
    def image(self) -> ImageTower:
        """The image tower, of objectives that train one."""
        assert self._image is not None
        return self._image

    def paths(self, draws: Draws) -> Tensor | None:
        """Numbers of its passes one after the other, (passes·b,2·depth), for `ImageTower.forward`."""
        if draws.paths is None:
            return None
        return draws.paths[self._first_pass : self._first_pass + self.passes].flatten(0, 1)

    def draws(self) -> tuple[int, int]:
        """Random numbers that it asks for: of each image, and of each text."""
        return 0, 0

    def metrics(self) -> dict[str, float]:
        """Further values to be reported as `train/NAME`; may wait for the device."""
        return {}


class BatchTerm(Term, Generic[Own]):
    """A loss whose value depends on all samples of a batch at once."""

    @abstractmethod
    def features(self, inputs: Inputs) -> Own:
        """Outcome of its passes; other terms of the same objective may ask for any of it."""

    @abstractmethod
    def crossing(self, features: Own) -> tuple[Tensor, ...]:
        """The part of these that the loss is a function of: (b,E) each."""

    @abstractmethod
    def loss(self, crossing: tuple[Tensor, ...], local: bool, rows: slice | None) -> Tensor:
        """The batch's loss, scalar.

        Args:
            crossing: of all samples, in the batch's order, (B,E) each.
            local: negatives are those of the sample's group alone (`objective.local_batch`).
            rows: the samples whose part of the loss is asked for; None: all.
        """


class SampleTerm(Term, Generic[Own]):
    """A loss that adds up over samples."""

    counted = False
    """A sample weighs by a count, which `shares` needs of the whole batch; else all weigh the same."""

    def counts(self, inputs: Inputs, found: Found) -> Tensor:
        """(b,) these counts, where it is `counted`."""
        return torch.ones(len(inputs.tokens), device=inputs.tokens.device)

    def shares(self, counts: Tensor) -> Tensor:
        """(B,) what each sample's value counts for in the batch's, from the counts of them all."""
        return counts / counts.sum()

    def rows(self, tokens: Tensor) -> int | None:
        """Bound of a piece's masked tokens, for `Inputs.rows`, from its tokens (b,L) still on the CPU."""
        return None

    @abstractmethod
    def losses(self, inputs: Inputs, found: Found) -> Own:
        """Values of each sample."""

    @abstractmethod
    def values(self, losses: Own, size: int, shares: Tensor | None) -> dict[str, Tensor]:
        """What these samples add to the losses of a batch of `size`, by name, scalars.

        Args:
            losses: as `losses` returns them.
            size: samples of the whole batch.
            shares: of these samples; None: they are the whole batch.
        """


def make_terms(setting: Setting) -> Iterator[Term]:
    """The terms of an objective, in the recipe's order; names that follow one another in one class are one term."""
    codes = (TERMS[name].code for name in recipe_of(setting.objective).terms)
    for code, _ in itertools.groupby(codes):
        term: Term = load(f"ablative.trainer.clip.objectives.terms.{code}")(setting)
        head = term.parts.get("image_head")
        if isinstance(head, Head):
            setting = setting._replace(head=head)
        setting = setting._replace(passes=setting.passes + term.passes)
        yield term
