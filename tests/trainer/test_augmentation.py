"""Augmentation of fine-tuning against timm, given the same random numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from oracles import oracle
from PIL import Image

from ablative.trainer.clip.data.images import streams
from ablative.trainer.clip.protocols.augmentation import mixing
from ablative.trainer.clip.protocols.augmentation.rand_augment import NUMBERS, OPERATIONS, rand_augment
from ablative.trainer.clip.spec.training_options import AugmentConfig

NAMES = (
    "AutoContrast", "Equalize", "Invert", "Rotate", "PosterizeIncreasing", "SolarizeIncreasing", "SolarizeAdd",
    "ColorIncreasing", "ContrastIncreasing", "BrightnessIncreasing", "SharpnessIncreasing", "ShearX", "ShearY",
    "TranslateXRel", "TranslateYRel",
)  # fmt: skip


def photograph(seed: int = 0) -> Image.Image:
    """Smooth colours, unlike noise, with a narrow range that contrast can stretch."""
    generator = np.random.default_rng(seed)
    small = generator.integers(30, 210, (6, 5, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((40, 48), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("magnitude", [0.0, 4.3, 9.9])
def test_every_operation_of_randaugment_is_timms(
    monkeypatch: pytest.MonkeyPatch, magnitude: float, sign: float
) -> None:
    timm = oracle("timm.data.auto_augment")
    monkeypatch.setattr(timm.random, "random", lambda: 0.9 if sign < 0 else 0.1)
    options = {"img_mean": (128, 128, 128), "interpolation": Image.Resampling.BICUBIC}
    image, changed = photograph(), 0
    assert list(NAMES) == timm._RAND_INCREASING_TRANSFORMS
    for name, operation in zip(NAMES, OPERATIONS, strict=True):
        expected = timm.AugmentOp(name, prob=1.0, magnitude=magnitude, hparams=options)(image)
        found = operation(image, magnitude / 10, sign)
        np.testing.assert_array_equal(np.asarray(found), np.asarray(expected), err_msg=name)
        changed += not np.array_equal(np.asarray(found), np.asarray(image))
    assert changed >= (13 if magnitude else 3)


def test_randaugment_draws_operations_evenly_and_does_half_of_them() -> None:
    """Counted by which of the images of an inverting, a turning and a still operation comes out."""
    image, options = photograph(), AugmentConfig(operations=1, magnitude_std=0.0)
    plain = np.asarray(image)
    draws = streams.uniforms(streams.keys(streams.stream("t"), np.arange(600)), NUMBERS)
    same = sum(np.array_equal(np.asarray(rand_augment(image, row[None], options)), plain) for row in draws)
    assert 0.42 < same / 600 < 0.6, "half are done, and a few of those change nothing"
    inverted = 255 - plain
    found = sum(np.array_equal(np.asarray(rand_augment(image, row[None], options)), inverted) for row in draws)
    assert 10 <= found <= 32, "600 / 2 / 15"


class Numbers:
    """Python's generator, but for its numbers: given ones, uniform in [0, 1)."""

    def __init__(self, values: np.ndarray) -> None:
        self._values: Iterator[float] = iter(values.tolist())

    def random(self) -> float:
        return next(self._values)

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * next(self._values)

    def randint(self, low: int, high: int) -> int:
        return low + int(next(self._values) * (high - low + 1))


