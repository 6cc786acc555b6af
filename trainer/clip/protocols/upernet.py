"""Semantic segmentation by full fine-tuning with UPerNet: MaskCLIP's ADE20K (appendix B), which is BEiT's recipe.

The image tower with BEiT's neck, UPerNet's head and an auxiliary one are trained on scaled, cropped, flipped and
recoloured images; whole images are scored by windows that slide over them. mmsegmentation's numbers: AdamW, rates that
fall with the depth, linearly with the step, warm-up; cross-entropy whose mean counts ignored pixels. The run's own
weights stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablative.trainer.clip.data.images import streams
from ablative.trainer.clip.data.pairs.batch import to_pixels
from ablative.trainer.clip.models.towers import ImageTower
from ablative.trainer.clip.protocols.augmentation import scenes
from ablative.trainer.clip.protocols.dense.trunk import INPUTS, LEVELS, PyramidTrunk
from ablative.trainer.clip.protocols.dense.upernet_head import FcnHead, UperHead, enlarged
from ablative.trainer.clip.protocols.evaluation import Evaluation
from ablative.trainer.clip.protocols.parts import kept_pictures, metrics
from ablative.trainer.clip.protocols.parts.masks import background_names, check_labels, segment
from ablative.trainer.clip.protocols.parts.reading import Order, read_ahead
from ablative.trainer.clip.protocols.parts.training import layered_adamw, set_rate, warmed
from ablative.trainer.clip.protocols.parts.windows import slide
from ablative.trainer.clip.spec.config import ProtocolConfig
from ablative.trainer.clip.spec.training_options import UpernetConfig

AUXILIARY = 2
"""Which of the maps the auxiliary head takes: the third tap, at the tower's own resolution."""
WARMUP = 1e-6
"""Share of the learning rate in the first step."""


class Scenes(NamedTuple):
    """Images uint8 (B,S,S,3) with labels uint8 (B,S,S)."""

    images: np.ndarray
    labels: np.ndarray


def upernet(evaluation: Evaluation) -> Iterator[tuple[str, float]]:
    """miou in percent on the test split after training on the train split; masks as of `segmentation`."""
    protocol, representation = evaluation.protocol, evaluation.representation
    evaluation.mask(0)
    first = 0 if background_names(protocol, evaluation.dataset.background) else 1
    labels = len(evaluation.dataset.classes) + 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(protocol.seed)
        model = UperNet(representation.system.image, labels - first, protocol)
    model.to(representation.device)
    fit(model, evaluation, first)
    counts = np.zeros((labels, labels + 1), dtype=np.int64)
    ignore = (scenes.IGNORE,) if first == 0 else (0, scenes.IGNORE)
    chosen = kept_pictures.examples(len(evaluation.split("test")))
    shown: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for i, (maps, mask) in enumerate(scored(model, evaluation)):
        check_labels(mask, labels, evaluation.config.name)
        groups = [[label - first] if label >= first else [] for label in range(labels)]
        predicted = segment(maps, groups, (mask.shape[0], mask.shape[1]))
        counts += metrics.confusion(mask, predicted, labels, ignore)
        if i in chosen:
            shown[i] = mask, np.where(predicted < 0, scenes.IGNORE, predicted)
    if evaluation.task is not None:
        kept_pictures.keep(evaluation.task, evaluation.config.name, pictures(evaluation, shown))
    yield "miou", metrics.mean_iou(counts)


