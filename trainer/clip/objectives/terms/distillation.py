"""The loss of masked patches' features, which a decoder predicts from the visible patches (MaskCLIP section 3.2)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ablative.trainer.clip.models.decoder import Decoder
from ablative.trainer.clip.models.splits import take
from ablative.trainer.clip.objectives.losses import feature_loss
from ablative.trainer.clip.objectives.masking import split_image
from ablative.trainer.clip.objectives.terms.contrastive import Embeddings
from ablative.trainer.clip.objectives.terms.term import TEACHER, Found, Inputs, SampleTerm, Setting
from ablative.trainer.clip.spec.recipes import CONTRASTIVE, DISTILL, SELF


class Distilled(NamedTuple):
    """Outcome of the masked pass."""

    loss: Tensor
    """(B,) for each sample."""


class Distillation(SampleTerm[Distilled]):
    """Encode visible patches, decode them with mask tokens, compare with what a teacher sees in the whole image."""

    names = (DISTILL,)

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.decoder = Decoder(setting.model, None, features=True, restores=self.image.mask_token is None)
        self.parts = {"feature_decoder": self.decoder}

    def draws(self) -> tuple[int, int]:
        return self.image.count, 0

    def losses(self, inputs: Inputs, found: Found) -> Distilled:
        options = self.objective.distill
        split = split_image(inputs.draws.image, self.objective.mask_ratio)
        seen = self.image.masked(inputs.images, split, self.paths(inputs.draws))
        rows = self.decoder.image_rows(seen, split)
        target = take(self._target(found), split.hidden)
        return Distilled(feature_loss(self.decoder.to_features(rows), target, options.beta, options.reduce))

    @torch.no_grad()
    def _target(self, found: Found) -> Tensor:
        """Features of all patches of the whole images, (B,N,D)."""
        if self.recipe.teacher == SELF:
            embeddings = found[CONTRASTIVE]
            assert isinstance(embeddings, Embeddings)
            target = embeddings.patches
        else:
            (target,) = found[TEACHER]
        assert target is not None
        if self.objective.distill.target_norm == "layer":
            target = F.layer_norm(target.float(), target.shape[-1:])
        return target

    def values(self, losses: Distilled, size: int, shares: Tensor | None) -> dict[str, Tensor]:
        return {DISTILL: losses.loss.sum() / size}
