"""What a model is trained on: a fixed, indexable set of image-text pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ablative.study.clip.config import DataConfig
from ablative.study.core.errors import DataError
from ablative.study.home.paths import Home


@dataclass(frozen=True)
class Crops:
    """RandomResizedCrop of some samples: a random key each, from which the box is a function."""

    keys: np.ndarray
    """uint64 (n,)."""
    scale: float
    """Smallest share of the image's area."""


@dataclass(frozen=True)
class Views:
    """Samples as training sees them."""

    images: np.ndarray
    """uint8 (n, S, S, 3)."""
    captions: list[str]
    broken: tuple[tuple[int, str], ...] = ()
    """Samples that could not be read and why; the next readable one stands in their place."""


class Order(Protocol):
    """Of an epoch's samples; an array, or something that works out what is asked for."""

    def __getitem__(self, places: np.ndarray, /) -> np.ndarray:
        """Samples int64 (n,) at `places` int64 (n,)."""
        ...


class Pairs(Protocol):
    """Image-text pairs by number; sample i is the same for ever."""

    fingerprint: str
    """SHA-256 prefix of the content, whatever its place on disk."""
    native_size: int
    """Side of every image when they are squares of one size, else 0."""

    def __len__(self) -> int: ...

    def image(self, i: int) -> np.ndarray:
        """uint8 (H, W, 3); raises DataError where the sample is broken."""
        ...

    def caption(self, i: int) -> str:
        """Caption of a sample, "" where it has none."""
        ...

    def views(self, indices: np.ndarray, size: int, crops: Crops | None) -> Views:
        """Samples `indices` (n,) resized to `size`, cropped first where `crops` says so."""
        ...

    def order(self, seed: int, epoch: int) -> Order:
        """The samples of an epoch in their order, each once; a function of (seed, epoch)."""
        ...


def open_pairs(data: DataConfig, image_size: int, home: Home) -> Pairs:
    """The training pairs that a configuration names; shards are indexed on first use.

    Args:
        image_size: side in pixels at which the procedural world is drawn.
        home: where indexes are cached.

    Raises:
        DataError: missing, truncated or unusable data, or fewer samples than `pairs` asks for.
    """
    # Workers of a loader read shards without ever needing the procedural world, and the other way round.
    if data.kind == "shapes":
        from ablative.trainer.clip.data.world.shapes import ShapePairs

        return ShapePairs(data, image_size)
    if data.kind == "shards":
        from ablative.trainer.clip.data.shards.shards import ShardPairs

        return ShardPairs(data, home)
    raise DataError(f"data.kind: '{data.kind}' has no pairs (allowed: shapes, shards)")
