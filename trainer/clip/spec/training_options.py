"""Keys of protocols that train whole towers, a section for each kind (`protocol.NAME.augment`)."""

from __future__ import annotations

from dataclasses import dataclass

from ablative.study.core.typed import field


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How the training images of fine-tuning are changed; nothing by default. Ranges that have no key are timm's."""

    crop_scale: float = field(1.0, above=0, high=1)
    """Smallest area of RandomResizedCrop; 1: the central square as in the test."""
    flip: float = field(0.0, low=0, high=1)
    """Probability that left and right change places."""
    operations: int = field(0, low=0)
    """RandAugment: operations of an image, each done with probability ½ (Cubuk et al. 2020)."""
    magnitude: float = field(9.0, low=0, high=10)
    """RandAugment: how strong they are, on average."""
    magnitude_std: float = field(0.5, low=0)
    """RandAugment: deviation of that."""
    erase: float = field(0.0, low=0, high=1)
    """Probability that a rectangle becomes noise (Zhong et al. 2017): 2 % to a third of the image."""
    mixup: float = field(0.0, low=0)
    """Images and labels of a batch are blended, with a share from Beta(this, this) (Zhang et al. 2018); 0: not."""
    cutmix: float = field(0.0, low=0)
    """A rectangle of an image is another's, its area's share from Beta(this, this) (Yun et al. 2019); with both, each
    batch takes one or the other."""


@dataclass(frozen=True, kw_only=True)
class UpernetConfig:
    """Semantic segmentation by fine-tuning with UPerNet; defaults are BEiT's on ADE20K."""

    steps: int = field(160_000, low=1)
    """Updates, each on `batch_size` crops; the learning rate falls to 0 linearly."""
    warmup_steps: int = field(1500, low=0)
    """Updates in which a factor of it rises linearly to 1."""
    side: int = field(512, low=8)
    """Side of the crops that are trained on, and of the windows that slide over whole images by `stride`, in pixels."""
    width: int = field(768, low=1)
    """Channels of the head."""
    auxiliary_width: int = field(256, low=1)
    """Channels of the auxiliary head, on the third tap."""
    auxiliary_weight: float = field(0.4, low=0)
    """Weight of its loss."""
    scale_low: float = field(0.5, above=0)
    """Images are resized to their size in the test times a factor uniform from here …"""
    scale_high: float = field(2.0, above=0)
    """… to here."""
    most: float = field(0.75, above=0, high=1)
    """The first of ten crops is taken in which no class has more of the pixels."""
    photometric: bool = field(True)
    """Change brightness, contrast, saturation and hue of crops."""


@dataclass(frozen=True, kw_only=True)
class DetectionConfig:
    """Detection and instance segmentation by fine-tuning with Mask R-CNN; defaults are mmdetection's on COCO."""

    warmup_steps: int = field(500, low=0)
    """Updates in which the learning rate rises linearly."""
    milestones: tuple[int, ...] = (8, 11)
    """Epochs after each of which it is a tenth of what it was."""
    short_side: int = field(800, low=8)
    """Images are resized so that their shorter side has so many pixels …"""
    long_side: int = field(1333, low=8)
    """… and the longer one so many at most."""
    width: int = field(256, low=1)
    """Channels of the feature pyramid and of the mask's head."""
    hidden: int = field(1024, low=1)
    """Width of the box's head."""
    anchor_scale: float = field(8.0, above=0)
    """Side of the smallest anchors over the distance of two cells, at each of five levels."""
    scales_per_octave: int = field(1, low=1, identity_default=1)
    """Sizes of anchors at each level, in equal ratios up to twice the smallest. With one, objects between two levels
    overlap no anchor enough (an IoU of 0.7) to be learned from but the nearest."""
    proposals: int = field(1000, low=1, identity_default=1000)
    """Regions of an image that the first stage proposes, after suppression; before it, twice as many of each level."""
    regions: int = field(512, low=4, identity_default=512)
    """Proposals of a training image that the box's head learns from, a quarter of them at most on objects; the mask's
    head learns from these alone."""
    flip: float = field(0.5, low=0, high=1)
    """Probability that left and right change places."""
