"""Zero-shot classification: the class whose prompts' mean embedding is nearest (CLIP section 3.1.2)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ablative.trainer.clip.protocols.evaluation import Evaluation
from ablative.trainer.clip.protocols.parts import metrics
from ablative.trainer.clip.protocols.parts.prompts import synonym_embeddings
from ablative.trainer.clip.protocols.parts.similarity import score_chunks


def zero_shot(evaluation: Evaluation) -> Iterator[tuple[str, float]]:
    """top1, top5 and the mean of both (more than 5 classes), per_class, and what guessing gets: majority and chance;
    percent.

    A sample is a top-k hit when fewer than k wrong classes score at least as high as the right one: ties are
    misses, and two classes with the same prompts therefore never score. Of ImageNet's names, "missile" and "sunglasses"
    stand for two classes each: open_clip's argmax takes the first of the two, so its top1 is up to 0.2 points higher.
    """
    classes = evaluation.names()
    labels = evaluation.labels("test")
    prompts = evaluation.prompts()
    classifier = synonym_embeddings(evaluation.representation, classes, prompts)
    ranks = nearest_ranks(evaluation.embeddings("test"), classifier, labels)
    yield "top1", metrics.recall(ranks, 1)
    if len(classes) > 5:
        yield "top5", metrics.recall(ranks, 5)
        yield "top1_top5", (metrics.recall(ranks, 1) + metrics.recall(ranks, 5)) / 2
    yield "per_class", metrics.per_class(ranks < 1, labels)
    yield "majority", metrics.majority(labels)
    yield "chance", 100.0 / len(classes)


def nearest_ranks(images: np.ndarray, classifier: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """`metrics.class_ranks` of inner products: (n, E), (C, E), (n,) -> int64 (n,)."""
    return np.concatenate(
        [metrics.class_ranks(scores, labels[block]) for block, scores in score_chunks(images, classifier)]
    )
