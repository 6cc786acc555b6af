"""Class names to text embeddings: prompts, filled in and averaged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from ablative.trainer.clip.protocols.parts.similarity import distinct_rows
from ablative.trainer.clip.spec.prompts import fill


class TextEncoder(Protocol):
    """What this module needs of a `Representation`."""

    def text_embeddings(self, texts: list[str]) -> np.ndarray:
        """L2-normalised float32 (n, E); bit-identical rows for texts that tokenize alike."""
        ...


def class_embeddings(encoder: TextEncoder, names: Sequence[str], prompts: Sequence[str]) -> np.ndarray:
    """L2-normalised float32 (len(names), E): normalise each prompt's embedding, average, normalise.

    This is open_clip's `zero_shot_classifier.py` (and CLIP's section 3.1.4).
    """
    texts = [fill(prompt, name) for name in names for prompt in prompts]
    each = encoder.text_embeddings(texts)
    # Distinct classes once, so that classes with the same prompts stay bit-identical and tie.
    distinct, place = distinct_rows(each.reshape(len(names), -1))
    mean = distinct.reshape(len(distinct), len(prompts), -1).mean(axis=1)
    return (mean / np.linalg.norm(mean, axis=1, keepdims=True))[place]


def synonym_embeddings(encoder: TextEncoder, classes: Sequence[Sequence[str]], prompts: Sequence[str]) -> np.ndarray:
    """`class_embeddings` of classes with more names, each the mean over names × prompts (SLIP `eval_zeroshot.py`)."""
    if all(len(names) == 1 for names in classes):
        return class_embeddings(encoder, [names[0] for names in classes], prompts)
    each = encoder.text_embeddings([fill(prompt, name) for names in classes for prompt in prompts for name in names])
    ends = np.cumsum([len(names) * len(prompts) for names in classes])
    mean = np.stack([own.mean(axis=0) for own in np.split(each, ends[:-1])])
    normalised: np.ndarray = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    return normalised
