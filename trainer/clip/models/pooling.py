"""From the elements of one sample to one vector (MAE-CLIP section 3.1.1), and on into the joint space."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablative.study.core.errors import ConfigError, unknown
from ablative.trainer.clip.models.blocks import LayerNorm, Mlp, l2_normalize
from ablative.trainer.clip.models.splits import take
from ablative.trainer.clip.spec.config import IMAGE_POOLINGS, TEXT_POOLINGS, ModelConfig


class MeanPool(nn.Module):
    """GAP: the mean over elements that are not padding."""

    def forward(self, tokens: Tensor, valid: Tensor | None = None) -> Tensor:
        """tokens (B,N,D), valid bool (B,N) → (B,D)."""
        if valid is None:
            return tokens.mean(1)
        return tokens.masked_fill(~valid[..., None], 0).sum(1) / valid.sum(1, keepdim=True)


class MaxPool(nn.Module):
    """MAX: each channel's maximum over elements that are not padding."""

    def forward(self, tokens: Tensor, valid: Tensor | None = None) -> Tensor:
        """tokens (B,N,D), valid bool (B,N) → (B,D)."""
        if valid is not None:
            tokens = tokens.masked_fill(~valid[..., None], -torch.inf)
        return tokens.amax(1)


class FirstPool(nn.Module):
    """The class token, which is in front."""

    def forward(self, tokens: Tensor, valid: Tensor | None = None) -> Tensor:
        """tokens (B,N,D) → (B,D)."""
        return tokens[:, 0]


class LastPool(nn.Module):
    """The end marker: the last element that is not padding, which comes behind."""

    def forward(self, tokens: Tensor, valid: Tensor | None = None) -> Tensor:
        """tokens (B,N,D), valid bool (B,N) → (B,D)."""
        if valid is None:
            return tokens[:, -1]
        last = valid.sum(1) - 1
        return take(tokens, last[:, None])[:, 0]


class PatchesOnly(nn.Module):
    """A pooling of all elements but the first, the class token."""

    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, tokens: Tensor, valid: Tensor | None = None) -> Tensor:
        """tokens (B,N,D) → (B,D)."""
        pooled: Tensor = self.pool(tokens[:, 1:])
        return pooled


class AttentionPool(nn.Module):
    """MAP: one learned probe attends to the elements, then x + MLP(LN x) (big_vision `MAPHead`).

    With `residual` the probe is normalised first and added back, which is axlearn's variant.
    """

    def __init__(self, width: int, heads: int, mlp_ratio: float, residual: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.probe = nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, width)))
        self.probe_norm = LayerNorm(width) if residual else None
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.norm = LayerNorm(width)
        self.mlp = Mlp(width, mlp_ratio)

    def forward(self, tokens: Tensor, valid: Tensor | None = None) -> Tensor:
        """tokens (B,N,D), valid bool (B,N) → (B,D)."""
        mask = None if valid is None else valid[:, None, None, :]
        probe = self.probe if self.probe_norm is None else self.probe_norm(self.probe)
        q = self.query(probe).unflatten(-1, (self.heads, -1)).transpose(0, 1).expand(len(tokens), -1, -1, -1)
        k, v = self.key_value(tokens).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        x = self.out(F.scaled_dot_product_attention(q, k, v, attn_mask=mask).flatten(1))
        if self.probe_norm is not None:
            x = x + self.probe
        return x + self.mlp(self.norm(x))


FIXED: dict[str, type[nn.Module]] = {
    "gap": MeanPool,
    "max": MaxPool,
    "cls": FirstPool,
    "eos": LastPool,
}
"""Poolings that learn nothing, by their names in `trainer.clip.spec.config`."""


def make_pool(kind: str, width: int, heads: int, mlp_ratio: float, residual: bool = False) -> nn.Module:
    """The pooling called `kind`; `heads`, `mlp_ratio` and `residual` concern the attention head alone."""
    if kind in FIXED:
        return FIXED[kind]()
    if kind == "map":
        return AttentionPool(width, heads, mlp_ratio, residual)
    raise ConfigError(unknown("pooling", kind, dict.fromkeys((*IMAGE_POOLINGS, *TEXT_POOLINGS))))


def image_pool(model: ModelConfig, trained: bool = True) -> nn.Module:
    """How a model pools images: the class token, or the patches with or without it.

    Not `trained`: the mean instead of the attention head, for models of which no loss pools.
    """
    if trained:
        pool = make_pool(
            model.pooling, model.width, model.map_heads or model.heads, model.mlp_ratio, model.map_residual
        )
    else:
        pool = FIXED.get(model.pooling, MeanPool)()
    alone = model.class_token and not model.pool_class_token and model.pooling != "cls"
    return PatchesOnly(pool) if alone else pool


class Head(nn.Module):
    """Pool → (LN, where it comes after the pooling) → projection without bias into the joint space.

    By default a tower normalises its tokens before they come here (axlearn, CLIPpy); with
    `norm_here` it leaves that to the head, which normalises the pooled vector (timm).
    """

    def __init__(self, pool: nn.Module, width: int, embed_dim: int, norm_here: bool) -> None:
        super().__init__()
        self.pool = pool
        self.norm: nn.Module = LayerNorm(width) if norm_here else nn.Identity()
        self.project = nn.Linear(width, embed_dim, bias=False)

    def pooled(self, tokens: Tensor, valid: Tensor | None = None) -> Tensor:
        """tokens (B,N,D), valid bool (B,N) → (B,D), before the projection."""
        return self.norm(self.pool(tokens, valid))

    def forward(self, tokens: Tensor, valid: Tensor | None = None) -> Tensor:
        """tokens (B,N,D), valid bool (B,N) → unit vectors (B,E), fp32."""
        return l2_normalize(self.project(self.pooled(tokens, valid)))

    def elements(self, tokens: Tensor) -> Tensor:
        """Every element by itself in the joint space: tokens (B,N,D) → unit vectors (B,N,E), fp32."""
        return l2_normalize(self.project(self.norm(tokens)))
