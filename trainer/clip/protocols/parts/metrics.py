"""Accuracy, recall and overlap as pure functions of arrays; every figure is in percent.

One rule for ties everywhere: a tie is a miss. The right answer counts only where its score is *strictly*
greater than a rival's, and a score that is not a number beats nothing. Classes or captions that the model
cannot distinguish (their texts tokenize alike) share one embedding; counting their ties as hits rewards
a model for what it does not know.

Shapes: n samples or queries, C classes or candidates.
"""

from __future__ import annotations

import numpy as np

UNDECIDED = -1
"""Prediction where the highest score is shared or is not a number."""


def class_ranks(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many wrong classes score at least as high as the right one: (n, C), (n,) -> int64 (n,).

    Rank 0 is a strict win; the sample is a top-k hit where its rank is below k.
    """
    right = np.take_along_axis(scores, labels[:, None], axis=1)
    # "not less" instead of "greater or equal": comparisons with NaN are false, and NaN must not win.
    rivals = ~(scores < right)
    np.put_along_axis(rivals, labels[:, None], False, axis=1)
    return rivals.sum(axis=1, dtype=np.int64)


def relevance_ranks(scores: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """How many irrelevant candidates score at least as high as the best relevant one: (n, C), bool (n, C) -> (n,).

    With several relevant candidates any of them is a hit (CLIP_benchmark `zeroshot_retrieval.py`), so they
    never compete with each other. Every query needs one relevant candidate.
    """
    assert relevant.any(axis=1).all()
    best = np.where(relevant, scores, -np.inf).max(axis=1, keepdims=True)
    return (~relevant & ~(scores < best)).sum(axis=1, dtype=np.int64)


def recall(ranks: np.ndarray, k: int) -> float:
    """Share of ranks below `k`: top-k accuracy of `class_ranks`, R@k of `relevance_ranks`."""
    return 100.0 * float(np.mean(ranks < k))


def per_class(hits: np.ndarray, labels: np.ndarray) -> float:
    """Mean over the classes that occur of the share of their samples that are hits: bool (n,), int (n,)."""
    counts = np.bincount(labels)
    right = np.bincount(labels, weights=hits.astype(np.float64))
    present = counts > 0
    return 100.0 * float(np.mean(right[present] / counts[present]))


def majority(labels: np.ndarray) -> float:
    """Share of the largest class: the accuracy of always answering it."""
    return 100.0 * float(np.bincount(labels).max()) / len(labels)


def strict_argmax(scores: np.ndarray) -> np.ndarray:
    """Index of the highest score along the last axis, or `UNDECIDED` where it is shared or is not a number."""
    top = scores.max(axis=-1, keepdims=True)
    return np.where((scores == top).sum(axis=-1) == 1, scores.argmax(axis=-1), UNDECIDED)


def confusion(target: np.ndarray, predicted: np.ndarray, classes: int, ignore: tuple[int, ...] = (255,)) -> np.ndarray:
    """Counts (classes, classes + 1) of true class by predicted class; the last column is `UNDECIDED`.

    Args:
        target: integer labels of any shape, below `classes` or in `ignore`.
        predicted: integers of the same shape.
        ignore: labels of pixels that count for nothing (VOC's outlines are 255).
    """
    assert target.shape == predicted.shape
    keep = ~np.isin(target, ignore)
    rows = target[keep].astype(np.int64)
    columns = predicted[keep].astype(np.int64)
    columns[columns == UNDECIDED] = classes
    counts = np.bincount(rows * (classes + 1) + columns, minlength=classes * (classes + 1))
    return counts.reshape(classes, classes + 1)


def mean_iou(counts: np.ndarray) -> float:
    """Mean over classes of intersection over union, from `confusion` counts (C, C + 1).

    A class that neither occurs nor is predicted has no union and is left out of the mean.
    """
    hits = np.diagonal(counts).astype(np.float64)
    union = counts.sum(axis=1) + counts[:, :-1].sum(axis=0) - hits
    present = union > 0
    return 100.0 * float(np.mean(hits[present] / union[present]))
