"""Detection and instance segmentation by full fine-tuning with Mask R-CNN: MaskCLIP's COCO (appendix B), "1×".

12 epochs, AdamW, rates that fall with the depth and to a tenth after epochs 8 and 11, images at 800 × 1333, flips. It
needs the extra `detection`. The run's own weights stay as they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from ablative.study.core.errors import DataError
from ablative.study.core.extras import require
from ablative.trainer.clip.data.images import streams
from ablative.trainer.clip.protocols.dense.operators import load_torchvision
from ablative.trainer.clip.protocols.evaluation import Evaluation
from ablative.trainer.clip.protocols.parts import kept_pictures
from ablative.trainer.clip.protocols.parts.reading import Order, read_ahead
from ablative.trainer.clip.protocols.parts.training import layered_adamw, set_rate, warmed
from ablative.trainer.clip.spec.config import ProtocolConfig

WARMUP = 1e-3
"""Share of the learning rate in the first step."""
CERTAIN = 0.5
"""Score from which on a thing is shown in pictures; average precision takes all."""
Found = dict[str, np.ndarray]
"""Boxes (k,4), labels (k,), scores (k,) and masks (k,H,W) of one image, the best first."""
Sample = tuple[np.ndarray, dict[str, np.ndarray]]
"""uint8 (H,W,3), and boxes, labels and masks of its instances."""


def detection(evaluation: Evaluation) -> Iterator[tuple[str, float]]:
    """box_ap, mask_ap and both at two thresholds on the test split after training on the train split; percent."""
    require("detection")
    load_torchvision()
    from ablative.trainer.clip.protocols.dense.average_precision import AveragePrecision
    from ablative.trainer.clip.protocols.dense.mask_rcnn import mask_rcnn

    protocol, representation = evaluation.protocol, evaluation.representation
    classes = len(evaluation.dataset.classes)
    test = evaluation.instances("test")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(protocol.seed)
        model = mask_rcnn(
            representation.system.image, classes, protocol.detection, protocol.drop_path, representation.bf16
        )
    model.to(representation.device)
    fit(model, evaluation)
    precision = AveragePrecision(classes)
    size, shown = len(evaluation.split("test")), dict[int, Found]()
    for i in range(size):
        image = test.picture(i)
        found = predict(model, image, representation.device)
        precision.add(test.instances(i), found, *image.shape[:2])
        if i in kept_pictures.examples(size):
            shown[i] = found
    if evaluation.task is not None:
        kept_pictures.keep(evaluation.task, evaluation.config.name, pictures(evaluation, shown))
    yield from precision.results().items()


def pictures(evaluation: Evaluation, shown: Mapping[int, Found]) -> dict[str, np.ndarray]:
    """The arrays of `detection`, of test images with what was found in them."""
    test = evaluation.instances("test")
    images = [test.picture(i) for i in shown]
    squares = kept_pictures.Squares([(image.shape[0], image.shape[1]) for image in images])
    truth = [_drawn(squares, row, test.instances(i)._asdict(), images[row]) for row, i in enumerate(shown)]
    # Sorted by score, the best first.
    certain = [{name: each[found["scores"] >= CERTAIN] for name, each in found.items()} for found in shown.values()]
    drawn = [_drawn(squares, row, found, images[row]) for row, found in enumerate(certain)]
    return {
        "images": np.stack([squares.image(row, image) for row, image in enumerate(images)]),
        "names": kept_pictures.names(evaluation.dataset.classes),
        **dict(zip(("truth", "boxes_truth", "labels_truth"), _together(truth), strict=True)),
        **dict(zip(("masks", "boxes", "labels_found"), _together(drawn), strict=True)),
    }


def _drawn(squares: kept_pictures.Squares, row: int, things: Found, image: np.ndarray) -> tuple[np.ndarray, ...]:
    """Label of each pixel of a square, that of the first thing there; boxes in its pixels, and their labels."""
    labels = np.zeros(image.shape[:2], dtype=np.int64)
    for label, mask in reversed(list(zip(things["labels"], things["masks"], strict=True))):
        labels[mask > 0] = label
    return squares.labels(row, labels), things["boxes"] * squares.scale(row), things["labels"]


def _together(drawn: list[tuple[np.ndarray, ...]]) -> tuple[np.ndarray, ...]:
    """The same of several squares, with as many boxes of each; label 0 fills up."""
    most = max(len(labels) for *_, labels in drawn)
    boxes = np.zeros((len(drawn), most, 4), dtype=np.float32)
    labels = np.zeros((len(drawn), most), dtype=np.int64)
    for row, (_, own, numbers) in enumerate(drawn):
        boxes[row, : len(own)], labels[row, : len(own)] = own, numbers
    return np.stack([square for square, *_ in drawn]), boxes, labels


def fit(model: nn.Module, evaluation: Evaluation) -> list[dict[str, float]]:
    """Train on the train split, deterministically by `protocol.seed` → the losses of each step that was done."""
    from ablative.trainer.clip.protocols.dense.mask_rcnn import INPUTS

    representation, protocol = evaluation.representation, evaluation.protocol
    reader = Reader(evaluation)
    optimizer = layered_adamw(model, protocol, representation.config.model.depth, INPUTS)
    start = evaluation.resumption.begin(model=model, optimizer=optimizer)
    losses = []
    model.train()
    with torch.random.fork_rng(devices=[] if representation.device.type == "cpu" else None):
        read = read_ahead(reader, range(start, reader.steps), representation.config.runtime.workers)
        for step, batch in enumerate(read, start):
            # Proposals and stochastic depth draw from the global generator.
            torch.manual_seed(streams.stream("detection", protocol.seed, step) >> 1)
            set_rate(optimizer, learning_rate(protocol, step, reader.count))
            optimizer.zero_grad()
            images, targets = zip(*(_on_device(sample, representation.device) for sample in batch), strict=True)
            found = model(list(images), list(targets))
            torch.stack(list(found.values())).sum().backward()
            optimizer.step()
            losses.append({name: float(value.detach()) for name, value in found.items()})
            evaluation.resumption.after(step + 1, reader.steps)
    model.eval()
    return losses


def learning_rate(protocol: ProtocolConfig, step: int, samples: int) -> float:
    """A tenth after each milestone; in the warm-up a share of that, which rises linearly."""
    epoch = step * protocol.batch_size // samples
    passed = sum(epoch >= milestone for milestone in protocol.detection.milestones)
    return protocol.lr * 0.1**passed * warmed(step, protocol.detection.warmup_steps, WARMUP)


class Reader:
    """Reads the batch of a step from the training images that have instances; flips follow from seed and place."""

    def __init__(self, evaluation: Evaluation) -> None:
        self._split, self._protocol = evaluation.instances("train"), evaluation.protocol
        self._rows = self._split.with_instances()
        self.count = len(self._rows)
        if not self.count:
            raise DataError(f"data set {evaluation.config.name}: no train image has an instance")
        self.steps = math.ceil(self.count * self._protocol.epochs / self._protocol.batch_size)
        self._order = Order("detection order", self._protocol.seed, self.count)

    def __call__(self, step: int) -> list[Sample]:
        size = self._protocol.batch_size
        places = np.arange(step * size, (step + 1) * size)
        keys = streams.keys(streams.stream("detection flip", self._protocol.seed), places)
        flips = streams.uniforms(keys, 1)[:, 0] < self._protocol.detection.flip
        return [self._sample(place, flip) for place, flip in zip(places.tolist(), flips.tolist(), strict=True)]

    def _sample(self, place: int, flip: bool) -> Sample:
        row = int(self._rows[self._order.row(place)])
        image, (boxes, labels, masks, crowd) = self._split.picture(row), self._split.instances(row)
        if flip:
            image, masks = image[:, ::-1], masks[:, :, ::-1]
            boxes = np.stack([image.shape[1] - boxes[:, 2], boxes[:, 1], image.shape[1] - boxes[:, 0], boxes[:, 3]], 1)
        # A crowd is no single thing; torchvision refuses a box without area.
        usable = ~crowd & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        return image, {"boxes": boxes[usable], "labels": labels[usable], "masks": masks[usable]}


def predict(model: nn.Module, image: np.ndarray, device: torch.device) -> Found:
    """Boxes (k,4), labels (k,), scores (k,) and masks bool (k,H,W) found in an image uint8 (H,W,3)."""
    with torch.inference_mode():
        [found] = model([_pixels(image, device)])
        masks = found["masks"][:, 0] > 0.5
    return {**{name: found[name].cpu().numpy() for name in ("boxes", "labels", "scores")}, "masks": masks.cpu().numpy()}


def _on_device(sample: Sample, device: torch.device) -> tuple[Tensor, dict[str, Tensor]]:
    image, targets = sample
    return _pixels(image, device), {
        name: torch.from_numpy(np.ascontiguousarray(value)).to(device) for name, value in targets.items()
    }


def _pixels(image: np.ndarray, device: torch.device) -> Tensor:
    """uint8 (H,W,3) → float32 (3,H,W) in [0,1]."""
    return torch.from_numpy(np.ascontiguousarray(image)).to(device).permute(2, 0, 1).float().div_(255)
