"""Images of a training split as batches of fine-tuning: in memory where they fit, else read again in every epoch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from ablative.trainer.clip.data.images import streams
from ablative.trainer.clip.data.images.crops import Crops, boxes
from ablative.trainer.clip.data.images.pictures import decode, resize
from ablative.trainer.clip.data.sets.evaluation import Split, StoredImages
from ablative.trainer.clip.protocols.augmentation.rand_augment import NUMBERS, rand_augment
from ablative.trainer.clip.protocols.evaluation import Evaluation
from ablative.trainer.clip.protocols.parts import row_store
from ablative.trainer.clip.protocols.parts.features import BATCH, images_in_blocks
from ablative.trainer.clip.protocols.parts.row_store import gathered
from ablative.trainer.clip.protocols.parts.training import Drawn
from ablative.trainer.clip.spec.training_options import AugmentConfig

Reader = Callable[[Drawn], np.ndarray]
"""A batch -> its images uint8 (b, S, S, 3), augmented one by one."""


def reader(evaluation: Evaluation) -> Reader:
    """What reads batches of the train split; what is random in them follows from the protocol's seed, the epoch and the
    sample."""
    split, representation = evaluation.split("train"), evaluation.representation
    side, options = representation.config.model.image_size, evaluation.protocol.augment
    if options == AugmentConfig(mixup=options.mixup, cutmix=options.cutmix, erase=options.erase):
        if len(split) * side * side * 3 <= row_store.MEMORY_BYTES:
            blocks = images_in_blocks(split, BATCH, representation.config.runtime.workers)
            pixels = gathered(blocks, len(split), representation.paths.features)
            return lambda drawn: pixels[drawn.rows.numpy()]
        return lambda drawn: np.stack([split.images(i) for i in drawn.rows.tolist()])
    return lambda drawn: augmented(split, drawn, side, options, evaluation.protocol.seed)


def augmented(split: Split, drawn: Drawn, side: int, options: AugmentConfig, seed: int) -> np.ndarray:
    """uint8 (b, side, side, 3): cropped at random, flipped, by RandAugment."""
    rows = drawn.rows.numpy()

    def keys(what: str) -> np.ndarray:
        return streams.keys(streams.stream(f"fine-tuning {what}", seed, drawn.epoch), rows)

    crops, flips = Crops(keys("crop"), options.crop_scale), streams.uniforms(keys("flip"), 1)[:, 0]
    numbers = streams.uniforms(keys("operations"), NUMBERS * options.operations)
    images = []
    for place, row in enumerate(rows.tolist()):
        image = picture(split, row)
        if options.crop_scale < 1:
            size = (np.array([length]) for length in image.size)
            left, top, right, bottom = boxes(crops[place : place + 1], *size)[0].tolist()
            image = Image.fromarray(resize(image, side, (left, top, right, bottom)))
        else:
            image = Image.fromarray(resize(image, side))
        if flips[place] < options.flip:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        images.append(np.asarray(rand_augment(image, numbers[place].reshape(-1, NUMBERS), options)))
    return np.stack(images)


def picture(split: Split, i: int) -> Image.Image:
    """A whole image as it is stored; of a set that draws its images, the square."""
    if isinstance(split, StoredImages):
        return decode(split.encoded(i), f"train image {i}")
    return Image.fromarray(split.images(i))
