"""The dual-modality decoder (MAE-CLIP section 3.3.1, after M3AE); with images alone, MAE's."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ablative.trainer.clip.models.blocks import LayerNorm, Transformer
from ablative.trainer.clip.models.positions import fixed_positions
from ablative.trainer.clip.models.splits import MaskSplit, restore, take
from ablative.trainer.clip.spec.config import ModelConfig


class Decoder(nn.Module):
    """Restores the sequence with mask tokens, adds positions and modality, attends, reads masked rows.

    Encoders of unequal width need an input projection each (M3AE, with one encoder, shares it).
    Image positions are fixed as in MAE, text positions learned as in the encoder. An encoder's class token
    goes in front, without a position.
    """

    image_positions: Tensor

    def __init__(
        self, model: ModelConfig, vocab_size: int | None, features: bool = False, restores: bool = True
    ) -> None:
        """
        Args:
            vocab_size: of the texts; None: images alone.
            features: what is predicted of a patch is its features instead of its pixels.
            restores: hidden patches get their mask token here; else the encoder has had one in their places.
        """
        super().__init__()
        width = model.decoder_width
        side = model.image_size // model.patch_size
        self.from_image = nn.Linear(model.width, width)
        self.image_mask = nn.Parameter(0.02 * torch.randn(width)) if restores else None
        self.extra = int(model.class_token)
        positions = fixed_positions(width, side, model.position_grid)
        self.register_buffer("image_positions", positions, persistent=False)
        self.trunk = Transformer(width, model.decoder_depth, model.decoder_heads, model.mlp_ratio)
        self.norm = LayerNorm(width)
        if features:
            self.to_features = nn.Linear(width, model.width)
        else:
            self.to_pixels = nn.Linear(width, 3 * model.patch_size**2)
        if vocab_size is not None:
            self.from_text = nn.Linear(model.text_width, width)
            self.text_mask = nn.Parameter(0.02 * torch.randn(width))
            self.text_positions = nn.Parameter(0.01 * torch.randn(model.context_length, width))
            self.modality = nn.Parameter(0.02 * torch.randn(2, width))
            self.to_tokens = nn.Linear(width, vocab_size)

    def image_rows(self, image: Tensor, split: MaskSplit) -> Tensor:
        """MAE: what `ImageTower.masked` returns (B,C+V or C+N,D) → decoded rows of the hidden patches (B,M,W)."""
        x = self.trunk(self._image_sequence(image, split))
        return self.norm(take(x, split.hidden + self.extra if self.extra else split.hidden))

    def rows(
        self, image: Tensor, text: Tensor, splits: tuple[MaskSplit, MaskSplit], valid: Tensor
    ) -> tuple[Tensor, Tensor]:
        """M3AE: encoded patches as `image_rows` takes them, and visible tokens (B,v,d); valid bool (B,L): not padding
        → decoded rows of the hidden patches (B,M,W) and of the hidden tokens (B,m,W)."""
        image_split, text_split = splits
        length = valid.shape[1]
        patches = self._image_sequence(image, image_split) + self.modality[0]
        words = restore(self.from_text(text), self.text_mask, text_split, length)
        words = words + self.text_positions[:length] + self.modality[1]
        count = patches.shape[1]
        hidden = image_split.hidden + self.extra if self.extra else image_split.hidden
        attend = torch.cat([valid.new_ones(len(valid), count), valid], dim=1)
        x = self.trunk(torch.cat([patches, words], dim=1), attend)
        return self.norm(take(x, hidden)), self.norm(take(x, text_split.hidden + count))

    def _image_sequence(self, image: Tensor, split: MaskSplit) -> Tensor:
        """(B,C+N,W): the class token, if there is one, and all patches."""
        x = self.from_image(image)
        front, x = x[:, : self.extra], x[:, self.extra :] if self.extra else x
        if self.image_mask is not None:
            x = restore(x, self.image_mask, split, len(self.image_positions))
        x = x + self.image_positions
        return torch.cat([front.to(x.dtype), x], dim=1) if self.extra else x
