"""One protocol on one data set, as its function sees it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ablative.study.home.paths import TaskPaths
from ablative.trainer.clip.data.scored_sets import ScoredSet
from ablative.trainer.clip.protocols.parts.features import Representation
from ablative.trainer.clip.protocols.resumption import Resumption


@dataclass(frozen=True)
class Evaluation(ScoredSet):
    """A representation and the set that it is evaluated on."""

    representation: Representation
    content: str
    """Fingerprint of the data set's content."""
    task: TaskPaths | None = None
    """Where a protocol keeps what is no metric."""
    resumption: Resumption = field(default_factory=Resumption)
    """Where a protocol that trains for long keeps its state."""

    def features(self, split: str, kind: str) -> np.ndarray:
        """float32 (n, D) of a split's images, after `protocol.tap` blocks, see `Representation.image_features`."""
        tap = self.protocol.tap if kind == "mean" else 0
        return self.representation.image_features(self.config, self.content, split, self.split(split), kind, tap)

    def embeddings(self, split: str) -> np.ndarray:
        """L2-normalised float32 (n, E) of a split's images."""
        return self.representation.image_embeddings(self.config, self.content, split, self.split(split))
