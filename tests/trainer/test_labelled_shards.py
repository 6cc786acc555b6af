"""Labelled shards as evaluation sets: which samples, which classes, which captions and masks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from shard_world import encoded, plain, sample, turned, write_shard

from ablative.study.core.errors import ConfigError, DataError
from ablative.study.home.paths import Home
from ablative.trainer.clip.data.fingerprints import fingerprint
from ablative.trainer.clip.data.scored_sets import check_set
from ablative.trainer.clip.data.sets.evaluation import EvaluationSet
from ablative.trainer.clip.data.sets.labelled_shards import ShardSet
from ablative.trainer.clip.data.sources import fingerprint_dataset, open_dataset
from ablative.trainer.clip.spec.config import DatasetConfig, ProtocolConfig


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def shard(path: Path, labels: Sequence[Any], **fields: Any) -> str:
    """A shard whose samples have these labels under `kind`, none for None."""
    samples = []
    for number, label in enumerate(labels):
        samples.append(sample(number, **fields, **({} if label is None else {"kind": label})))
    return str(write_shard(path, samples))


def dataset(**fields: Any) -> DatasetConfig:
    return DatasetConfig(**{"name": "kinds", "kind": "shards", **fields})


def test_labels_of_both_splits(tmp_path: Path, home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    train = shard(tmp_path / "train.tar", ["cat", None, "ant", "cat", ""])
    test = shard(tmp_path / "test.tar", ["cat", "bee", None, "ant", "bee"])
    found: EvaluationSet = open_dataset(dataset(task="kind", path=train, test_path=test), 8, home)
    assert isinstance(found, ShardSet)
    assert found.classes == ("ant", "cat")
    assert found.split("train").labels.tolist() == [1, 0, 1]
    split = found.split("test")
    assert (split.labels.dtype, split.labels.tolist(), len(split)) == (np.int64, [1, 0], 2)
    np.testing.assert_array_equal(split.images(1), plain(3))
    assert split.captions == [["caption 0"], ["caption 3"]]
    note = "data set kinds: 2 of 4 test samples are of classes not in train; they are left out"
    assert found.notes == (note,)
    assert capsys.readouterr().err.strip() == note


def test_a_test_split_alone(tmp_path: Path, home: Home) -> None:
    found = ShardSet(dataset(task="kind", test_path=shard(tmp_path / "t.tar", [10, 9, None, 10])), 8, home)
    assert found.classes == ("9", "10")
    assert found.split("test").labels.tolist() == [1, 0, 1]
    with pytest.raises(ConfigError, match="data set kinds: no train split; `path` names its shards"):
        found.split("train")


def test_subsets_are_fixed(tmp_path: Path, home: Home) -> None:
    path = shard(tmp_path / "t.tar", [i % 3 for i in range(40)])

    def chosen(**fields: int) -> list[list[str]] | None:
        return ShardSet(dataset(task="kind", test_path=path, **fields), 8, home).split("test").captions

    some = chosen(test=12)
    assert some is not None
    assert len(some) == 12
    assert some == chosen(test=12) != chosen(test=12, seed=1)
    assert len(chosen() or ()) == 40


def test_classes_of_a_small_train_split_decide(tmp_path: Path, home: Home) -> None:
    path = shard(tmp_path / "t.tar", [f"k{i}" for i in range(9)])
    found = ShardSet(dataset(task="kind", path=path, test_path=path, train=4), 8, home)
    assert len(found.classes) == len(found.split("train")) == len(found.split("test")) == 4
    assert found.split("test").captions == found.split("train").captions


def test_captions_of_retrieval(tmp_path: Path, home: Home) -> None:
    path = shard(tmp_path / "t.tar", [None, None], caps=["a", "b "])
    found = ShardSet(dataset(test_path=path, caption="json.caps"), 8, home)
    assert found.split("test").captions == [["a", "b"], ["a", "b"]]
    assert found.split("test").labels.shape == (0,)
    assert found.classes == ()


def test_no_captions(tmp_path: Path, home: Home) -> None:
    path = write_shard(tmp_path / "t.tar", [{"png": encoded(plain(1))}])
    assert ShardSet(dataset(test_path=str(path)), 8, home).split("test").captions is None


def test_images_are_central_squares_of_the_models_size(tmp_path: Path, home: Home) -> None:
    path = write_shard(tmp_path / "t.tar", [{"jpg": encoded(plain(50, size=(30, 20)), "JPEG")}])
    assert ShardSet(dataset(test_path=str(path)), 12, home).split("test").images(0).shape == (12, 12, 3)


def test_masks_follow_their_image(tmp_path: Path, home: Home) -> None:
    labels = np.zeros((4, 8), np.uint8)
    labels[:, 2:4], labels[:, 6:] = 2, 255
    wide = {"png": encoded(plain(0, size=(8, 4)))}
    path = write_shard(tmp_path / "t.tar", [{**wide, "seg.png": encoded(labels)}, sample(1)])
    (tmp_path / "classes.json").write_text(json.dumps(["ant", "bee"]))
    found = ShardSet(dataset(test_path=str(path)), 4, home)
    assert found.classes == ("ant", "bee")
    mask = found.split("test").masks(0)
    assert mask is not None
    assert mask.dtype == np.uint8
    assert mask.tolist() == [[2, 2, 0, 0]] * 4  # columns 2 to 5
    assert found.split("test").masks(1) is None


def test_bitmaps_mark_the_labelled_object(tmp_path: Path, home: Home) -> None:
    bitmap = Image.new("1", (2, 2))
    bitmap.putpixel((1, 0), 1)
    bitmap.save(tmp_path / "m.png")
    content = (tmp_path / "m.png").read_bytes()
    small = {"png": encoded(plain(0, size=(2, 2)))}
    samples = [{**sample(i, kind=kind), **small, "mask.png": content} for i, kind in enumerate(["ant", "bee"])]
    path = write_shard(tmp_path / "t.tar", samples)
    split = ShardSet(dataset(task="kind", test_path=str(path)), 2, home).split("test")
    assert [split.masks(i).tolist() for i in (0, 1)] == [[[0, 1], [0, 0]], [[0, 2], [0, 0]]]  # type: ignore[union-attr]


def test_masks_belong_to_the_pixels_as_stored(tmp_path: Path, home: Home) -> None:
    image, labels = turned()
    bare = {"jpg": image}
    path = write_shard(tmp_path / "t.tar", [{**bare, "seg.png": encoded(labels)}, bare])
    split = ShardSet(dataset(test_path=str(path)), 4, home).split("test")
    mask = split.masks(0)
    assert mask is not None and mask.tolist() == [[1, 1, 0, 0]] * 4
    np.testing.assert_array_equal(split.images(0)[..., 0] > 128, mask == 1)
    np.testing.assert_array_equal(split.images(1)[..., 0] > 128, (mask == 1).T)  # as its EXIF says
    path = write_shard(tmp_path / "other.tar", [{**bare, "seg.png": encoded(labels.T)}])
    with pytest.raises(DataError, match=r"sample '000000': the mask has 8 × 16 pixels and its image 16 × 8"):
        ShardSet(dataset(test_path=str(path)), 4, home).split("test").masks(0)


def test_colour_is_no_label_map(tmp_path: Path, home: Home) -> None:
    path = write_shard(tmp_path / "t.tar", [{**sample(0), "seg.png": encoded(plain(0))}])
    split = ShardSet(dataset(test_path=str(path)), 2, home).split("test")
    with pytest.raises(DataError, match="sample '000000': the mask has mode RGB, expected one channel"):
        split.masks(0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"test_path": ""}, "test_path is not set"),
        ({"task": "knd"}, r"task=knd: unknown JSON key 'knd'; did you mean 'kind'\?"),
        ({"test": 5}, r"suite.datasets.kinds.test=5, but the test split \(.*t.tar\) has 4 samples that have the label"),
        ({"train": 9, "path": "same"}, r"suite.datasets.kinds.train=9, but the train split \(.*\) has 4 samples that"),
    ],
)
def test_impossible_sets(tmp_path: Path, home: Home, fields: dict[str, Any], message: str) -> None:
    path = shard(tmp_path / "t.tar", ["a", "b", "a", "b"])
    wanted = {"task": "kind", "test_path": path, **fields}
    wanted = {key: path if value == "same" else value for key, value in wanted.items()}
    probe = ProtocolConfig(name="p", kind="linear_probe")
    for function in (
        lambda config, home: ShardSet(config, 8, home),
        lambda config, home: check_set(config, probe, home),
    ):
        with pytest.raises(ConfigError, match=f"data set kinds: {message}"):
            function(dataset(**wanted), home)


def test_captions_that_are_not_there(tmp_path: Path, home: Home) -> None:
    path = shard(tmp_path / "t.tar", ["a"])
    with pytest.raises(ConfigError, match=r"unknown JSON key 'nam'; did you mean 'name'\?"):
        fingerprint(dataset(test_path=path, caption="json.nam"), home)
    split = ShardSet(dataset(test_path=path, caption="json.nam"), 8, home).split("test")
    with pytest.raises(ConfigError, match=r"unknown JSON key 'nam'"):
        _ = split.captions


def test_lists_are_no_labels(tmp_path: Path, home: Home) -> None:
    with pytest.raises(DataError, match=r"sample '000001': label 'kind' is \[1, 2\], expected a name or a number"):
        ShardSet(dataset(task="kind", test_path=shard(tmp_path / "t.tar", ["a", [1, 2]])), 8, home)


@pytest.mark.parametrize("content", ["{", '{"a": 1}', "[1]"])
def test_broken_class_names(tmp_path: Path, home: Home, content: str) -> None:
    path = shard(tmp_path / "t.tar", [None])
    (tmp_path / "classes.json").write_text(content)
    with pytest.raises(DataError, match=r"classes.json: (no JSON|expected a list of class names)"):
        ShardSet(dataset(test_path=path), 8, home)


def test_fingerprint_of_the_contract(tmp_path: Path, home: Home) -> None:
    config = dataset(test_path=shard(tmp_path / "t.tar", ["a"]))
    assert fingerprint_dataset(config, home) == fingerprint(config, home)
