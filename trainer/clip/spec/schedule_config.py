"""Configuration of the optimiser, the length of a run, and its arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

from ablative.study.core.typed import field


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """Optimiser, length and precision (supplement Table 8)."""

    name: str = field(identity=False)
    """Preset that this came from; the values below are what counts."""
    steps: int = field(low=0)
    """Optimiser steps; 0 leaves the model at its random initialisation."""
    batch_size: int = field(low=2)
    """Global batch: it sets the number of contrastive negatives."""
    lr: float = field(5e-4, above=0)
    """Learning rate after the warm-up, from which a cosine falls."""
    lr_floor: float = field(0.0, low=0)
    """Learning rate at the end of the cosine."""
    warmup_steps: int = field(200, low=0)
    """Steps in which the learning rate rises linearly from 0."""
    weight_decay: float = field(0.1, low=0)
    """AdamW's, of the parameters that decay: `no_decay` names the others."""
    beta1: float = field(0.9, low=0, below=1)
    """AdamW's decay of the first moment."""
    beta2: float = field(0.98, low=0, below=1)
    """AdamW's decay of the second moment."""
    eps: float = field(1e-6, above=0)
    """AdamW's term against division by zero."""
    grad_clip: float = field(0.0, low=0)
    """Clip the gradient's global norm; 0 does not (the paper names no clipping)."""
    crop_scale: float = field(1.0, above=0, high=1)
    """Smallest area of RandomResizedCrop; 1 turns it off."""
    precision: str = field("fp32", choices=("fp32", "bf16"))
    """Arithmetic of the towers: bf16 autocast changes the result, so it is part of it."""
    exchange_precision: str = field("fp32", choices=("fp32", "bf16"), identity_default="fp32")
    """Format in which the processes of a run exchange gradients: bf16 halves what travels, and rounds it."""
