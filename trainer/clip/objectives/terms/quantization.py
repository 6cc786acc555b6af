"""The loss of a tokenizer of images: how well pixels are restored from codes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ablative.trainer.clip.models.codes import Detokenizer, Tokenizer, numbered
from ablative.trainer.clip.objectives.terms.term import Found, Inputs, SampleTerm, Setting
from ablative.trainer.clip.spec.recipes import FSQ


class Restored(NamedTuple):
    """Outcome of a pass through encoder, codes and decoder."""

    loss: Tensor
    """(B,) mean squared error of pixels."""


class Quantization(SampleTerm[Restored]):
    """Encode, round, decode: the codes are fixed points of a grid, so that no further loss has to keep them in use."""

    names = (FSQ,)
    passes = 0

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        codes = setting.objective.codes
        self.tokenizer = Tokenizer(codes, setting.model.image_size // setting.model.patch_size)
        self.decoder = Detokenizer(codes)
        self.parts = {"code_encoder": self.tokenizer, "code_decoder": self.decoder}
        self._codes = torch.zeros(0, dtype=torch.int64)

    def losses(self, inputs: Inputs, found: Found) -> Restored:
        pixels = self.tokenizer.pixels(inputs.images)
        digits = self.tokenizer.digits(pixels)
        self._codes = numbered(digits.detach(), self.tokenizer.levels)
        return Restored((self.decoder(digits).float() - pixels).square().mean((1, 2, 3)))

    def values(self, losses: Restored, size: int, shares: Tensor | None) -> dict[str, Tensor]:
        return {FSQ: losses.loss.sum() / size}

    def metrics(self) -> dict[str, float]:
        """Codes in use in the last micro-batch of the first process, as a perplexity: 1 where all patches have one."""
        counts = self._codes.flatten().bincount()
        return {"code_perplexity": float(torch.special.entr(counts / counts.sum().clamp(min=1)).sum().exp())}
