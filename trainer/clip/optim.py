"""AdamW with decay groups, and the learning rate as a pure function of the step.

Linear warm-up, then half a cosine (Loshchilov & Hutter 2017), as open_clip's `cosine_lr` counts the steps:
update 0 already has lr/warmup_steps, and the floor would be reached one update after the last.
"""

from __future__ import annotations

import math

import torch

from ablative.trainer.clip.objectives.system import System, no_decay
from ablative.trainer.clip.spec.schedule_config import ScheduleConfig

FUSED_DEVICES = ("cpu", "cuda")
"""Devices where one fused kernel updates all parameters: at small sizes the update is mostly overhead."""


def learning_rate(schedule: ScheduleConfig, step: int) -> float:
    """Learning rate of the update number `step`, counted from 0."""
    if step < schedule.warmup_steps:
        return schedule.lr * (step + 1) / schedule.warmup_steps
    length = max(1, schedule.steps - schedule.warmup_steps)
    share = (step - schedule.warmup_steps) / length
    return schedule.lr_floor + (schedule.lr - schedule.lr_floor) * 0.5 * (1 + math.cos(math.pi * share))


def make_optimizer(system: System, schedule: ScheduleConfig, device: torch.device) -> torch.optim.AdamW:
    """AdamW over the parameters of `system`, without weight decay for those that `no_decay` names."""
    groups: dict[float, list[torch.nn.Parameter]] = {schedule.weight_decay: [], 0.0: []}
    for name, parameter in system.named_parameters():
        if parameter.requires_grad:
            groups[0.0 if no_decay(name, parameter) else schedule.weight_decay].append(parameter)
    return torch.optim.AdamW(
        [{"params": params, "weight_decay": decay} for decay, params in groups.items() if params],
        lr=schedule.lr,
        betas=(schedule.beta1, schedule.beta2),
        eps=schedule.eps,
        fused=device.type in FUSED_DEVICES,
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = value
