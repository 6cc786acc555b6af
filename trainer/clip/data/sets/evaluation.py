"""The interface of evaluation sets: images with labels, captions and masks, however they are stored."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np


class Split(Protocol):
    """One split of an evaluation set. Samples keep their numbers, so that features can be cached."""

    labels: np.ndarray
    """int64 (n,), index into the set's classes; empty where the set has no labels."""

    @property
    def captions(self) -> list[list[str]] | None:
        """Every caption of each image, any of which is a hit; None where there are none."""
        ...

    def __len__(self) -> int: ...

    def images(self, i: int) -> np.ndarray:
        """uint8 (S, S, 3), resized and centrally cropped; raises DataError where the sample is broken."""
        ...

    def masks(self, i: int) -> np.ndarray | None:
        """uint8 (S, S), 0 background, 1 + class elsewhere, 255 ignored; None where the set has no masks."""
        ...


@runtime_checkable
class StoredImages(Protocol):
    """A split whose images lie in files, encoded."""

    def encoded(self, i: int) -> bytes:
        """An image's bytes as they are stored; raises DataError where it is missing."""
        ...


@runtime_checkable
class WholeImages(Protocol):
    """A split whose images are more than the square that `Split.images` shows."""

    def whole(self, i: int, short: int, long: int) -> np.ndarray:
        """uint8 (H, W, 3), of which the shorter side is resized to `short`, the longer one to `long` at most (0: any);
        raises DataError where the sample is broken."""
        ...

    def whole_mask(self, i: int) -> np.ndarray | None:
        """uint8 (H, W) as it is stored, with labels as in `Split.masks`; None where the set has no masks."""
        ...


class Instances(NamedTuple):
    """Things in one image of H × W pixels."""

    boxes: np.ndarray
    """float32 (k, 4): left, top, right, bottom in pixels."""
    labels: np.ndarray
    """int64 (k,): 1 + class."""
    masks: np.ndarray
    """uint8 (k, H, W), 1 where the thing is."""
    crowd: np.ndarray
    """bool (k,): many things within one outline."""


@runtime_checkable
class InstanceImages(Protocol):
    """A split whose images have single things with boxes and masks."""

    def picture(self, i: int) -> np.ndarray:
        """uint8 (H, W, 3) as it is stored; raises DataError where it is missing or broken."""
        ...

    def instances(self, i: int) -> Instances:
        """Things in that image."""
        ...

    def with_instances(self) -> np.ndarray:
        """int64 (m,): numbers of the images that have any, besides crowds."""
        ...


class EvaluationSet(Protocol):
    """Class names and splits."""

    classes: tuple[str, ...]
    """Names as prompts want them; of the mask's classes where the set is labelled by masks alone."""

    background: tuple[str, ...] | None
    """Masks: names of label 0; none: it is not scored; None: as the protocol says."""

    def split(self, name: str) -> Split:
        """The split `train` or `test`."""
        ...


class FileSet(EvaluationSet, Protocol):
    """A set whose images are single files: made from its `DatasetConfig` and the side of the model's images."""

    def files(self) -> tuple[Path, list[Path], list[Path]]:
        """What its fingerprint covers: the root, files by name and size, files by content."""
        ...
