"""Finds the first step at which training went wrong, without making the device wait for the host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

EXPLODED = 1e4
"""A loss part beyond this is lost. Contrastive losses stay below 2·100 + ln(batch) (clamped logit scale), token
losses start near ln(vocabulary) and pixel losses near 1, so no healthy run comes near it."""

NEVER = torch.iinfo(torch.int64).max


@dataclass(frozen=True)
class Divergence:
    """The first step at which a run diverged, and what diverged first: a result, not an error."""

    step: int
    """Optimiser step, counted from 1 as in the journal."""
    culprit: str
    """The loss part, or the parameter's gradient, that went first."""


class DivergenceWatch:
    """Keeps, on the device, the first bad step of every loss part and of every parameter's gradient.

    `update` costs three small kernels and no synchronisation; `verdict` reads the answer back. The verdict
    does not depend on how often it is read, since only first steps are kept.
    """

    def __init__(self, losses: Sequence[str], parameters: Sequence[str], device: torch.device) -> None:
        self.names = [f"{name} loss" for name in losses] + [f"gradient of {name}" for name in parameters]
        limits = [EXPLODED] * len(losses) + [float("inf")] * len(parameters)
        self.losses = len(losses)
        self.limits = torch.tensor(limits, device=device)
        self.first = torch.full((len(limits),), NEVER, dtype=torch.int64, device=device)

    def update(self, step: int, values: Tensor) -> None:
        """`values` (losses + parameters,): loss parts, then gradient norms, of step `step` (from 1)."""
        # Not "values >= limits": NaN compares false with everything and has to count as bad.
        bad = ~(values < self.limits)
        self.first.masked_fill_(bad & (self.first == NEVER), step)

    def verdict(self) -> Divergence | None:
        """The first bad step so far; waits for the device."""
        first = self.first.tolist()
        step = min(first, default=NEVER)
        if step == NEVER:
            return None
        bad = [index for index, value in enumerate(first) if value == step]
        # A bad loss makes every gradient bad, so it is named before them. Bad gradients spread from the output to
        # the input: the last one in the order of the forward pass is where they began.
        culprit = bad[0] if bad[0] < self.losses else bad[-1]
        return Divergence(step, self.names[culprit])


def bad_parameter(module: nn.Module, step: int) -> Divergence | None:
    """The first parameter that is not finite: the last update's harm, which no later loss can show."""
    for name, parameter in module.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            return Divergence(step, f"parameter {name}")
    return None
