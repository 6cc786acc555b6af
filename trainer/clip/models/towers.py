"""The two encoders: images (ViT) and captions (transformer)."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablative.trainer.clip.models.blocks import LayerNorm, Transformer
from ablative.trainer.clip.models.patches import ConvStem, LinearStem, blank
from ablative.trainer.clip.models.positions import fixed_positions, resampling
from ablative.trainer.clip.models.splits import MaskSplit
from ablative.trainer.clip.spec.config import ModelConfig
from ablative.trainer.clip.token_ids import PAD


class ImageTower(nn.Module):
    """ViT: patches, with a class token in front of them where the model has one."""

    positions: Tensor
    """(G²,D) of a G × G grid: learned, or fixed and 2-D (MAE-CLIP's supplement C)."""
    resampling: Tensor | None
    """Matrix from learned positions of that grid to those of the image's patches, where the two differ."""

    def __init__(self, model: ModelConfig, normalize: bool = True, mask_token: bool = False) -> None:
        """`mask_token`: hidden patches are replaced by a learned token instead of left out (`masked`)."""
        super().__init__()
        side = model.image_size // model.patch_size
        grid = model.position_grid or side
        self.side = side
        """Patches along a side of an image."""
        self.count = side * side
        """Patches of an image."""
        self.extra = int(model.class_token)
        """Tokens in front of them."""
        self.stem = (ConvStem if model.stem == "conv" else LinearStem)(model.patch_size, model.width)
        if model.positions == "learned":
            self.positions = nn.Parameter(0.02 * torch.randn(grid * grid, model.width))
        else:
            self.register_buffer("positions", fixed_positions(model.width, side, grid), persistent=False)
        learned = model.positions == "learned" and grid != side
        self.register_buffer("resampling", resampling(grid, side, side) if learned else None, persistent=False)
        # It has no position, which would only be added to it.
        self.class_token = nn.Parameter(0.02 * torch.randn(model.width)) if model.class_token else None
        self.mask_token = nn.Parameter(0.02 * torch.randn(model.width)) if mask_token else None
        self.trunk = Transformer(model.width, model.depth, model.heads, model.mlp_ratio, model.drop_path)
        self.norm: nn.Module = LayerNorm(model.width) if normalize else nn.Identity()

    def forward(
        self,
        images: Tensor,
        keep: Tensor | None = None,
        hidden: Tensor | None = None,
        paths: Tensor | None = None,
    ) -> Tensor:
        """images (B,3,S,S) → (B,C+N,D): the class token, if there is one, and the patches.

        Args:
            keep: int64 (B,K); encode those patches alone → (B,C+K,D), in the order of `keep`.
            hidden: int64 (B,M); the mask token is in the place of those patches, of which nothing is seen.
            paths: random numbers of stochastic depth, as `Transformer.forward` takes them.
        """
        return self.norm(self.trunk(self._embedded(images, keep, hidden), paths=paths))

    def masked(self, images: Tensor, split: MaskSplit, paths: Tensor | None = None) -> Tensor:
        """Hidden patches of a split are left out → (B,C+V,D), or a mask token is in their places → (B,C+N,D)."""
        if self.mask_token is None:
            return self(images, split.visible, paths=paths)
        hidden = split.hidden
        if split.hidden_valid is not None:  # a place that holds no element names another one again, the last
            hidden = hidden.where(split.hidden_valid, hidden[:, -1:])
        return self(images, hidden=hidden, paths=paths)

    def patches(self, tokens: Tensor) -> Tensor:
        """Patches alone of what `forward` returns."""
        return tokens[:, self.extra :] if self.extra else tokens

    def taps(self, images: Tensor, blocks: Sequence[int], paths: Tensor | None = None) -> list[Tensor]:
        """What so many blocks make of the patches of images (B,3,H,W): (B,N,D) each, without the final norm.

        Images of other sizes than the model's have its positions, resampled.

        Args:
            blocks: numbers from 1 to the depth, in ascending order.
        """
        found = []
        for number, output in enumerate(self.trunk.outputs(self._embedded(images), paths=paths), 1):
            if number in blocks:
                found.append(self.patches(output))
            if number == blocks[-1]:
                break
        return found

    def values(self, images: Tensor) -> Tensor:
        """images (B,3,S,S) → (B,N,D): the patches by the value path, without attention in the last block (Zhou et al.
        2022, Extract free dense labels from CLIP)."""
        return self.patches(self.norm(self.trunk.values(self._embedded(images))))

    def _embedded(self, images: Tensor, keep: Tensor | None = None, hidden: Tensor | None = None) -> Tensor:
        if hidden is None:
            x = self.stem(images, keep)
        else:
            assert self.mask_token is not None
            x = self.stem(blank(images, hidden, self.stem.patch_size))
            index = hidden[..., None].expand(-1, -1, x.shape[-1])
            x = x.scatter(1, index, self.mask_token.to(x.dtype).expand_as(index))
        rows, columns = (length // self.stem.patch_size for length in images.shape[2:])
        positions = self._positions(rows, columns)
        x = x + (positions if keep is None else positions[keep])
        if self.class_token is None:
            return x
        return torch.cat([self.class_token.to(x.dtype).expand(len(x), 1, -1), x], dim=1)

    def _positions(self, rows: int, columns: int) -> Tensor:
        """(rows · columns, D)."""
        if (rows, columns) == (self.side, self.side):
            return self.positions if self.resampling is None else self.resampling @ self.positions
        matrix = _resampling(math.isqrt(len(self.positions)), rows, columns)
        return matrix.to(self.positions.device) @ self.positions


_resampling = functools.lru_cache(64)(resampling)
"""Images of detection have many sizes, which come again and again."""


class TextTower(nn.Module):
    """Transformer over byte-pair tokens with learned positions: without causal mask (MAE-CLIP's section 3.1), or with
    one (CLIP)."""

    def __init__(self, model: ModelConfig, vocab_size: int, normalize: bool = True) -> None:
        super().__init__()
        self.causal = model.text_causal
        self.embedding = nn.Embedding(vocab_size, model.text_width)
        self.positions = nn.Parameter(0.01 * torch.randn(model.context_length, model.text_width))
        self.trunk = Transformer(model.text_width, model.text_depth, model.text_heads, model.mlp_ratio)
        self.norm: nn.Module = LayerNorm(model.text_width) if normalize else nn.Identity()

    def forward(self, tokens: Tensor, valid: Tensor, keep: Tensor | None = None) -> Tensor:
        """tokens int64 (B,L), valid bool (B,L): not padding → (B,L,D).

        With keep (B,K) encodes those places alone, and `valid` is (B,K) → (B,K,D). What is not
        valid is never attended to by what is; its own outputs mean nothing.
        """
        mask = causal_mask(valid, keep) if self.causal else None
        if keep is None:
            positions = self.positions[: tokens.shape[1]]
        else:
            tokens, positions = tokens.gather(1, keep), F.embedding(keep, self.positions)
        return self.norm(self.trunk(self.embedding(tokens) + positions, valid, mask))


def causal_mask(valid: Tensor, keep: Tensor | None = None) -> Tensor:
    """Which keys each query may attend: what is valid in its own and in earlier places, bool (1 or B,1,L,L).

    Padding comes last: in whole captions it is later than all that is valid. Places in `keep` (B,L) have any order.
    """
    length = valid.shape[1]
    if keep is None:
        return torch.ones(length, length, dtype=torch.bool, device=valid.device).tril()[None, None]
    earlier = keep[:, None, :] <= keep[:, :, None]
    # What is not valid attends to itself at least: without any key there would be no number to compute with.
    itself = torch.eye(length, dtype=torch.bool, device=valid.device)
    return (earlier & valid[:, None, :] | itself)[:, None]


def trim_padding(tokens: Tensor, multiple: int = 8) -> Tensor:
    """Cut columns that are padding in every row: tokens (B,L) on the CPU → (B,l), l a multiple or L.

    Padding influences no result, so this only saves time (11 % of a CLIP step at 20 tokens of 77).
    It reads the longest caption, and so belongs before the copy to a GPU.
    """
    longest = max(1, int((tokens != PAD).sum(1).max()))
    return tokens[:, : min(tokens.shape[1], -(-longest // multiple) * multiple)]
