"""Evaluation sets by their configuration: one interface, fingerprints, and what cannot be opened."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from ablative.study.core.errors import DataError, UnfitDataError
from ablative.study.home.paths import Home
from ablative.trainer.clip.data.sets.digits import CLASSES, TRAIN
from ablative.trainer.clip.data.sources import fingerprint_dataset, open_dataset, open_pairs
from ablative.trainer.clip.data.world.shapes import SPLIT_SIZES, TASKS
from ablative.trainer.clip.spec.config import DataConfig, DatasetConfig

HOME = Home(Path("never written"))


def digits(**fields: int) -> DatasetConfig:
    return DatasetConfig(name="digits", kind="digits", **fields)


def shapes(task: str = "", **fields: int) -> DatasetConfig:
    return DatasetConfig(name="shapes", kind="shapes", task=task, **fields)


@pytest.mark.parametrize("config", [digits(), *(shapes(task, train=30, test=20) for task in ("", *TASKS))])
def test_every_set_keeps_to_the_interface(config: DatasetConfig) -> None:
    found = open_dataset(config, 20, HOME)
    assert len(set(found.classes)) == len(found.classes) >= 2
    for name in ("train", "test"):
        split = found.split(name)
        assert split.labels.dtype == np.int64 and split.labels.shape == (len(split),)
        assert split.labels.min() >= 0 and split.labels.max() < len(found.classes)
        for i in (0, len(split) - 1):
            assert split.images(i).shape == (20, 20, 3) and split.images(i).dtype == np.uint8
            mask = split.masks(i)
            assert mask is None or (mask.shape == (20, 20) and mask.dtype == np.uint8)
        assert split.captions is None or [len(own) > 0 for own in split.captions] == [True] * len(split)


def test_digits_are_scikit_learns() -> None:
    bunch = load_digits()
    found = open_dataset(digits(), 8, HOME)
    train, test = found.split("train"), found.split("test")
    assert (len(train), len(test)) == (TRAIN, 1797 - TRAIN)
    np.testing.assert_array_equal(np.concatenate([train.labels, test.labels]), bunch.target)
    assert found.classes == CLASSES and found.classes[train.labels[7]] == "seven"
    # At their own size they are not resampled: 17 grey levels from 0 to 255.
    np.testing.assert_array_equal(train.images(3)[:, :, 1], np.rint(bunch.images[3] * 255 / 16))
    np.testing.assert_array_equal(test.images(0)[:, :, 2], np.rint(bunch.images[TRAIN] * 255 / 16))


def test_digits_enlarged_keep_their_look() -> None:
    found = open_dataset(digits(), 32, HOME).split("train")
    image = found.images(0)
    assert (image[..., 0] == image[..., 1]).all() and (image[..., 0] == image[..., 2]).all()
    blocks = image[..., 0].reshape(8, 4, 8, 4).mean(axis=(1, 3))
    assert np.corrcoef(blocks.ravel(), load_digits().images[0].ravel())[0, 1] > 0.95


def test_the_first_samples_of_digits() -> None:
    found = open_dataset(digits(train=30, test=7), 8, HOME)
    assert (len(found.split("train")), len(found.split("test"))) == (30, 7)
    np.testing.assert_array_equal(found.split("train").labels, load_digits().target[:30])
    with pytest.raises(UnfitDataError, match=r"digits.train=1201, but the train split has 1200 samples; give as many"):
        open_dataset(digits(train=1201), 8, HOME).split("train")


def test_digits_have_no_tasks() -> None:
    with pytest.raises(DataError, match="unknown task of digits 'parity'"):
        open_dataset(DatasetConfig(name="digits", kind="digits", task="parity"), 8, HOME)


def test_shapes_without_numbers_have_standard_sizes() -> None:
    found = open_dataset(shapes("count"), 16, HOME)
    assert {name: len(found.split(name)) for name in ("train", "test")} == SPLIT_SIZES


def test_train_and_test_share_nothing() -> None:
    found = open_dataset(shapes(train=200, test=200), 16, HOME)
    images = {found.split(name).images(i).tobytes() for name in ("train", "test") for i in range(200)}
    pairs = open_pairs(DataConfig(name="shapes", kind="shapes", pairs=200), 16, HOME)
    images |= {pairs.image(i).tobytes() for i in range(200)}
    assert len(images) == 600


def test_fingerprints_tell_contents_apart() -> None:
    prints = [fingerprint_dataset(config, HOME) for config in (digits(), shapes(), shapes(seed=1))]
    prints.append(open_pairs(DataConfig(name="s", kind="shapes", pairs=9), 16, HOME).fingerprint)
    assert len(set(prints)) == 4
    assert all(len(one) == 16 and int(one, 16) for one in prints)
    # One content, whatever the task and the number of samples: those enter an identity by themselves.
    assert fingerprint_dataset(shapes("count", train=5), HOME) == prints[1]


def test_unknown_kinds() -> None:
    with pytest.raises(DataError, match=r"kind 'folder'; did you mean"):
        open_dataset(DatasetConfig(name="x", kind="folder"), 16, HOME)
    with pytest.raises(DataError, match=r"'digits' has no pairs \(allowed: shapes, shards\)"):
        open_pairs(DataConfig(name="x", kind="digits", pairs=3), 16, HOME)
