"""A small trained system and small data sets for the tests of the protocols."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from small_models import MODEL
from small_systems import make_system

from ablative.study.home.paths import RunPaths
from ablative.trainer.clip.protocols.evaluation import Evaluation
from ablative.trainer.clip.protocols.parts.features import Representation
from ablative.trainer.clip.spec.config import (
    DataConfig,
    DatasetConfig,
    ObjectiveConfig,
    ProtocolConfig,
    RunConfig,
    ScheduleConfig,
)

DATASET = DatasetConfig(name="fake", kind="shards", task="thing")


class Words:
    """A tokenizer: one token a word, by a hash into the vocabulary; case and order count."""

    def __call__(self, texts: list[str]) -> np.ndarray:
        tokens = np.zeros((len(texts), MODEL.context_length), np.int64)
        for row, text in zip(tokens, texts, strict=True):
            words = [3 + sum(map(ord, word)) % (MODEL.vocab_size - 3) for word in text.split()]
            words = [1, *words[: MODEL.context_length - 2], 2]
            row[: len(words)] = words
        return tokens


@dataclass
class Split:
    """`pixels` uint8 (n,S,S,3) with whatever else a protocol may want."""

    pixels: np.ndarray
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    captions: list[list[str]] | None = None
    segments: np.ndarray | None = None
    reads: int = 0

    def __len__(self) -> int:
        return len(self.pixels)

    def images(self, i: int) -> np.ndarray:
        self.reads += 1
        return self.pixels[i]

    def masks(self, i: int) -> np.ndarray | None:
        return None if self.segments is None else self.segments[i]


@dataclass
class EvaluationSet:
    classes: tuple[str, ...]
    splits: dict[str, Split] = field(default_factory=dict)
    background: tuple[str, ...] | None = None

    def split(self, name: str) -> Split:
        return self.splits[name]


def random_split(samples: int, classes: int, seed: int = 0) -> Split:
    """Noise images; sample i has class i mod `classes`."""
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (samples, 32, 32, 3), dtype=np.uint8)
    return Split(pixels, labels=np.arange(samples, dtype=np.int64) % classes)


def run_config(objective: str = "clip", **model: Any) -> RunConfig:
    return RunConfig(
        model=MODEL if not model else type(MODEL)(**{**vars(MODEL), **model}),
        objective=ObjectiveConfig(name=objective),
        schedule=ScheduleConfig(name="test", steps=0, batch_size=2),
        data=DataConfig(name="shapes", kind="shapes", pairs=2),
        seed=0,
    )


def representation(folder: Path, objective: str = "clip", seed: int = 0, **model: Any) -> Representation:
    """A randomly initialised system whose cache lies in `folder`."""
    system = make_system(objective, seed=seed, **model).eval()
    return Representation(system, Words(), run_config(objective, **model), RunPaths(folder), torch.device("cpu"))


def evaluation(
    folder: Path, dataset: EvaluationSet, protocol: dict[str, Any], templates: str = "plain", objective: str = "clip"
) -> Evaluation:
    """`protocol` holds fields of `ProtocolConfig`."""
    config = replace(DATASET, templates=templates)
    return Evaluation(
        ProtocolConfig(**{"name": "p", **protocol}), config, dataset, representation(folder, objective), "content"
    )