def test_random_erasing_takes_timms_rectangles(monkeypatch: pytest.MonkeyPatch) -> None:
    """On narrow images, so that many a try does not fit; timm asks for a place only after a try that fits."""
    timm = oracle("timm.data.random_erasing")
    draws = streams.uniforms(streams.keys(streams.stream("erase"), np.arange(200)), mixing.ERASING_NUMBERS)
    erased, retried = 0, 0
    for row in draws:
        box = mixing.erased_box(row, 0.8, 12, 40)
        tries = row[1:].reshape(-1, 4)
        flat = [row[0]]
        for area, proportion, down, across in tries:
            flat += [area, proportion]
            pixels = (0.02 + (1 / 3 - 0.02) * area) * 480
            ratio = np.exp(np.log(0.3) + (np.log(1 / 0.3) - np.log(0.3)) * proportion)
            if round(np.sqrt(pixels * ratio)) < 12 and round(np.sqrt(pixels / ratio)) < 40:
                flat += [down, across]
                break
            retried += 1
        monkeypatch.setattr(timm, "random", Numbers(np.array(flat)))
        image = torch.ones(3, 12, 40)
        timm.RandomErasing(probability=0.8, mode="const", device="cpu")(image)
        expected = torch.ones(3, 12, 40)
        if box is not None:
            top, left, height, width = box
            expected[:, top : top + height, left : left + width] = 0
            erased += 1
        assert torch.equal(image, expected)
    assert 120 < erased < 190 and retried > 20


def test_erasing_leaves_noise_in_the_rectangle_alone() -> None:
    numbers = streams.uniforms(streams.keys(streams.stream("e"), np.arange(4)), mixing.ERASING_NUMBERS)
    images = torch.zeros(4, 3, 64, 64)
    mixing.erase(images, numbers, 1.0, torch.Generator().manual_seed(0))
    for image, row in zip(images, numbers, strict=True):
        box = mixing.erased_box(row, 1.0, 64, 64)
        assert box is not None
        top, left, height, width = box
        inside = image[:, top : top + height, left : left + width]
        assert int((image != 0).sum()) == 3 * height * width and 0.8 < float(inside.std()) < 1.2


@pytest.mark.parametrize("cut", [False, True])
def test_mixed_images_and_targets_are_timms(monkeypatch: pytest.MonkeyPatch, cut: bool) -> None:
    timm = oracle("timm.data.mixup")
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.rand(6, 3, 32, 32, generator=generator), torch.tensor([0, 3, 1, 2, 3, 0])
    for share, y, x in ((0.3, 4, 30), (0.71, 16, 11), (0.999, 0, 0)):
        places = iter([y, x])
        fake: Any = type("R", (), {
            "rand": staticmethod(lambda *size: np.float64(0.9)),
            "beta": staticmethod(lambda a, b, size=None, value=share: value),
            "randint": staticmethod(lambda low, high, size=None, places=places: next(places)),
        })  # fmt: skip
        monkeypatch.setattr(timm.np, "random", fake)
        mixup, cutmix = (0.0, 1.0) if cut else (0.8, 0.0)
        reference = timm.Mixup(mixup_alpha=mixup, cutmix_alpha=cutmix, label_smoothing=0.1, num_classes=4)
        expected, targets = reference(images.clone(), labels)
        monkeypatch.undo()
        mixture = mixing.cut_mixture(share, 32, y, x) if cut else mixing.Mixture(share)
        torch.testing.assert_close(mixing.mix(images, mixture), expected, rtol=0, atol=2e-7)
        found = mixing.mixed_targets(labels, 4, 0.1, mixture)
        torch.testing.assert_close(found, targets, rtol=0, atol=2e-7)


def test_shares_of_mixtures_follow_their_beta_distribution() -> None:
    """Beta(0.8, 0.8) has mean 1/2 and variance 1/(4·2.6); with both kinds, half of the batches are cut."""
    both = [mixing.draw_mixture(AugmentConfig(mixup=0.8, cutmix=1.0), 32, key) for key in range(2000)]
    blended = np.array([each.share for each in both if each is not None and each.box is None])
    assert 900 < len(blended) < 1100
    assert abs(blended.mean() - 0.5) < 0.03 and abs(blended.var() - 1 / (4 * 2.6)) < 0.01
    assert mixing.draw_mixture(AugmentConfig(), 32, 0) is None
    assert mixing.draw_mixture(AugmentConfig(mixup=0.8), 32, 7) == mixing.draw_mixture(AugmentConfig(mixup=0.8), 32, 7)
