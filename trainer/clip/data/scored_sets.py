"""An evaluation set as a protocol takes it: splits, labels, captions, questions and prompts, each checked.

The plan asks for the same before anything is trained (`check_set`), so that what a suite asks of a set in vain is
not found after the pretraining. Where `ScoredSet.check` asks for more, `spec.fingerprints.CHECK_VERSION` is raised.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ablative.study.core.errors import ConfigError, DataError, UnfitDataError
from ablative.study.home.paths import Home
from ablative.trainer.clip.data.images.pictures import scaled
from ablative.trainer.clip.data.questions.questions import QuestionSplit
from ablative.trainer.clip.data.questions.shape_questions import TASKS as QUESTION_TASKS
from ablative.trainer.clip.data.sets.clip_benchmark import ClipBenchmarkSet
from ablative.trainer.clip.data.sets.evaluation import EvaluationSet, InstanceImages, Split, WholeImages
from ablative.trainer.clip.data.sources import open_dataset
from ablative.trainer.clip.spec.class_sets import class_set, split_synonyms
from ablative.trainer.clip.spec.config import DatasetConfig, ProtocolConfig
from ablative.trainer.clip.spec.dataset_kinds import QUESTIONS
from ablative.trainer.clip.spec.metrics import PROTOCOL_KINDS
from ablative.trainer.clip.spec.prompts import OWN, templates

LABELLED = ("zero_shot", "linear_probe", "finetune")
"""Kinds of protocols that score classes."""
LARGE = ("clip_benchmark", "coco_instances", *QUESTIONS)
"""Kinds of sets whose splits take minutes to open: the plan opens one only where the suite takes a part of it."""


def check_set(dataset: DatasetConfig, protocol: ProtocolConfig, home: Home) -> None:
    """Raise what the evaluation would raise for lack of samples, labels, captions or questions."""
    ScoredSet(protocol, dataset, open_dataset(dataset, 8, home)).check()


@dataclass(frozen=True)
class ScoredSet:
    """One data set of an evaluation; the methods check what they hand out."""

    protocol: ProtocolConfig
    config: DatasetConfig
    dataset: EvaluationSet

    def check(self) -> None:
        """Ask for whatever the protocol takes of the set, but images; raises as the methods do."""
        splits = ["train", "test"] if PROTOCOL_KINDS[self.protocol.kind].trains else ["test"]
        if self.config.kind in LARGE:
            splits = [name for name in splits if getattr(self.config, name)]
        for name in splits:
            if self.protocol.kind in LABELLED:
                self.labels(name)
            elif self.protocol.kind == "vqa":
                self.questions(name)
            elif self.protocol.kind == "retrieval":
                self.captions()
            elif self.protocol.kind == "detection":
                self.instances(name)
            elif self.protocol.kind in ("segmentation", "upernet"):
                self.mask(0, name)
            else:
                self.split(name)

    def split(self, name: str) -> Split:
        """The split `train` or `test`, opened once; raises DataError where it is empty."""
        if name not in self._splits:
            self._splits[name] = self.dataset.split(name)
        if not len(self._splits[name]):
            raise DataError(f"data set {self.config.name}: no {name} samples")
        return self._splits[name]

    def prompts(self) -> tuple[str, ...]:
        """Prompt templates of the data set's configuration."""
        if self.config.templates != OWN:
            return templates(self.config.templates)
        if not isinstance(self.dataset, ClipBenchmarkSet):
            raise ConfigError(f"data set {self.config.name}: templates '{OWN}' need a set of kind clip_benchmark")
        return self.dataset.templates

    def names(self) -> list[tuple[str, ...]]:
        """The names of each class, over whose prompts classification averages: one, unless its list has synonyms."""
        if self.config.classes and class_set(self.config.classes).synonyms:
            return [split_synonyms(name) for name in self.dataset.classes]
        return [(name,) for name in self.dataset.classes]

    def questions(self, name: str) -> QuestionSplit:
        """The split `broad`, `train` or `test` with its questions; raises ConfigError where the set has none."""
        split = self.split(name)
        if not isinstance(split, QuestionSplit):
            raise UnfitDataError(
                f"data set {self.config.name}: it has no questions, which question answering needs; sets of the kinds "
                f"{', '.join(QUESTIONS)} have, and shapes with the tasks {', '.join(QUESTION_TASKS)}"
            )
        return split

    def captions(self) -> list[list[str]]:
        """Captions of each test image; raises where there are none."""
        captions = self.split("test").captions
        if captions is None:
            raise UnfitDataError(f"data set {self.config.name}: it has no captions, which retrieval needs")
        if silent := sum(not own for own in captions):
            raise DataError(f"data set {self.config.name}: {silent} test images have no caption")
        return captions

    def mask(self, i: int, name: str = "test") -> np.ndarray:
        """uint8 (S, S) of an image; raises where it has none."""
        mask = self.split(name).masks(i)
        if mask is None:
            raise UnfitDataError(f"data set {self.config.name}: {name} sample {i} has no mask")
        return mask

    def instances(self, name: str) -> InstanceImages:
        """The split `train` or `test` with its instances; raises where the set has none."""
        split = self.split(name)
        if not isinstance(split, InstanceImages):
            raise UnfitDataError(
                f"data set {self.config.name}: it has no instances, which detection needs; sets of the kinds "
                "coco_instances and shapes have"
            )
        return split

    def whole(self, i: int, size: int, name: str = "test", scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
        """uint8 (H, W, 3) and the mask (h, w) of a whole image, maybe of other sizes; raises where it has none.

        Args:
            size: pixels of its shorter side, unless the set has its own.
            scale: factor on all sizes.
        """
        split = self.split(name)
        if not isinstance(split, WholeImages):
            square = split.images(i)
            return scaled(Image.fromarray(square), round(scale * len(square))), self.mask(i, name)
        mask = split.whole_mask(i)
        sides = (round(scale * side) for side in (self.config.short_side or size, self.config.long_side))
        return split.whole(i, *sides), self.mask(i, name) if mask is None else mask

    @property
    def _label_hint(self) -> str:
        """What helps where there are no labels: of some kinds of sets `task` chooses them."""
        if self.config.kind in ("shapes", "shards"):
            return "; name them in its `task`"
        return f"; leave the set out of suite.protocols.{self.protocol.kind}"

    @functools.cached_property
    def _splits(self) -> dict[str, Split]:
        return {}

    def labels(self, name: str) -> np.ndarray:
        """int64 (n,) class indices; raises where no classification can be scored on them."""
        labels, classes = self.split(name).labels, len(self.dataset.classes)
        where = f"data set {self.config.name}"
        if not len(labels):
            raise UnfitDataError(f"{where}: it has no labels, which classification needs{self._label_hint}")
        if classes < 2:
            raise UnfitDataError(f"{where}: {classes} classes; classification needs 2 or more")
        if name == "train" and len(labels) < classes:
            # Unless the configuration took a part, there are no more samples.
            key = f"suite.datasets.{self.config.name}.train"
            hint = f"; raise {key} to at least {classes}" if self.config.train else ", too few to train on"
            raise UnfitDataError(f"{where}: {len(labels)} {name} samples for {classes} classes{hint}")
        if labels.min() < 0 or labels.max() >= classes:
            found = f"{labels.min()} to {labels.max()}"
            raise DataError(f"{where}: {name} labels run from {found}, expected 0 to {classes - 1}")
        return labels
