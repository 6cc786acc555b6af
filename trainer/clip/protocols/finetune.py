"""Full fine-tuning: the image encoder with its pooling and a linear layer, all trained on a labelled set.

MAE-CLIP's supplement F reports it on VTAB (Table 11) and states no recipe; it is MAE's here (`main_finetune.py`):
AdamW, rates that fall with the depth, label smoothing, warm-up and cosine. There, images are not augmented, as in the
paper's probes: crops and flips would change what several of VTAB's structured tasks ask for. MaskCLIP fine-tunes on
ImageNet with all that `protocol.augment` offers, and stochastic depth. The run's own weights stay as they are.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablative.trainer.clip.data.images import streams
from ablative.trainer.clip.data.pairs.batch import to_pixels
from ablative.trainer.clip.data.sets.evaluation import Split
from ablative.trainer.clip.objectives.system import System
from ablative.trainer.clip.protocols.augmentation import mixing
from ablative.trainer.clip.protocols.evaluation import Evaluation
from ablative.trainer.clip.protocols.parts import metrics
from ablative.trainer.clip.protocols.parts.features import Representation
from ablative.trainer.clip.protocols.parts.reading import read_ahead
from ablative.trainer.clip.protocols.parts.training import (
    Drawn,
    batches_of_an_epoch,
    drawn_batches,
    layered_adamw,
    set_rate,
)
from ablative.trainer.clip.protocols.resumption import Resumption
from ablative.trainer.clip.protocols.training_images import Reader, reader
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
    runtime = representation.config.runtime
    fitting = Fitting(classifier, protocol, representation.bf16, runtime.micro_batch)
    fitting.fit(reader(evaluation), torch.from_numpy(train_labels), evaluation.resumption, runtime.workers)
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

    def forward(self, images: Tensor, paths: Tensor | None = None) -> Tensor:
        """`paths`: random numbers of stochastic depth, as `Transformer.forward` takes them."""
        return self.linear(self.system.image_features(images, self.features, self.tap, paths))


class Fitting:
    """A classifier while it is trained; deterministic by `protocol.seed`, step by step."""

    def __init__(self, classifier: Classifier, protocol: ProtocolConfig, bf16: bool = False, micro: int = 0) -> None:
        """`micro`: images of a forward pass; 0: all of a batch."""
        self._classifier, self._protocol, self._bf16, self._micro = classifier, protocol, bf16, micro
        self._device = classifier.linear.weight.device
        model = classifier.system.model
        self._classes, self._side, self._depth = classifier.linear.out_features, model.image_size, model.depth
        classifier.system.image.trunk.set_drop_path(protocol.drop_path)
        # What no image passes through (the text tower, a decoder) gets no gradient, and is left alone.
        self._optimizer = layered_adamw(classifier, protocol, model.depth, INPUTS)

    def fit(self, read: Reader, labels: Tensor, resumption: Resumption, threads: int = 0) -> None:
        """Train on images that `read` gives for batches of samples with labels int64 (n,)."""
        protocol = self._protocol
        steps = batches_of_an_epoch(len(labels), protocol) * protocol.epochs
        first = resumption.begin(model=self._classifier, optimizer=self._optimizer)
        self._classifier.train()
        generator = torch.Generator().manual_seed(protocol.seed)
        drawn, known = itertools.tee(
            itertools.islice(drawn_batches(len(labels), protocol, protocol.lr, generator), first, None)
        )
        for step, (batch, pixels) in enumerate(zip(known, read_ahead(read, drawn, threads), strict=True), first):
            self._step(step, batch, to_pixels(pixels, self._device), labels[batch.rows])
            resumption.after(step + 1, steps)
        self._classifier.eval()

    def _step(self, step: int, batch: Drawn, images: Tensor, labels: Tensor) -> None:
        set_rate(self._optimizer, batch.rate)
        self._optimizer.zero_grad()
        generator = torch.Generator().manual_seed(streams.stream("fine-tuning", self._protocol.seed, step) >> 1)
        images, targets = self._mixed(step, batch, images, labels.to(self._device), generator)
        paths = None
        if self._protocol.drop_path:
            paths = torch.rand(len(images), 2 * self._depth, generator=generator).to(self._device)
        size = self._micro or len(images)
        for first in range(0, len(images), size):
            rows = slice(first, first + size)
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
                logits = self._classifier(images[rows], None if paths is None else paths[rows])
            smoothing = 0.0 if targets.is_floating_point() else self._protocol.label_smoothing
            loss = F.cross_entropy(logits.float(), targets[rows], label_smoothing=smoothing)
            (loss * (len(logits) / len(images))).backward()
        self._optimizer.step()

    def _mixed(
        self, step: int, batch: Drawn, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Images with what is erased and mixed in them, and labels: numbers, or probabilities where they are mixed."""
        protocol, options = self._protocol, self._protocol.augment
        if options.erase:
            keys = streams.keys(streams.stream("fine-tuning erase", protocol.seed, batch.epoch), batch.rows.numpy())
            mixing.erase(images, streams.uniforms(keys, mixing.ERASING_NUMBERS), options.erase, generator)
        mixture = mixing.draw_mixture(options, self._side, streams.stream("fine-tuning mix", protocol.seed, step))
        if mixture is None:
            return images, labels
        targets = mixing.mixed_targets(labels, self._classes, protocol.label_smoothing, mixture)
        return mixing.mix(images, mixture), targets


def predict(classifier: Classifier, split: Split, representation: Representation) -> np.ndarray:
    """Logits float32 (n, C) of a split's images."""
    return representation.forward_images(split, classifier)
