"""The loss of masked patches' codes, which a linear head predicts where the tower sees mask tokens (BEiT)."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from ablative.trainer.clip.models.splits import MaskSplit, take
from ablative.trainer.clip.objectives.losses import token_loss
from ablative.trainer.clip.objectives.masking import split_blocks, split_image
from ablative.trainer.clip.objectives.terms.term import TEACHER, Found, Inputs, SampleTerm, Setting
from ablative.trainer.clip.spec.recipes import CODES


class CodeLosses(NamedTuple):
    """Outcome of the masked pass."""

    loss: Tensor
    """(B,) mean cross-entropy over the masked patches of each sample."""
    hidden: Tensor
    """(B,) how many these are, int64."""


class Codes(SampleTerm[CodeLosses]):
    """Encode the image with mask tokens in it, and name the codes of what they hide; all masked patches count alike."""

    names = (CODES,)
    counted = True

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.head = nn.Linear(setting.model.width, setting.objective.codes.number)
        self.parts = {"code_head": self.head}

    def draws(self) -> tuple[int, int]:
        return self.image.count, 0

    def split(self, scores: Tensor) -> MaskSplit:
        """What is hidden, by scores (b,N)."""
        choose = split_blocks if self.objective.mask.shape == "blocks" else split_image
        return choose(scores, self.objective.mask_ratio)

    def counts(self, inputs: Inputs, found: Found) -> Tensor:
        return self.split(inputs.draws.image).hidden_counts()

    def losses(self, inputs: Inputs, found: Found) -> CodeLosses:
        split = self.split(inputs.draws.image)
        seen = self.image.patches(self.image.masked(inputs.images, split, self.paths(inputs.draws)))
        (codes,) = found[TEACHER]
        assert codes is not None
        rows, targets = take(seen, split.hidden), codes.gather(1, split.hidden)
        losses = token_loss(rows.flatten(0, 1), self.head.weight, self.head.bias, targets.flatten()).view_as(targets)
        if split.hidden_valid is not None:
            losses = losses.where(split.hidden_valid, 0)
        counts = split.hidden_counts()
        return CodeLosses(losses.sum(1) / counts, counts)

    def values(self, losses: CodeLosses, size: int, shares: Tensor | None) -> dict[str, Tensor]:
        shares = self.shares(losses.hidden) if shares is None else shares
        return {CODES: (shares * losses.loss).sum()}
