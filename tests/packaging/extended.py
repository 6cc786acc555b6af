"""Runs in a copy of the packages to which docs/extending.md was applied: the page's commands, then direct calls.

Prints JSON for `test_extending.py`; the working folder is the user's, with the folders that the page names.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any


def run(words: list[str]) -> tuple[int, str]:
    """Exit code and output of a command."""
    from ablative.study.cli import main

    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        code = main(words, standalone=False)
    return code, out.getvalue()


def pooled() -> list[list[list[float]]]:
    """Soft maxima of two channels: of two elements, the second of them padding, and of both."""
    import torch

    from ablative.trainer.clip.models.pooling import make_pool

    pool = make_pool("soft_max", 2, 1, 4.0)
    tokens = torch.tensor([[[0.0, 1.0], [math.log(3), 5.0]]])
    return [pool(tokens, torch.tensor([[True, False]])).tolist(), pool(tokens).tolist()]


def losses() -> dict[str, float]:
    """The pairwise sigmoid loss of three pairs: in one, as two processes share it, and pair by pair."""
    import torch
    import torch.nn.functional as F

    from ablative.trainer.clip.objectives.losses import contrastive_loss, contrastive_share

    image, text = (F.normalize(torch.randn(3, 4, generator=torch.Generator().manual_seed(seed))) for seed in (0, 1))
    shares = [contrastive_share(image, text, 10.0, rows, 3, "sigmoid") for rows in (slice(0, 2), slice(2, 3))]
    logits = 10 * image @ text.T - math.log(3)
    signs = 2 * torch.eye(3) - 1
    return {
        "whole": contrastive_loss(image, text, 10.0, "sigmoid").item(),
        "shared": sum(shares).item(),
        # A positive pair costs softplus(logit) − logit here, that is its own cost without the constant bias.
        "pairs": (-F.logsigmoid(signs * logits).sum() / 3 - math.log(3)).item(),
    }


def neighbours() -> dict[str, float]:
    """Five training images point right (class 0), five up (class 1); of three test images one is another's."""
    import numpy as np

    from ablative.trainer.clip.protocols.knn import knn

    features = {"train": np.repeat([[2.0, 0.1], [0.1, 3.0]], 5, axis=0), "test": np.array([[5, 0], [0, 1], [1, 9.0]])}
    labels = {"train": np.repeat([0, 1], 5), "test": np.array([0, 1, 0])}
    evaluation: Any = SimpleNamespace(
        features=lambda split, _: features[split],
        labels=labels.get,
        protocol=SimpleNamespace(features="pooled"),
        dataset=SimpleNamespace(classes=("right", "up")),
    )
    return dict(knn(evaluation))


def listed() -> dict[str, Any]:
    """The set of files of the page."""
    from ablative.study.home.paths import home
    from ablative.trainer.clip.data.sources import fingerprint_dataset, open_dataset
    from ablative.trainer.clip.spec.config import DatasetConfig

    config = DatasetConfig(name="shades", kind="listed", path="shades")
    found = open_dataset(config, 8, home())
    split = found.split("train")
    brightness = [int(split.images(i).mean()) for i in range(len(split))]
    before = fingerprint_dataset(config, home())
    with Path("shades", "test.csv").open("a") as file:
        file.write("test0.png,light\n")
    return {
        "classes": found.classes,
        "labels": split.labels.tolist(),
        "brightness": brightness,
        "moved": fingerprint_dataset(config, home()) != before,
    }


if __name__ == "__main__":
    commands = [run(words) for words in json.loads(sys.argv[1])]
    calls = {call.__name__: call() for call in (pooled, losses, neighbours, listed)}
    print(json.dumps({"commands": commands, **calls}))
