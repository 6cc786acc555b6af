"""Zero-shot retrieval: images by text and texts by image (CLIP_benchmark `zeroshot_retrieval.py`)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ablative.trainer.clip.protocols.evaluation import Evaluation
from ablative.trainer.clip.protocols.parts import metrics
from ablative.trainer.clip.protocols.parts.similarity import score_chunks

CUTOFFS = (1, 5, 10)


def retrieval(evaluation: Evaluation) -> Iterator[tuple[str, float]]:
    """R@1, 5, 10 from image to text (any of its captions is a hit) and from text to image; percent."""
    merged = evaluation.protocol.repeated_captions == "merged"
    texts, pairs = (merge_captions if merged else own_captions)(evaluation.captions())
    images = evaluation.embeddings("test")
    embeddings = evaluation.representation.text_embeddings(texts)
    for direction, ranks in (
        ("i2t", retrieval_ranks(images, embeddings, pairs)),
        ("t2i", retrieval_ranks(embeddings, images, pairs[:, ::-1])),
    ):
        for k in CUTOFFS:
            yield f"{direction}_r{k}", metrics.recall(ranks, k)


def merge_captions(captions: list[list[str]]) -> tuple[list[str], np.ndarray]:
    """Distinct texts, and pairs int64 (p, 2) of image and text that belong together.

    A caption that several images carry is one text with several relevant images: as two texts, each would be
    counted wrong for naming the other's image.
    """
    places: dict[str, int] = {}
    pairs = [(image, places.setdefault(text, len(places))) for image, own in enumerate(captions) for text in own]
    return list(places), np.unique(np.array(pairs, dtype=np.int64), axis=0)


def own_captions(captions: list[list[str]]) -> tuple[list[str], np.ndarray]:
    """The same, with every caption as a separate text: CLIP_benchmark's counting.

    Two texts that read alike tie, and a tie is a miss, where CLIP_benchmark leaves it to the order of `topk`.
    """
    owners = [image for image, own in enumerate(captions) for _ in own]
    pairs = np.stack([np.array(owners, dtype=np.int64), np.arange(len(owners), dtype=np.int64)], axis=1)
    return [text for own in captions for text in own], pairs


def retrieval_ranks(queries: np.ndarray, candidates: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """`metrics.relevance_ranks` of every query, in blocks that bound memory: int64 (n,).

    Args:
        queries: float32 (n, E).
        candidates: float32 (c, E).
        pairs: int64 (p, 2), query and relevant candidate; every query occurs.
    """
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
    ranks = []
    for block, scores in score_chunks(queries, candidates):
        first, last = np.searchsorted(pairs[:, 0], (block.start, block.stop))
        relevant = np.zeros(scores.shape, dtype=bool)
        relevant[pairs[first:last, 0] - block.start, pairs[first:last, 1]] = True
        ranks.append(metrics.relevance_ranks(scores, relevant))
    return np.concatenate(ranks)
