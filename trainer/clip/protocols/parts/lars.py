"""LARS (You et al. 2017) as in MAE's `util/lars.py`, which has it from MoCo v3."""

from __future__ import annotations

from collections.abc import Iterable

import torch


class LARS(torch.optim.Optimizer):
    """Momentum SGD whose step for every matrix is scaled to the matrix's own norm.

    Weights are multiplied by ``trust_coefficient * |weight| / |gradient + decay|`` only where they have
    more than one dimension; biases are neither decayed nor rescaled.
    """

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter],
        lr: float,
        weight_decay: float = 0.0,
        momentum: float = 0.9,
        trust_coefficient: float = 0.001,
    ) -> None:
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "trust_coefficient": trust_coefficient,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                update = weight.grad
                if weight.ndim > 1:
                    update = update.add(weight, alpha=group["weight_decay"])
                    update = update * _trust(weight, update, group["trust_coefficient"])
                state = self.state[weight]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(weight)
                state["momentum"].mul_(group["momentum"]).add_(update)
                weight.add_(state["momentum"], alpha=-group["lr"])


def _trust(weight: torch.Tensor, update: torch.Tensor, coefficient: float) -> torch.Tensor:
    """Local learning rate: 1 where either norm is 0, as a zero matrix could never leave zero."""
    weight_norm, update_norm = weight.norm(), update.norm()
    usable = (weight_norm > 0) & (update_norm > 0)
    return torch.where(usable, coefficient * weight_norm / update_norm, torch.ones_like(weight_norm))
