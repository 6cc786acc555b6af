"""Convolutions of a tokenizer of images, from the configuration alone: shared by modules and their arithmetic."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ablative.trainer.clip.spec.loss_options import CodesConfig


class Layer(NamedTuple):
    """One convolution."""

    inputs: int
    outputs: int
    kernel: int
    side: int
    """Side of its output, in pixels."""

    @property
    def flops(self) -> float:
        return 2.0 * self.inputs * self.outputs * self.kernel**2 * self.side**2

    @property
    def parameters(self) -> int:
        return self.inputs * self.outputs * self.kernel**2 + self.outputs


def group_widths(codes: CodesConfig) -> list[int]:
    """Channels at each size of the image, from whole to one pixel for each code."""
    groups = codes.stride.bit_length()
    assert codes.stride == 1 << (groups - 1), f"stride {codes.stride} is not a power of two"
    return [codes.width << i for i in range(groups)]


def encoder_layers(codes: CodesConfig, grid: int) -> list[Layer]:
    """Convolutions of an encoder of images that have grid × grid codes."""
    widths, side = group_widths(codes), grid * codes.stride
    layers = [Layer(3, widths[0], 7, side)]
    for i, width in enumerate(widths):
        layers += _residual_layers(widths[max(0, i - 1)], width, codes.blocks, side >> i)
    return [*layers, Layer(widths[-1], codes.outputs, 1, grid)]


def decoder_layers(codes: CodesConfig, grid: int) -> list[Layer]:
    """Convolutions of a decoder, the encoder's way back."""
    widths, side = group_widths(codes), grid * codes.stride
    layers = [Layer(codes.outputs, widths[-1], 1, grid)]
    for i in reversed(range(len(widths))):
        layers += _residual_layers(widths[min(i + 1, len(widths) - 1)], widths[i], codes.blocks, side >> i)
    return [*layers, Layer(widths[0], 3, 1, side)]


def _residual_layers(before: int, width: int, blocks: int, side: int) -> Iterator[Layer]:
    hidden = width // 4
    for inputs in (before, *[width] * (blocks - 1)):
        if inputs != width:
            yield Layer(inputs, width, 1, side)
        yield Layer(inputs, hidden, 3, side)
        yield from [Layer(hidden, hidden, 3, side)] * 2
        yield Layer(hidden, width, 1, side)