def pictures(evaluation: Evaluation, shown: Mapping[int, tuple[np.ndarray, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays of `fine_tuned_segmentation`, of test images with their true and predicted labels (h, w)."""
    images = [evaluation.whole(i, evaluation.protocol.upernet.side)[0] for i in shown]
    squares = kept_pictures.Squares([(image.shape[0], image.shape[1]) for image in images])
    truth, found = (
        np.stack([squares.labels(row, labels[kind]) for row, labels in enumerate(shown.values())]) for kind in (0, 1)
    )
    return {
        "images": np.stack([squares.image(row, image) for row, image in enumerate(images)]),
        "truth": truth,
        "fine_tuned": found,
        "names": kept_pictures.names(evaluation.dataset.classes),
    }


class UperNet(nn.Module):
    """Images (B,3,H,W) → logits of each label at a quarter of a patch, and of the auxiliary head at a patch."""

    def __init__(self, image: ImageTower, classes: int, protocol: ProtocolConfig) -> None:
        """Weights of neck and heads come from torch's global generator."""
        super().__init__()
        options = protocol.upernet
        self.trunk = PyramidTrunk(image, protocol.drop_path)
        self.head = UperHead(self.trunk.width, LEVELS, options.width, classes)
        self.auxiliary = FcnHead(self.trunk.width, options.auxiliary_width, classes)

    def forward(self, images: Tensor, paths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        maps = self.trunk(images, paths)
        return self.head(maps), self.auxiliary(maps[AUXILIARY])

    def scores(self, images: Tensor) -> Tensor:
        """Logits of the head alone."""
        logits: Tensor = self.head(self.trunk(images))
        return logits


def fit(model: UperNet, evaluation: Evaluation, first: int) -> list[float]:
    """Train on the train split, deterministically by `protocol.seed` → the loss of each step that was done.

    `first`: the label of the first logit; those below are ignored.
    """
    representation, protocol = evaluation.representation, evaluation.protocol
    options, depth = protocol.upernet, len(model.trunk.image.trunk.blocks)
    optimizer = layered_adamw(model, protocol, depth, INPUTS)
    start = evaluation.resumption.begin(model=model, optimizer=optimizer)
    losses = []
    model.train()
    with torch.random.fork_rng(devices=[] if representation.device.type == "cpu" else None):
        read = read_ahead(Reader(evaluation), range(start, options.steps), representation.config.runtime.workers)
        for step, batch in enumerate(read, start):
            # Dropout draws from the global generator.
            torch.manual_seed(streams.stream("upernet", protocol.seed, step) >> 1)
            numbers = torch.rand(len(batch.images), scenes.COLOUR_NUMBERS)
            paths = torch.rand(len(batch.images), 2 * depth) if protocol.drop_path else None
            set_rate(optimizer, learning_rate(protocol, step))
            optimizer.zero_grad()
            images = to_pixels(batch.images, representation.device)
            images = scenes.distort(images, numbers) if options.photometric else images
            with torch.autocast(representation.device.type, torch.bfloat16, enabled=representation.bf16):
                outputs = model(images, paths if paths is None else paths.to(images.device))
            loss = weighted_loss(outputs, torch.from_numpy(batch.labels).to(images.device), first, options)
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
            evaluation.resumption.after(step + 1, options.steps)
    model.eval()
    return losses


def learning_rate(protocol: ProtocolConfig, step: int) -> float:
    """It falls from `lr` to 0 linearly, over the whole length; in the warm-up a factor rises linearly to 1."""
    options = protocol.upernet
    return protocol.lr * (1 - step / options.steps) * warmed(step, options.warmup_steps, WARMUP)


def weighted_loss(outputs: tuple[Tensor, Tensor], labels: Tensor, first: int, options: UpernetConfig) -> Tensor:
    """Cross-entropy of both heads' logits, enlarged to labels uint8 (B,S,S): the mean over all pixels, of which those
    that are ignored have 0."""
    targets = labels.to(torch.int64) - first
    targets = targets.masked_fill((targets < 0) | (labels == scenes.IGNORE), scenes.IGNORE)
    total = torch.zeros((), device=labels.device)
    for logits, weight in zip(outputs, (1.0, options.auxiliary_weight), strict=True):
        large = enlarged(logits.float(), labels.shape[1:])
        total = total + weight * F.cross_entropy(large, targets, ignore_index=scenes.IGNORE, reduction="none").mean()
    return total


class Reader:
    """Reads the batch of a step: what is random in it follows from the seed and the place in the order of samples."""

    def __init__(self, evaluation: Evaluation) -> None:
        self._evaluation, self._protocol = evaluation, evaluation.protocol
        self._order = Order("upernet order", self._protocol.seed, len(evaluation.split("train")))

    def __call__(self, step: int) -> Scenes:
        options, size = self._protocol.upernet, self._protocol.batch_size
        places = np.arange(step * size, (step + 1) * size)
        scales = streams.uniforms(self._keys("scale", places), 1)[:, 0]
        numbers = streams.uniforms(self._keys("crop", places), scenes.CROP_NUMBERS)
        found = []
        for place, scale, own in zip(places.tolist(), scales.tolist(), numbers, strict=True):
            image, labels = self._scene(place, options.scale_low + (options.scale_high - options.scale_low) * scale)
            found.append(scenes.cut(image, labels, own, options))
        images, masks = zip(*found, strict=True)
        return Scenes(np.stack(images), np.stack(masks))

    def _scene(self, place: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
        """Image uint8 (H,W,3) and labels (H,W), both scaled."""
        row = self._order.row(place)
        image, labels = self._evaluation.whole(row, self._protocol.upernet.side, "train", scale)
        check_labels(labels, len(self._evaluation.dataset.classes) + 1, self._evaluation.config.name)
        return image, scenes.scaled_labels(labels, *image.shape[:2])

    def _keys(self, what: str, places: np.ndarray) -> np.ndarray:
        return streams.keys(streams.stream(f"upernet {what}", self._protocol.seed), places)


def scored(model: UperNet, evaluation: Evaluation) -> Iterator[tuple[Tensor, np.ndarray]]:
    """Score maps (C,H,W) and mask of each whole test image."""
    representation, protocol = evaluation.representation, evaluation.protocol
    side = protocol.upernet.side
    stride = max(1, round((protocol.stride or 1.0) * side))

    def score(windows: Tensor) -> Tensor:
        with torch.autocast(representation.device.type, torch.bfloat16, enabled=representation.bf16):
            return model.scores(windows).float()

    for i in range(len(evaluation.split("test"))):
        image, mask = evaluation.whole(i, side)
        with torch.inference_mode():
            [pixels] = to_pixels(image[None], representation.device)
            yield slide(pixels, side, stride, score), mask
