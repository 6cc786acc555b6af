"""Evaluation sets: images with labels, captions and masks, one interface for drawn, packaged and sharded data."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ablative.study.clip.config import DATASET_KINDS, DatasetConfig
from ablative.study.core.errors import ConfigError, DataError, unknown
from ablative.study.home.paths import Home

SPLITS = ("train", "test")


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


class EvaluationSet(Protocol):
    """Class names and splits."""

    classes: tuple[str, ...]
    """Names as prompts want them; of the mask's classes where the set is labelled by masks alone."""

    background: tuple[str, ...] | None
    """Masks: names of label 0; none: it is not scored; None: as the protocol says."""

    def split(self, name: str) -> Split:
        """The split `train` or `test`."""
        ...


def open_dataset(dataset: DatasetConfig, image_size: int, home: Home) -> EvaluationSet:
    """The evaluation set that a configuration names, at images of `image_size` pixels.

    Where its `split` is validation, `test` holds samples that no report touches. Raises DataError: missing or broken
    data, unknown task, more samples asked for than there are.
    """
    if dataset.kind == "shapes":
        return _open_shapes(dataset, image_size)
    if dataset.kind == "digits":
        from ablative.trainer.clip.data.sets.digits import DigitSet

        return _as_split(dataset, DigitSet(dataset, image_size))
    if dataset.kind == "shards":
        from ablative.trainer.clip.data.sets.labelled_shards import ShardSet

        return _as_split(dataset, ShardSet(dataset, image_size, home))
    return _open_published(dataset, image_size, home)


def _open_shapes(dataset: DatasetConfig, image_size: int) -> EvaluationSet:
    """Of the procedural world: labelled scenes, or questions about them."""
    from ablative.trainer.clip.data.questions.shape_questions import TASKS, ShapeQuestions
    from ablative.trainer.clip.data.world.shapes import ShapeSet

    if dataset.task in TASKS:
        return ShapeQuestions(dataset, image_size)
    return ShapeSet(dataset, image_size)


def _as_split(dataset: DatasetConfig, found: EvaluationSet) -> EvaluationSet:
    if dataset.split == "test":
        return found
    from ablative.trainer.clip.data.sets.holdout import HoldOut

    return HoldOut(found)


def _open_published(dataset: DatasetConfig, image_size: int, home: Home) -> EvaluationSet:
    """Sets in the layouts in which they are published."""
    if dataset.split != "test":
        raise ConfigError(f"data set {dataset.name}: kind '{dataset.kind}' holds no {dataset.split} split back")
    if dataset.kind == "clip_benchmark":
        from ablative.trainer.clip.data.sets.clip_benchmark import ClipBenchmarkSet

        return ClipBenchmarkSet(dataset, image_size, home)
    from ablative.trainer.clip.data.fingerprints import FILE_SETS

    if dataset.kind not in FILE_SETS:
        raise DataError(unknown("data set kind", dataset.kind, DATASET_KINDS))
    return FILE_SETS[dataset.kind](dataset, image_size)


def fingerprint_dataset(dataset: DatasetConfig, home: Home) -> str:
    """Fingerprint of an evaluation set's content: hexadecimal digits."""
    if dataset.kind == "shapes":
        from ablative.trainer.clip.data.world.shapes import fingerprint_shapes

        return fingerprint_shapes(dataset.seed)
    if dataset.kind == "digits":
        from ablative.trainer.clip.data.sets.digits import fingerprint_digits

        return fingerprint_digits()
    from ablative.trainer.clip.data.fingerprints import fingerprint

    return fingerprint(dataset, home)
