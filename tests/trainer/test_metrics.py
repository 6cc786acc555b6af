"""Metrics against values worked out by hand and, for mean IoU, against scikit-learn and torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from oracles import oracle
from sklearn.metrics import jaccard_score

from ablative.trainer.clip.protocols.parts import metrics


def test_class_ranks_by_hand() -> None:
    scores = np.array(
        [
            [0.9, 0.1, 0.5],  # class 0 wins
            [0.9, 0.1, 0.5],  # label 2: one better
            [0.9, 0.1, 0.5],  # label 1: two better
            [0.7, 0.7, 0.1],  # a tie for the top is no win
            [0.2, 0.2, 0.2],  # all tied
        ]
    )
    ranks = metrics.class_ranks(scores, np.array([0, 2, 1, 0, 1]))
    assert ranks.tolist() == [0, 1, 2, 1, 2]
    assert metrics.recall(ranks, 1) == 20.0
    assert metrics.recall(ranks, 2) == 60.0


def test_nothing_is_won_with_nan() -> None:
    scores = np.array([[np.nan, 0.0], [1.0, np.nan], [np.nan, np.nan]])
    assert metrics.class_ranks(scores, np.array([0, 0, 1])).tolist() == [1, 1, 1]
    assert metrics.strict_argmax(scores).tolist() == [metrics.UNDECIDED] * 3
    assert metrics.relevance_ranks(scores, np.array([[True, False]] * 3)).tolist() == [1, 1, 1]


def test_class_ranks_equal_worst_case_sorting() -> None:
    generator = np.random.default_rng(0)
    scores = generator.integers(0, 6, (200, 9)).astype(np.float32)
    labels = generator.integers(0, 9, 200)
    for score, label, rank in zip(scores, labels, metrics.class_ranks(scores, labels), strict=True):
        order = sorted(range(9), key=lambda c: (-score[c], c == label))
        assert order.index(label) == rank


def test_any_relevant_candidate_is_a_hit() -> None:
    scores = np.array([[0.9, 0.8, 0.7, 0.6]] * 4)
    relevant = np.array([[0, 1, 0, 1], [0, 0, 0, 1], [1, 1, 1, 1], [1, 0, 0, 0]], dtype=bool)
    assert metrics.relevance_ranks(scores, relevant).tolist() == [1, 3, 0, 0]


def test_relevant_candidates_do_not_compete_with_each_other() -> None:
    scores = np.array([[0.5, 0.5, 0.5, 0.1]])
    assert metrics.relevance_ranks(scores, np.array([[True, True, False, False]])).tolist() == [1]
    assert metrics.relevance_ranks(scores, np.array([[True, True, True, False]])).tolist() == [0]


def test_per_class_and_majority_by_hand() -> None:
    labels = np.array([0, 0, 0, 0, 3, 3])
    hits = np.array([1, 1, 1, 0, 0, 1], dtype=bool)
    assert metrics.per_class(hits, labels) == pytest.approx((75 + 50) / 2)
    assert metrics.majority(labels) == pytest.approx(100 * 4 / 6)


def test_strict_argmax_leaves_ties_undecided() -> None:
    scores = np.array([[[1.0, 2.0], [2.0, 2.0]], [[3.0, 1.0], [0.0, -1.0]]])
    assert metrics.strict_argmax(scores).tolist() == [[1, metrics.UNDECIDED], [0, 0]]


def test_confusion_by_hand() -> None:
    target = np.array([[0, 1, 1], [2, 255, 2]])
    predicted = np.array([[0, 1, 0], [-1, 1, 2]])
    counts = metrics.confusion(target, predicted, 3)
    assert counts.tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1]]
    # class 0: 1 of 2, class 1: 1 of 2, class 2: 1 of 2 (the undecided pixel stays in its union)
    assert metrics.mean_iou(counts) == pytest.approx(50.0)


def test_confusion_ignores_more_labels() -> None:
    counts = metrics.confusion(np.array([0, 1, 255]), np.array([1, 1, 1]), 2, ignore=(0, 255))
    assert counts.tolist() == [[0, 0, 0], [0, 1, 0]]
    assert metrics.mean_iou(counts) == pytest.approx(100.0)


@pytest.mark.parametrize("classes", [3, 21])
def test_mean_iou_agrees_with_others(classes: int) -> None:
    generator = np.random.default_rng(classes)
    target = generator.integers(0, classes, (4, 40, 40))
    predicted = np.where(generator.random(target.shape) < 0.4, target, generator.integers(0, classes, target.shape))
    target[generator.random(target.shape) < 0.1] = 255
    kept = target != 255
    expected = 100 * jaccard_score(target[kept], predicted[kept], average="macro")
    found = metrics.mean_iou(metrics.confusion(target, predicted, classes))
    assert found == pytest.approx(expected)
    other = oracle("torchmetrics").JaccardIndex(task="multiclass", num_classes=classes, ignore_index=255)
    assert found == pytest.approx(100 * float(other(torch.from_numpy(predicted), torch.from_numpy(target))), abs=1e-3)


def test_mean_iou_leaves_out_classes_that_nobody_names() -> None:
    counts = metrics.confusion(np.array([0, 0, 1]), np.array([0, 0, 1]), 5)
    assert metrics.mean_iou(counts) == pytest.approx(100.0)
