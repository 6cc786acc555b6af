"""Linear probe: a linear classifier on frozen features, by either paper's recipe.

MAE-CLIP (section 4.2): precomputed features, no augmentation, AdamW at 0.01 for 20 to 80 epochs.
MaskCLIP (appendix) and MAE (`main_linprobe.py`): BatchNorm without affine before the linear layer, LARS at
0.1 per 256 samples, no weight decay, 90 epochs of which 10 warm up, cosine to 0.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ablative.trainer.clip.protocols.evaluation import Evaluation
from ablative.trainer.clip.protocols.parts import metrics
from ablative.trainer.clip.protocols.parts.lars import LARS
from ablative.trainer.clip.protocols.parts.training import batches
from ablative.trainer.clip.spec.config import ProtocolConfig

BASE_BATCH = 256
"""LARS: `lr` is for this many samples and grows linearly with the batch."""


def linear_probe(evaluation: Evaluation) -> Iterator[tuple[str, float]]:
    """top1 and per_class on the test split after training on the train split; percent."""
    protocol = evaluation.protocol
    train_labels, labels = evaluation.labels("train"), evaluation.labels("test")
    device = evaluation.representation.device
    train = torch.from_numpy(evaluation.features("train", protocol.features)).to(device)
    test = torch.from_numpy(evaluation.features("test", protocol.features)).to(device)
    targets = torch.from_numpy(train_labels).to(device)
    probe = fit(train, targets, len(evaluation.dataset.classes), protocol)
    ranks = metrics.class_ranks(predict(probe, test), labels)
    yield "top1", metrics.recall(ranks, 1)
    yield "per_class", metrics.per_class(ranks < 1, labels)


class Probe(nn.Module):
    """Optional standardisation, optional BatchNorm without affine, linear layer: (n, D) -> logits (n, C)."""

    def __init__(self, features: torch.Tensor, classes: int, protocol: ProtocolConfig, generator: torch.Generator):
        """`features` (n, D) of the training set give the standardisation; weights come from `generator` (CPU)."""
        super().__init__()
        width = features.shape[1]
        self.mean, self.scale = features.new_zeros(width), features.new_ones(width)
        if protocol.standardize:
            deviation = features.std(dim=0, correction=0)
            # A constant feature carries nothing; dividing by 0 would turn it into NaN.
            self.mean, self.scale = features.mean(dim=0), torch.where(deviation > 0, deviation, 1.0)
        self.norm = nn.BatchNorm1d(width, affine=False, eps=1e-6) if protocol.batch_norm else nn.Identity()
        # Without the usual initialisation, which would draw from the global generator.
        self.linear = nn.utils.skip_init(nn.Linear, width, classes)
        nn.init.trunc_normal_(self.linear.weight, std=0.01, generator=generator)
        nn.init.zeros_(self.linear.bias)
        self.to(features.device)

    def standardize(self, features: torch.Tensor) -> torch.Tensor:
        return (features - self.mean) / self.scale

    def forward(self, standardized: torch.Tensor) -> torch.Tensor:
        return self.linear(self.norm(standardized))


def fit(features: torch.Tensor, labels: torch.Tensor, classes: int, protocol: ProtocolConfig) -> Probe:
    """Train a probe on features (n, D) and labels int64 (n,), all in memory; deterministic by `protocol.seed`."""
    generator = torch.Generator().manual_seed(protocol.seed)
    probe = Probe(features, classes, protocol, generator).train()
    optimizer, peak = _optimizer(probe, len(features), protocol)
    features = probe.standardize(features)
    for rows, rate in batches(len(features), protocol, peak, generator):
        batch = rows.to(features.device)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        F.cross_entropy(probe(features[batch]), labels[batch]).backward()
        optimizer.step()
    return probe.eval()


def predict(probe: Probe, features: torch.Tensor) -> np.ndarray:
    """Logits float32 (n, C) of features (n, D)."""
    with torch.inference_mode():
        return probe(probe.standardize(features)).cpu().numpy()


def _optimizer(probe: Probe, samples: int, protocol: ProtocolConfig) -> tuple[torch.optim.Optimizer, float]:
    """Optimiser of the linear layer and its peak learning rate."""
    weights = probe.linear.parameters()
    if protocol.optimizer == "adamw":
        return torch.optim.AdamW(weights, lr=protocol.lr, weight_decay=protocol.weight_decay), protocol.lr
    peak = protocol.lr * min(protocol.batch_size, samples) / BASE_BATCH
    return LARS(weights, lr=peak, weight_decay=protocol.weight_decay), peak
