"""What a model is trained on: a fixed, indexable set of image-text pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ablative.trainer.clip.data.images.crops import Crops


@dataclass(frozen=True)
class Views:
    """Samples as training sees them."""

    images: np.ndarray
    """uint8 (n, S, S, 3)."""
    captions: list[str]
    broken: tuple[tuple[int, str], ...] = ()
    """Samples that could not be read and why; the next readable one replaces each of them."""
    further: np.ndarray | None = None
    """uint8 (V, n, S, S, 3): further crops of these images, where they were asked for."""


class Order(Protocol):
    """Order of an epoch's samples: an array, or an object that computes the places that are asked for."""

    def __getitem__(self, places: np.ndarray, /) -> np.ndarray:
        """Samples int64 (n,) at `places` int64 (n,)."""
        ...


class Pairs(Protocol):
    """Image-text pairs by number; sample i is the same for ever."""

    fingerprint: str
    """SHA-256 prefix of the content, whatever its place on disk."""
    native_size: int
    """Side of every image when they are squares of one size, else 0."""
    by_epoch: bool
    """Each epoch chooses anew among a sample's captions."""

    def __len__(self) -> int: ...

    def image(self, i: int) -> np.ndarray:
        """uint8 (H, W, 3); raises DataError where the sample is broken."""
        ...

    def caption(self, i: int) -> str:
        """Caption of a sample, "" where it has none."""
        ...

    def views(
        self,
        indices: np.ndarray,
        size: int,
        crops: Crops | None,
        further: Sequence[Crops] = (),
        chosen: np.ndarray | None = None,
        into: np.ndarray | None = None,
    ) -> Views:
        """Samples `indices` (n,) resized to `size`, cropped first where `crops` says so; each read once, however many
        `further` crops are asked for. `chosen` in [0, 1), (n,): which of its captions each has; None: the first.
        `into` uint8 (1 + V, n, S, S, 3): where images are written; None: into new memory."""
        ...

    def order(self, seed: int, epoch: int) -> Order:
        """The samples of an epoch in their order, each once; a function of (seed, epoch)."""
        ...
