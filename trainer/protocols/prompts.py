"""Class names to text embeddings: named template sets, filled in and averaged."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from importlib import resources
from typing import Protocol

import numpy as np

from study.errors import ConfigError, unknown
from trainer.protocols.similarity import distinct_rows


class TextEncoder(Protocol):
    """What this module needs of a `Representation`."""

    def text_embeddings(self, texts: list[str]) -> np.ndarray:
        """L2-normalised float32 (n, E); bit-identical rows for texts that tokenize alike."""
        ...


@functools.cache
def template_sets() -> dict[str, tuple[str, ...]]:
    """Templates by the name that `DatasetConfig.templates` gives; `templates.json` says where each set is from."""
    text = resources.files("trainer.protocols").joinpath("templates.json").read_text(encoding="utf-8")
    return {name: tuple(entry["templates"]) for name, entry in json.loads(text).items()}


def templates(name: str) -> tuple[str, ...]:
    """The templates of a set; raises ConfigError for a name that does not exist."""
    sets = template_sets()
    if name not in sets:
        raise ConfigError(unknown("templates", name, sets, "datasets"))
    return sets[name]


def fill(template: str, name: str) -> str:
    """A prompt: `{}` becomes the class name and `{a}` its article.

    >>> fill("a photo of {a} {}", "apple")
    'a photo of an apple'
    """
    try:
        return template.format(name, a="an" if name[:1].lower() in tuple("aeiou") else "a")
    except (KeyError, IndexError, ValueError):
        raise ConfigError(
            f"template {template!r}: expected {{}} for the class name and {{a}} for its article"
        ) from None


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
