"""A tokenizer of images: which of some codes each patch has, and the image again from its codes.

The encoder is DALL-E's discrete VAE's (Ramesh et al. 2021), weights under their names, so that theirs can be read. One
that is trained here ends in a few channels, each of which is rounded to one of a few levels (finite scalar
quantization, Mentzer et al. 2023): every combination of them is a code, and none has to be learned.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablative.trainer.clip.models.blocks import full_precision
from ablative.trainer.clip.models.code_sizes import group_widths
from ablative.trainer.clip.spec.loss_options import CodesConfig

MARGIN = 0.1
"""DALL-E's encoder takes pixels in [MARGIN, 1 − MARGIN]."""
SLACK = 1e-3
"""How far the bounds of a channel stay inside its outermost levels, relative to their distance (the paper's ε)."""


def rounded(encoded: Tensor, levels: Tensor) -> Tensor:
    """encoded (…,d) → the nearest of so many whole numbers for each channel, −⌊L/2⌋ and up, float (…,d).

    The gradient passes the rounding as if it were none.
    """
    half = (levels - 1) * (1 - SLACK) / 2
    offset = (levels + 1) % 2 / 2
    bounded = (encoded + (offset / half).tan()).tanh() * half - offset
    return bounded + (bounded.round() - bounded).detach()


def numbered(digits: Tensor, levels: Sequence[int]) -> Tensor:
    """Whole numbers as `rounded` returns them (…,d) → numbers of codes, int64 (…): the first channel counts ones."""
    codes = torch.zeros(digits.shape[:-1], dtype=torch.int64, device=digits.device)
    for i in reversed(range(len(levels))):
        codes = codes * levels[i] + digits[..., i].long() + levels[i] // 2
    return codes


class Convolution(nn.Module):
    """A convolution that keeps the size; its deviation follows from its inputs (`initialise` sets those of others)."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel) * (inputs * kernel**2) ** -0.5)
        self.b = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """x (B,C,S,S) → (B,outputs,S,S)."""
        return F.conv2d(x, self.w, self.b, padding=self.w.shape[-1] // 2)


class ResidualBlock(nn.Module):
    """Four convolutions on a quarter of the width, weighted by 1/layers² and added."""

    def __init__(self, inputs: int, width: int, layers: int) -> None:
        super().__init__()
        hidden = width // 4
        self.gain = layers**-2
        self.id_path = Convolution(inputs, width, 1) if inputs != width else nn.Identity()
        parts = [(inputs, hidden, 3), (hidden, hidden, 3), (hidden, hidden, 3), (hidden, width, 1)]
        self.res_path = nn.Sequential()
        for i, sizes in enumerate(parts, 1):
            self.res_path.add_module(f"relu_{i}", nn.ReLU())
            self.res_path.add_module(f"conv_{i}", Convolution(*sizes))

    def forward(self, x: Tensor) -> Tensor:
        """x (B,C,S,S) → (B,width,S,S)."""
        return self.id_path(x) + self.gain * self.res_path(x)


def _groups(widths: list[int], before: int, blocks: int, resize: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Residual blocks at each size, and what changes the size after all but the last."""
    for i, width in enumerate(widths):
        group = nn.Sequential()
        for j in range(blocks):
            group.add_module(f"block_{j + 1}", ResidualBlock(before, width, len(widths) * blocks))
            before = width
        if i < len(widths) - 1:
            group.add_module("pool", resize)
        yield f"group_{i + 1}", group


class Tokenizer(nn.Module):
    """Images to codes."""

    counts: Tensor
    """The levels, (d,)."""

    def __init__(self, codes: CodesConfig, grid: int) -> None:
        """`grid`: codes along a side of an image."""
        super().__init__()
        widths = group_widths(codes)
        self.side, self.levels = grid * codes.stride, codes.levels
        self.register_buffer("counts", torch.tensor(codes.levels, dtype=torch.float32), persistent=False)
        self.blocks = nn.Sequential(
            OrderedDict(
                [
                    ("input", Convolution(3, widths[0], 7)),
                    *_groups(widths, widths[0], codes.blocks, nn.MaxPool2d(2)),
                    ("output", _with_relu(Convolution(widths[-1], codes.outputs, 1))),
                ]
            )
        )

    def pixels(self, images: Tensor) -> Tensor:
        """images (B,3,S,S) in [-1,1] → as the encoder takes them, (B,3,s,s).

        One that is trained here takes them as they are: in DALL-E's range, whose middle is not 0, all images have
        nearly the same outputs, and few codes are in use.
        """
        x = images.float()
        if x.shape[-1] != self.side:
            x = F.interpolate(x, size=(self.side, self.side), mode="bicubic", antialias=True).clamp(-1, 1)
        return x if self.levels else (0.5 - MARGIN) * x + 0.5

    def digits(self, pixels: Tensor) -> Tensor:
        """What the encoder makes of `pixels`, (B,N,d): whole numbers as `rounded` returns them."""
        return rounded(self.blocks(pixels).float().flatten(2).transpose(1, 2), self.counts)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """images (B,3,S,S) in [-1,1] → codes int64 (B,N), row by row."""
        pixels = self.pixels(images)
        with full_precision(pixels):
            if self.levels:
                return numbered(self.digits(pixels), self.levels)
            return self.blocks(pixels).flatten(2).argmax(1)


class Detokenizer(nn.Module):
    """Codes to pixels."""

    halves: Tensor
    """The greatest whole number of each channel, (d,)."""

    def __init__(self, codes: CodesConfig) -> None:
        super().__init__()
        widths = group_widths(codes)[::-1]
        self.blocks = nn.Sequential(
            OrderedDict(
                [
                    ("input", Convolution(codes.outputs, widths[0], 1)),
                    *_groups(widths, widths[0], codes.blocks, nn.Upsample(scale_factor=2)),
                    ("output", _with_relu(Convolution(widths[-1], 3, 1))),
                ]
            )
        )
        halves = torch.tensor([level // 2 for level in codes.levels], dtype=torch.float32)
        self.register_buffer("halves", halves, persistent=False)

    def forward(self, digits: Tensor) -> Tensor:
        """Whole numbers as `Tokenizer.digits` returns them (B,N,d), scaled to [-1,1] → pixels (B,3,s,s)."""
        grid = int(digits.shape[1] ** 0.5)
        pixels: Tensor = self.blocks((digits / self.halves).transpose(1, 2).unflatten(2, (grid, grid)))
        return pixels


def _with_relu(convolution: Convolution) -> nn.Sequential:
    return nn.Sequential(OrderedDict([("relu", nn.ReLU()), ("conv", convolution)]))
