"""Recall at k against brute force over random matrices with ties, merged captions, blocks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from protocol_fakes import EvaluationSet, evaluation, random_split

from ablative.trainer.clip.protocols.parts import metrics, similarity
from ablative.trainer.clip.protocols.retrieval import merge_captions, own_captions, retrieval, retrieval_ranks


def brute_force(scores: np.ndarray, relevant: np.ndarray, k: int) -> float:
    """Share of queries with a relevant candidate among the first k, ties sorted against them."""
    hits = 0
    for row, good in zip(scores, relevant, strict=True):
        order = sorted(range(len(row)), key=lambda c: (-row[c], good[c]))
        hits += any(good[c] for c in order[:k])
    return 100 * hits / len(scores)


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_recall_equals_brute_force(levels: int) -> None:
    generator = np.random.default_rng(levels)
    for _ in range(20):
        scores = generator.integers(0, levels, (30, 17)).astype(np.float32)
        relevant = generator.random((30, 17)) < 0.15
        relevant[np.arange(30), generator.integers(0, 17, 30)] = True
        ranks = metrics.relevance_ranks(scores, relevant)
        for k in (1, 5, 10):
            assert metrics.recall(ranks, k) == pytest.approx(brute_force(scores, relevant, k))


def test_identical_captions_are_one_text_with_several_images() -> None:
    texts, pairs = merge_captions([["a dog", "a red dog"], ["a cat"], ["a dog", "a dog"]])
    assert texts == ["a dog", "a red dog", "a cat"]
    assert pairs.tolist() == [[0, 0], [0, 1], [1, 2], [2, 0]]
    images = np.array([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6]], dtype=np.float32)
    captions = np.array([[0.6, 0.8], [0.8, 0.6], [0.0, 1.0]], dtype=np.float32)
    # "a dog" is nearest to image 2, one of its two images; "a red dog" to image 2, not its own; "a cat" to its own.
    assert retrieval_ranks(captions, images, pairs[:, ::-1]).tolist() == [0, 1, 0]
    # image 0: its "a red dog" is best; image 1: "a cat"; image 2: "a red dog" (not its own) beats "a dog".
    assert retrieval_ranks(images, captions, pairs).tolist() == [0, 0, 1]


def test_identical_captions_each_for_its_own_image() -> None:
    captions = [["a dog", "a red dog"], ["a cat"], ["a dog"]]
    texts, pairs = own_captions(captions)
    assert texts == ["a dog", "a red dog", "a cat", "a dog"]
    assert pairs.tolist() == [[0, 0], [0, 1], [1, 2], [2, 3]]
    images = np.array([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6]], dtype=np.float32)
    embeddings = np.array([[0.6, 0.8], [0.8, 0.6], [0.0, 1.0], [0.6, 0.8]], dtype=np.float32)
    # CLIP_benchmark: one positive image for each text; both "a dog" are nearest to image 2, then 1, then 0.
    assert retrieval_ranks(embeddings, images, pairs[:, ::-1]).tolist() == [2, 1, 0, 0]
    # Image 2 likes "a red dog" best, and its own "a dog" ties with the other image's.
    assert retrieval_ranks(images, embeddings, pairs).tolist() == [0, 0, 2]


def test_the_protocol_chooses_how_captions_repeat(tmp_path: Path) -> None:
    split = random_split(8, 2)
    split.captions = [["one two"]] * 8
    data = EvaluationSet((), {"test": split})
    merged = dict(retrieval(evaluation(tmp_path, data, {"kind": "retrieval"})))
    own = dict(retrieval(evaluation(tmp_path, data, {"kind": "retrieval", "repeated_captions": "own"})))
    assert (merged["t2i_r1"], merged["i2t_r1"]) == (100.0, 100.0)
    # Every text finds the same image first, which is one text's own; all eight texts tie.
    assert (own["t2i_r1"], own["i2t_r1"], own["t2i_r5"], own["i2t_r5"]) == (12.5, 0.0, 62.5, 0.0)


def test_blocks_do_not_change_the_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(3)
    queries, candidates = generator.normal(size=(50, 8)), generator.normal(size=(31, 8))
    queries, candidates = queries.astype(np.float32), candidates.astype(np.float32)
    pairs = np.unique(
        np.concatenate([np.stack([np.arange(50), generator.integers(0, 31, 50)], 1)] * 1 + [[[7, 3], [49, 0]]]), axis=0
    )
    generator.shuffle(pairs)
    whole = retrieval_ranks(queries, candidates, pairs)
    relevant = np.zeros((50, 31), dtype=bool)
    relevant[pairs[:, 0], pairs[:, 1]] = True
    assert np.array_equal(whole, metrics.relevance_ranks(queries @ candidates.T, relevant))
    monkeypatch.setattr(similarity, "CHUNK_SCORES", 100)
    assert np.array_equal(retrieval_ranks(queries, candidates, pairs), whole)


def test_a_block_never_holds_all_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity, "CHUNK_SCORES", 60)
    blocks = [scores.shape for _, scores in similarity.score_chunks(np.ones((10, 2)), np.eye(20, 2))]
    assert blocks == [(3, 20), (3, 20), (3, 20), (1, 20)]


@pytest.mark.parametrize("queries", [1, 2, 17])
@pytest.mark.parametrize("width", [61, 64, 128])
def test_equal_candidates_tie_exactly(queries: int, width: int) -> None:
    """A plain product breaks such ties: its last bits depend on the column, for one query in most sizes."""
    generator = np.random.default_rng(5)
    distinct = generator.normal(size=(5, width)).astype(np.float32)
    candidates = np.concatenate([distinct, distinct[::-1]])
    rows = generator.normal(size=(queries, width)).astype(np.float32)
    for _, scores in similarity.score_chunks(rows, candidates):
        assert np.array_equal(scores[:, :5], scores[:, :4:-1])
        assert np.allclose(scores[:, :5], rows @ distinct.T, atol=1e-4)
    pairs = np.stack([np.arange(queries), np.arange(queries) % 5], 1)
    assert (retrieval_ranks(rows, candidates, pairs) >= 1).all(), "a caption that ties with another never scores"


def test_distinct_rows_put_back_together() -> None:
    rows = np.array([[2, 1], [1, 2], [2, 1], [1, 2], [3, 3]])
    distinct, place = similarity.distinct_rows(rows)
    assert len(distinct) == 3
    assert np.array_equal(distinct[place], rows)
