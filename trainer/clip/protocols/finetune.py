"""Full fine-tuning: the image encoder with its pooling and a linear layer, all trained on a labelled set.

MAE-CLIP's supplement F reports it on VTAB (Table 11) and states no recipe; it is MAE's here (`main_finetune.py`):
AdamW, rates that fall with the depth, label smoothing, warm-up and cosine. Images are not augmented, as in the paper's
probes: crops and flips would change what several of VTAB's structured tasks ask for. The run's own weights stay as they
are.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ablative.trainer.clip.data.pairs.batch import to_pixels
from ablative.trainer.clip.data.sets.evaluation import Split
from ablative.trainer.clip.objectives.system import System
from ablative.trainer.clip.protocols.evaluation import Evaluation
from ablative.trainer.clip.protocols.parts import metrics
from ablative.trainer.clip.protocols.parts.features import BATCH, Representation, images_in_blocks
from ablative.trainer.clip.protocols.parts.row_store import gathered
from ablative.trainer.clip.protocols.parts.training import batches, layered_adamw, set_rate
from ablative.trainer.clip.spec.config import ProtocolConfig

INPUTS = tuple(f"system.image.{name}" for name in ("stem", "positions", "class_token"))
"""Parameters of `Classifier` before its blocks."""


def finetune(evaluation: Evaluation) -> Iterator[tuple[str, float]]:
    """top1 and per_class on the test split after training on the train split; percent."""
    protocol, representation = evaluation.protocol, evaluation.representation
    train_labels, labels = evaluation.labels("train"), evaluation.labels("test")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(protocol.seed)
        classes = len(evaluation.dataset.classes)
        classifier = Classifier(representation.system, classes, protocol.features, protocol.tap)
    classifier.to(representation.device)
    blocks = images_in_blocks(evaluation.split("train"), BATCH, representation.config.runtime.workers)
    train = gathered(blocks, len(train_labels), representation.paths.features)
    fit(classifier, train, torch.from_numpy(train_labels), protocol, representation.bf16)
    ranks = metrics.class_ranks(predict(classifier, evaluation.split("test"), representation), labels)
    yield "top1", metrics.recall(ranks, 1)
    yield "per_class", metrics.per_class(ranks < 1, labels)


class Classifier(nn.Module):
    """A copy of a system's image side with a linear layer: images (B,3,S,S) → logits (B,C)."""

    def __init__(self, system: System, classes: int, features: str, tap: int = 0) -> None:
        """`features` and `tap` as in `System.image_features`; weights of the linear layer come from torch's global
        generator."""
        super().__init__()
        self.system = copy.deepcopy(system)
        self.features, self.tap = features, tap
        width = system.model.embed_dim if features == "projected" else system.model.width
        self.linear = nn.Linear(width, classes)
        nn.init.trunc_normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.linear(self.system.image_features(images, self.features, self.tap))


def fit(
    classifier: Classifier, pixels: np.ndarray, labels: torch.Tensor, protocol: ProtocolConfig, bf16: bool = False
) -> None:
    """Train on images uint8 (n,S,S,3) and labels int64 (n,), deterministically by `protocol.seed`."""
    device = classifier.linear.weight.device
    classifier.train()
    # What no image passes through (the text tower, a decoder) gets no gradient, and is left alone.
    optimizer = layered_adamw(classifier, protocol, classifier.system.model.depth, INPUTS)
    generator = torch.Generator().manual_seed(protocol.seed)
    for rows, rate in batches(len(pixels), protocol, protocol.lr, generator):
        set_rate(optimizer, rate)
        optimizer.zero_grad()
        images = to_pixels(pixels[rows.numpy()], device)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            logits = classifier(images)
        targets = labels[rows].to(device)
        F.cross_entropy(logits.float(), targets, label_smoothing=protocol.label_smoothing).backward()
        optimizer.step()
    classifier.eval()


def predict(classifier: Classifier, split: Split, representation: Representation) -> np.ndarray:
    """Logits float32 (n, C) of a split's images."""
    return representation.forward_images(split, classifier)
