"""One protocol on one data set, as its function sees it."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from ablative.study.core.errors import ConfigError, DataError
from ablative.study.home.paths import TaskPaths
from ablative.trainer.clip.data.questions.questions import QuestionSplit
from ablative.trainer.clip.data.questions.shape_questions import TASKS as QUESTION_TASKS
from ablative.trainer.clip.data.sets.clip_benchmark import ClipBenchmarkSet
from ablative.trainer.clip.data.sets.evaluation import EvaluationSet, Split
from ablative.trainer.clip.protocols.parts.features import Representation
from ablative.trainer.clip.spec.config import QUESTIONS, DatasetConfig, ProtocolConfig
from ablative.trainer.clip.spec.prompts import OWN, templates


@dataclass(frozen=True)
class Evaluation:
    """What is evaluated, how and on what; the methods check what they hand out."""

    representation: Representation
    protocol: ProtocolConfig
    config: DatasetConfig
    dataset: EvaluationSet
    content: str
    """Fingerprint of the data set's content."""
    task: TaskPaths | None = None
    """Where a protocol keeps what is no metric."""

    def features(self, split: str, kind: str) -> np.ndarray:
        """float32 (n, D) of a split's images, see `Representation.image_features`."""
        return self.representation.image_features(self.config, self.content, split, self.split(split), kind)

    def embeddings(self, split: str) -> np.ndarray:
        """L2-normalised float32 (n, E) of a split's images."""
        return self.representation.image_embeddings(self.config, self.content, split, self.split(split))

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

    def questions(self, name: str) -> QuestionSplit:
        """The split `broad`, `train` or `test` with its questions; raises ConfigError where the set has none."""
        split = self.split(name)
        if not isinstance(split, QuestionSplit):
            raise ConfigError(
                f"data set {self.config.name}: it has no questions, which question answering needs; sets of the kinds "
                f"{', '.join(QUESTIONS)} have, and shapes with the tasks {', '.join(QUESTION_TASKS)}"
            )
        return split

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
            raise ConfigError(f"{where}: it has no labels, which classification needs{self._label_hint}")
        if classes < 2:
            raise ConfigError(f"{where}: {classes} classes; classification needs 2 or more")
        if name == "train" and len(labels) < classes:
            # Unless the configuration took a part, there are no more samples.
            hint = f"; raise `{name}` to at least {classes}" if self.config.train else ", too few to train on"
            raise ConfigError(f"{where}: {len(labels)} {name} samples for {classes} classes{hint}")
        if labels.min() < 0 or labels.max() >= classes:
            found = f"{labels.min()} to {labels.max()}"
            raise DataError(f"{where}: {name} labels run from {found}, expected 0 to {classes - 1}")
        return labels
