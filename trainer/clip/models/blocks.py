"""Pre-norm transformer blocks, shared by both towers and the decoder."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

NORM_EPS = 1e-6


def full_precision(x: Tensor) -> torch.autocast:
    """Context in which matrix products keep fp32: losses and similarities do not survive bf16."""
    return torch.autocast(x.device.type, enabled=False)


def narrow(x: Tensor) -> Tensor:
    """x in autocast's dtype, where there is autocast."""
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x


def wide(x: Tensor) -> Tensor:
    """x in fp32 at least."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def l2_normalize(x: Tensor) -> Tensor:
    """Unit vectors along the last axis, in fp32 whatever the autocast dtype."""
    return F.normalize(wide(x), dim=-1)


class LayerNorm(nn.LayerNorm):
    """LayerNorm whose output has its input's dtype (statistics are fp32 inside the kernel).

    Autocast would widen the output to fp32, only for the next product to narrow it again.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype == self.weight.dtype:
            return super().forward(x)
        with full_precision(x):
            return F.layer_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)


class Mlp(nn.Module):
    """Two linear layers around an exact GELU, hidden width `ratio` × width."""

    def __init__(self, width: int, ratio: float) -> None:
        super().__init__()
        self.up = nn.Linear(width, int(width * ratio))
        self.out = nn.Linear(int(width * ratio), width)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.gelu(self.up(x)))


class Attention(nn.Module):
    """Multi-head self-attention; bidirectional, unless a mask forbids it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x (B,N,D), mask bool (B,1,1 or N,N), True where a key may be attended; None lets the flash kernel run."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return self.out(F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2))

    def values(self, x: Tensor) -> Tensor:
        """What every element would get if it attended to itself alone: x (B,N,D) → (B,N,D)."""
        width = x.shape[-1]
        return self.out(F.linear(x, self.qkv.weight[2 * width :], self.qkv.bias[2 * width :]))


class Block(nn.Module):
    """x + attention(LN x), then x + MLP(LN x) (pre-layer-norm, supplement C)."""

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm1 = LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = LayerNorm(width)
        self.mlp = Mlp(width, mlp_ratio)

    def forward(self, x: Tensor, mask: Tensor | None = None, shares: Tensor | None = None) -> Tensor:
        """x (B,N,D), mask as in `Attention`, shares (B,2): factors of both branches, of each sample → (B,N,D)."""
        attended = self.attention(self.norm1(x), mask)
        if shares is None:
            x = x + attended
            return x + self.mlp(self.norm2(x))
        first, second = shares.to(x.dtype)[..., None, None].unbind(1)
        x = x + first * attended
        return x + second * self.mlp(self.norm2(x))

    def value_path(self, x: Tensor) -> Tensor:
        """The block with each element attending to itself alone (DenseCLIP): x (B,N,D) → (B,N,D)."""
        x = x + self.attention.values(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """A stack of blocks without a final norm, which towers and decoder add."""

    def __init__(self, width: int, depth: int, heads: int, mlp_ratio: float, drop_path: float = 0.0) -> None:
        """`drop_path`: how often training leaves a residual branch of the last block out (`forward`)."""
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio) for _ in range(depth))
        self.set_drop_path(drop_path)
        self.recompute = False
        """Keep each block's input alone and compute the rest again for the gradient: a third more work, and memory for
        one block instead of all (Chen et al. 2016, arXiv 1604.06174)."""

    def set_drop_path(self, drop_path: float) -> None:
        """How often training leaves a residual branch of the last block out; of the first, never."""
        depth = len(self.blocks)
        self.rates = [drop_path * (i / (depth - 1) if depth > 1 else 1.0) for i in range(depth)]
        """The same of each block: from 0 to that of the last, linearly (Huang et al. 2016, arXiv 1603.09382)."""

    def forward(
        self, x: Tensor, valid: Tensor | None = None, mask: Tensor | None = None, paths: Tensor | None = None
    ) -> Tensor:
        """x (B,N,D) → (B,N,D).

        Args:
            valid: bool (B,N); None: nothing is padding.
            mask: bool (B or 1,1,N,N), which keys each query may attend, instead of `valid`.
            paths: uniform numbers (B,2·depth) by which residual branches are left out of single samples (stochastic
                depth); None: none is. Given from outside, they are the same when a block is computed again.

        Under autocast the residual stream itself is narrow (as open_clip's image tower is): a wide
        one doubles the memory traffic of everything between the products.
        """
        x = narrow(x)
        if valid is not None and mask is None:
            mask = valid[:, None, None, :]
        for i, block in enumerate(self.blocks):
            x = self._through(block, i, x, mask, paths)
        return x

    def outputs(self, x: Tensor, paths: Tensor | None = None) -> Iterator[Tensor]:
        """What each block makes of x (B,N,D), (B,N,D) each; `paths` as in `forward`."""
        x = narrow(x)
        for i, block in enumerate(self.blocks):
            x = self._through(block, i, x, None, paths)
            yield x

    def values(self, x: Tensor) -> Tensor:
        """x (B,N,D) → (B,N,D), as `forward`, but with the value path through the last block."""
        x = narrow(x)
        for block in self.blocks[:-1]:
            x = block(x)
        last = self.blocks[-1]
        assert isinstance(last, Block)
        return last.value_path(x)

    def _through(self, block: nn.Module, i: int, x: Tensor, mask: Tensor | None, paths: Tensor | None) -> Tensor:
        shares = None if paths is None or not self.rates[i] else self._shares(paths, i)
        if self.recompute and torch.is_grad_enabled():
            # Blocks draw no random numbers whose state would have to be kept.
            x = checkpoint(block, x, mask, shares, use_reentrant=False, preserve_rng_state=False)
        else:
            x = block(x, mask, shares)
        return x

    def _shares(self, paths: Tensor, i: int) -> Tensor:
        """(B,2) factors of the branches of block `i`: 0, or what keeps their expectation."""
        kept = paths[:, 2 * i : 2 * i + 2] >= self.rates[i]
        return kept / (1 - self.rates[i])


def initialise(root: nn.Module, std: float) -> None:
    """GPT-2's initialisation of every linear, convolution and embedding below `root` (supplement C, [70]).

    | parameter                                   | value                     |
    |---------------------------------------------|---------------------------|
    | weights of linears, convolutions, embeddings | N(0, std), GPT-2: 0.02   |
    | outputs onto the residual stream            | × 1/√(2 · blocks of stack) |
    | biases                                      | 0                         |

    Tokens, positions and the pooling probe are set where they are made. Draws from torch's global generator.
    """
    for module in root.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.Embedding):
            nn.init.normal_(module.weight, std=std)
        if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
            nn.init.zeros_(module.bias)
    for stack in root.modules():
        if isinstance(stack, Transformer):
            for name, weight in stack.named_parameters():
                if name.endswith(".out.weight"):
                    weight.data.mul_((2 * len(stack.blocks)) ** -0.5)
