"""Keys of an objective in sections: those of each loss alone (`objective.distill`), and of the shape of masks."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ablative.study.core.typed import field

DALLE_CODES = 8192
"""Outputs of the encoder that DALL-E's authors publish."""


@dataclass(frozen=True, kw_only=True)
class MaskConfig:
    """The shape of what is hidden of an image at random; defaults are BEiT's, for 14 × 14 patches."""

    shape: str = field("patches", choices=("patches", "blocks"))
    """Single patches, or rectangles of them that may overlap (BEiT's block-wise masks). Where the last rectangle does
    not fit, single patches complete the number; where codes are predicted, it is a few fewer, as in BEiT."""
    min_patches: int = field(16, low=1)
    """Smallest rectangle, in patches."""
    max_patches: int = field(0, low=0)
    """Largest one; 0: as many as are still to be hidden."""
    min_aspect: float = field(0.3, above=0, high=1)
    """Height over width of a rectangle is between this and its inverse, uniform in its logarithm."""


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """Features of masked patches predicted from the visible ones (MaskCLIP eq. 3 to 6)."""

    weight: float = field(0.5, low=0)
    """Weight against the contrastive loss, which is the mean of both directions. MaskCLIP weighs by λ against their sum
    and states no λ: its λ = 1 would be 0.5."""
    beta: float = field(2.0, above=0)
    """SmoothL1 is quadratic below this difference, with slope 1 above it."""
    reduce: str = field("mean", choices=("mean", "sum"))
    """SmoothL1 of two vectors is the mean over their channels or the sum, `model.width` times as strong; the paper
    states neither."""
    target_norm: str = field("none", choices=("none", "layer"))
    """Targets are the teacher's features after its final LayerNorm, or these normalised once more (data2vec)."""
    ema_start: float = field(0.999, low=0, high=1)
    """Share of its old weights that a moving average keeps in the first step; it changes linearly."""
    ema_end: float = field(0.9999, low=0, high=1)
    """Share that it keeps in the last step."""


@dataclass(frozen=True, kw_only=True)
class SimclrConfig:
    """Two views of an image find each other among those of a batch (SimCLR, NT-Xent); defaults are SLIP's."""

    weight: float = field(1.0, low=0)
    """Weight against the contrastive loss, which is the mean of both directions, as in SLIP."""
    hidden: int = field(4096, low=1)
    """Width of the projector's two hidden layers."""
    dim: int = field(256, low=2)
    """Width of its output."""
    temperature: float = field(0.1, above=0)
    """Fixed."""


@dataclass(frozen=True, kw_only=True)
class ViewsConfig:
    """Augmentation of the views that SimCLR compares, in this order; the other losses see none of it."""

    crop_scale: float = field(0.08, above=0, high=1)
    """Smallest area of RandomResizedCrop."""
    jitter: float = field(0.8, low=0, high=1)
    """Probability that the colours of a view are changed: the next four, in random order."""
    brightness: float = field(0.4, low=0)
    """Factor is uniform in 1 ± this, and at least 0."""
    contrast: float = field(0.4, low=0)
    """The same for contrast."""
    saturation: float = field(0.4, low=0)
    """The same for saturation."""
    hue: float = field(0.1, low=0, high=0.5)
    """Turn of the colour circle, uniform in ± this."""
    grey: float = field(0.2, low=0, high=1)
    """Probability of a grey view."""
    blur: float = field(0.5, low=0, high=1)
    """Probability of a Gaussian blur, over a tenth of the image's side as in SimCLR."""
    sigma_min: float = field(0.1, above=0)
    """The blur's deviation in pixels is uniform from here …"""
    sigma_max: float = field(2.0, above=0)
    """… to here."""
    flip: float = field(0.5, low=0, high=1)
    """Probability that left and right change places."""


@dataclass(frozen=True, kw_only=True)
class CodesConfig:
    """The tokenizer of images, and the loss that predicts its codes; defaults have the size of DALL-E's."""

    weight: float = field(1.0, low=0)
    """Weight against the contrastive loss, which is the mean of both directions; MaskCLIP states none for CLIP+BEiT."""
    levels: tuple[int, ...] = (8, 8, 8, 4, 4)
    """Finite scalar quantization: to how many values each output of the encoder is rounded; their product is the number
    of codes. Empty: a code is the greatest of 8,192 outputs, as in DALL-E's encoder, which is read from a file."""
    stride: int = field(8, low=2)
    """Pixels along a side for each code, a power of two; images are resized so that each patch has one code."""
    width: int = field(256, low=4)
    """Channels of the first convolution, a multiple of 4; each halving of the sides doubles them."""
    blocks: int = field(2, low=1)
    """Residual blocks at each size."""
    path: str = field("", identity=False)
    """File of a trained tokenizer: DALL-E's encoder as `torch.save(encoder.state_dict())` writes it (`levels: []`), or
    `model.pt` of a run with the objective `fsq`; a relative path starts at $ABLATE_DATA. Empty: that of the run that a
    level names by `from:`."""
    fingerprint: str = field("", identity_default="")
    """SHA-256 prefix of that file, filled in by the plan."""

    @property
    def number(self) -> int:
        """Codes that there are."""
        return math.prod(self.levels) if self.levels else DALLE_CODES

    @property
    def outputs(self) -> int:
        """Channels that the encoder ends in."""
        return len(self.levels) or DALLE_CODES
