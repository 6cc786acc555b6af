"""Configuration of published weights that a run starts from."""

from __future__ import annotations

from dataclasses import dataclass

from ablative.study.core.typed import field


@dataclass(frozen=True, kw_only=True)
class StartConfig:
    """Published weights of an image tower; with `schedule.steps: 0` they are evaluated as they are."""

    path: str = field("", identity=False)
    """File of a ViT's weights under timm's names, `.safetensors` or what `torch.save` wrote; a relative path starts at
    $ABLATE_DATA. Empty: random weights."""
    fingerprint: str = field("", identity_default="")
    """SHA-256 prefix of that file, filled in by the plan."""
    pixels: str = field("imagenet", choices=("imagenet", "half"))
    """How images were normalised that they have seen: by ImageNet's mean and deviation (DeiT, MAE, SimCLR), or by 0.5
    and 0.5 (weights that Google published)."""
