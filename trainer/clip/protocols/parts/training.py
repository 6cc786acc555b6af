"""What protocols that train something share: batches with their learning rate, and rates that fall with the depth.

Layer-wise decay is BEiT's and MAE's (`util/lr_decay.py`): the inputs are layer 0, block i is layer i + 1, whatever
comes after the blocks is the last layer and has the whole rate; every layer below has a share of the one above.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import nn

from ablative.trainer.clip.objectives.system import no_decay
from ablative.trainer.clip.spec.config import ProtocolConfig

_BLOCK = re.compile(r"(?:^|\.)trunk\.blocks\.(\d+)\.")


class Drawn(NamedTuple):
    """A batch of training samples."""

    epoch: int
    rows: torch.Tensor
    """int64 (b,)."""
    rate: float


def batches(
    samples: int, protocol: ProtocolConfig, peak: float, generator: torch.Generator, epochs: int = 0
) -> Iterator[tuple[torch.Tensor, float]]:
    """Rows of each batch int64 (b,), with its learning rate; the highest is `peak`.

    Args:
        epochs: of one stage; the warm-up keeps its share of them. 0 takes the protocol's.
    """
    for drawn in drawn_batches(samples, protocol, peak, generator, epochs):
        yield drawn.rows, drawn.rate


def drawn_batches(
    samples: int, protocol: ProtocolConfig, peak: float, generator: torch.Generator, epochs: int = 0
) -> Iterator[Drawn]:
    """Batches in their order; arguments as of `batches`.

    Every epoch shuffles and splits into equal batches of at most `batch_size`: no sample is dropped and no
    batch is so small that its BatchNorm statistics are noise.
    """
    epochs = epochs or protocol.epochs
    warmup = protocol.warmup_epochs * epochs / protocol.epochs
    count = batches_of_an_epoch(samples, protocol)
    for epoch in range(epochs):
        order = torch.randperm(samples, generator=generator)
        for position, rows in enumerate(order.tensor_split(count)):
            rate = learning_rate(peak, epoch + position / count, epochs, warmup, protocol.lr_floor)
            yield Drawn(epoch, rows, rate)


def batches_of_an_epoch(samples: int, protocol: ProtocolConfig) -> int:
    return math.ceil(samples / protocol.batch_size)


def learning_rate(peak: float, epoch: float, epochs: int, warmup: float, floor: float = 0.0) -> float:
    """Linear warm-up from 0, then half a cosine to the floor, by fractional epoch (MAE `util/lr_sched.py`)."""
    if epoch < warmup:
        return peak * epoch / warmup
    return floor + (peak - floor) * 0.5 * (1.0 + math.cos(math.pi * (epoch - warmup) / (epochs - warmup)))


def layered_adamw(model: nn.Module, protocol: ProtocolConfig, depth: int, inputs: tuple[str, ...]) -> torch.optim.AdamW:
    """AdamW over what of `model` has a gradient, a group for each layer and kind of decay; see `set_rate`.

    Args:
        depth: number of blocks.
        inputs: prefixes of the names of parameters before the blocks.
    """
    groups: dict[tuple[int, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decay = 0.0 if no_decay(name, parameter) else protocol.weight_decay
            groups.setdefault((layer(name, depth, inputs), decay), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": own, "weight_decay": decay, "share": protocol.layer_decay ** (depth + 1 - number)}
            for (number, decay), own in groups.items()
        ],
        lr=protocol.lr,
    )


def layer(name: str, depth: int, inputs: tuple[str, ...]) -> int:
    """Layer of a parameter: 0 the inputs, i + 1 block i, `depth` + 1 what comes after."""
    if found := _BLOCK.search(name):
        return int(found[1]) + 1
    return 0 if name.startswith(inputs) else depth + 1


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group its share of a learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["share"]


def warmed(step: int, steps: int, ratio: float) -> float:
    """Share of the learning rate in a step, which rises linearly from `ratio` to 1 in so many steps (mmcv)."""
    return 1 - (1 - step / steps) * (1 - ratio) if step < steps else 1.0
