"""Evaluation sets in published layouts, written here in exactly those layouts: CLIP_benchmark, folders, captions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shard_world import encoded, plain, sample, write_shard

from ablative.study.core.errors import AbsentDataError, ConfigError, DataError
from ablative.study.home.paths import Home
from ablative.trainer.clip.data.sets.clip_benchmark import ClipBenchmarkSet
from ablative.trainer.clip.data.sources import fingerprint_dataset, open_dataset
from ablative.trainer.clip.spec.config import DatasetConfig


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def dataset(kind: str, path: Path, **fields: Any) -> DatasetConfig:
    return DatasetConfig(**{"name": "mine", "kind": kind, "path": str(path), **fields})


def clip_benchmark(root: Path, labels: dict[str, list[list[int]]], suffix: str = "webp") -> Path:
    """Split → archives → labels; sample n of a split is `plain(n)`, as `clip_benchmark_export_wds` writes it."""
    for split, shards in labels.items():
        number = 0
        for shard, own in enumerate(shards):
            samples = []
            for label in own:
                image = encoded(plain(number), {"webp": "WEBP", "png": "PNG"}[suffix], lossless=True)
                samples.append({suffix: image, "cls": str(label).encode()})
                number += 1
            names = [f"s{i:07d}" for i in range(number - len(own), number)]
            write_shard(root / split / f"{shard}.tar", samples, names=names)
        (root / split / "nshards.txt").write_text(f"{len(shards)}\n")
    (root / "classnames.txt").write_text("ant\nbig bee\ncat\n")
    (root / "zeroshot_classification_templates.txt").write_text("a photo of a {c}.\nthe {c}\n")
    return root


@pytest.mark.parametrize("suffix", ["webp", "png"])
def test_clip_benchmark_labels_names_and_templates(tmp_path: Path, home: Home, suffix: str) -> None:
    root = clip_benchmark(tmp_path / "wds", {"train": [[0, 1], [2]], "test": [[2, 1, 0, 2]]}, suffix)
    found = open_dataset(dataset("clip_benchmark", root, templates="own"), 8, home)
    assert isinstance(found, ClipBenchmarkSet)
    assert found.classes == ("ant", "big bee", "cat")
    assert found.templates == ("a photo of a {}.", "the {}")
    assert found.split("test").labels.tolist() == [2, 1, 0, 2]
    assert sorted(found.split("train").labels.tolist()) == [0, 1, 2]
    np.testing.assert_array_equal(found.split("test").images(2), plain(2))
    assert len(open_dataset(dataset("clip_benchmark", root, test=3), 8, home).split("test")) == 3


@pytest.mark.parametrize("stored", [40, 32])
def test_ordered_classes_in_bins(tmp_path: Path, home: Home, stored: int) -> None:
    root = clip_benchmark(tmp_path / "wds", {"test": [list(range(stored))]})
    (root / "classnames.txt").write_text("\n".join(f"turned {i}" for i in range(stored)))
    found = open_dataset(dataset("clip_benchmark", root, bins=16), 8, home)
    assert found.classes == tuple(str(i) for i in range(16))
    # task_adaptation `data/dsprites.py`: tf.math.floordiv(label, n / bins)
    assert found.split("test").labels.tolist() == [int(label // (stored / 16)) for label in range(stored)]
    whole = open_dataset(dataset("clip_benchmark", root), 8, home)
    assert whole.split("test").labels.tolist() == list(range(stored))
    with pytest.raises(ConfigError, match=f"data set mine: bins=41, but it has {stored} classes"):
        open_dataset(dataset("clip_benchmark", root, bins=41), 8, home)
    (root / "test" / "0.tar").unlink()
    write_shard(root / "test" / "0.tar", [{"png": encoded(plain(0)), "cls": str(stored).encode()}])
    with pytest.raises(DataError, match=rf"\.cls '{stored}'; expected a label from 0 to {stored - 1}"):
        found.split("test")


def test_clip_benchmark_retrieval(tmp_path: Path, home: Home) -> None:
    samples = [{"jpg": encoded(plain(i), "JPEG"), "txt": f"one {i}\ntwo {i}\n three\n".encode()} for i in range(2)]
    write_shard(tmp_path / "wds" / "test" / "0.tar", samples)
    (tmp_path / "wds" / "test" / "nshards.txt").write_text("1")
    (tmp_path / "wds" / "dataset_type.txt").write_text("Retrieval\n")
    split = open_dataset(dataset("clip_benchmark", tmp_path / "wds", max_captions=2), 8, home).split("test")
    assert split.captions == [["one 0", "two 0"], ["one 1", "two 1"]]
    assert not len(split.labels)


def test_wrong_clip_benchmark_layouts_are_named(tmp_path: Path, home: Home) -> None:
    root = clip_benchmark(tmp_path / "wds", {"test": [[0, 1], [2]]})

    def refused(words: str, kind: type[Exception] = DataError, **fields: Any) -> None:
        with pytest.raises(kind, match=words):
            found = open_dataset(dataset("clip_benchmark", root, **fields), 8, home)
            for split in ("test", "train"):
                found.split(split)

    refused(r"no train in .*expected CLIP_benchmark's layout")
    refused("holds no validation split back", ConfigError, split="validation")
    (root / "test" / "nshards.txt").write_text("3\n")
    refused(r"no 2\.tar in .* \(found: 0\.tar, 1\.tar, nshards\.txt\); expected 3 archives \(nshards\.txt\)")
    (root / "test" / "nshards.txt").write_text("2\n")
    (root / "classnames.txt").write_text("ant\nbee\n")
    refused(r"\.cls '2'; expected a label from 0 to 1 \(classnames\.txt has 2 names\)")
    (root / "classnames.txt").unlink()
    refused(r"no classnames\.txt in")
    (root / "classnames.txt").write_text("ant\nbee\ncat\n")
    (root / "dataset_type.txt").write_text("multilabel\n")
    refused(r"mine: .*dataset_type\.txt: unknown type .* 'multilabel' \(allowed: classification, retrieval\)")
    (root / "dataset_type.txt").unlink()
    (root / "zeroshot_classification_templates.txt").unlink()
    with pytest.raises(DataError, match=r"no zeroshot_classification_templates\.txt in .*; expected CLIP_benchmark's"):
        fingerprint_dataset(dataset("clip_benchmark", root, templates="own"), home)
    (root / "test" / "1.tar").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    refused(r"data set mine: shard .*1\.tar: a Git LFS pointer instead of the archive; fetch that with `git lfs pull`")
    root = tmp_path / "nothing"
    refused(r"nothing does not exist; expected CLIP_benchmark's layout", AbsentDataError)


def test_fingerprints_follow_content_and_not_place(tmp_path: Path, home: Home) -> None:
    one = clip_benchmark(tmp_path / "one", {"test": [[0, 1], [2]]})
    two = clip_benchmark(tmp_path / "two", {"test": [[0, 1], [2]]})
    other = clip_benchmark(tmp_path / "other", {"test": [[0, 1], [1]]})
    first = fingerprint_dataset(dataset("clip_benchmark", one), home)
    assert first == fingerprint_dataset(dataset("clip_benchmark", two), home)
    assert first != fingerprint_dataset(dataset("clip_benchmark", other), home)
    (two / "classnames.txt").write_text("a\nb\nc\n")
    assert first != fingerprint_dataset(dataset("clip_benchmark", two), home)


def folders(root: Path, splits: dict[str, dict[str, int]]) -> Path:
    """Split → class folder → number of images."""
    for split, classes in splits.items():
        for label, (name, count) in enumerate(classes.items()):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                (root / split / name / f"x{i}.JPEG").write_bytes(encoded(plain(10 * label + i), "PNG"))
    return root


def test_image_folders(tmp_path: Path, home: Home) -> None:
    root = folders(tmp_path / "set", {"train": {"bee_big": 2, "n01": 1}, "val": {"bee_big": 1, "n01": 2}})
    config = dataset("image_folder", root)
    found = open_dataset(config, 8, home)
    assert found.classes == ("bee big", "n01")
    assert found.split("train").labels.tolist() == [0, 0, 1]
    split = found.split("test")
    assert split.labels.tolist() == [0, 1, 1]
    np.testing.assert_array_equal(split.images(2), plain(11))
    before = fingerprint_dataset(config, home)
    (root / "classnames.txt").write_text("bee\nwasp\n")
    assert open_dataset(config, 8, home).classes == ("bee", "wasp")
    assert fingerprint_dataset(config, home) != before
    (root / "test").mkdir()  # ImageNet's has no class folders
    assert len(open_dataset(config, 8, home).split("test")) == 3


def test_what_programs_leave_in_image_folders(tmp_path: Path, home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    root = folders(tmp_path / "set", {"train": {"big cat": 2, "n01_dog": 1}, "val": {"big cat": 1, "n01_dog": 1}})
    config = dataset("image_folder", root)
    before = fingerprint_dataset(config, home)
    image = encoded(plain(99))
    for name in (
        "train/big cat/.ipynb_checkpoints/x0-checkpoint.jpg",
        "train/__MACOSX/x.jpg",
        "train/.trash/x.jpg",
        "val/@eaDir/x.jpg",
        "val/n01_dog/@eaDir/x.jpg",
        "val/n01_dog/._x0.jpg",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(image)
    assert fingerprint_dataset(config, home) == before
    found = open_dataset(config, 8, home)
    assert found.classes == ("big cat", "n01 dog")
    assert [found.split(name).labels.tolist() for name in ("train", "test")] == [[0, 0, 1], [0, 1]]
    for suffix, format in ((".bmp", "BMP"), (".ppm", "PPM"), (".TIF", "TIFF"), (".jfif", "JPEG"), (".heic", "PNG")):
        (root / "train" / "n01_dog" / f"y{suffix}").write_bytes(encoded(plain(50), format))
    capsys.readouterr()
    assert fingerprint_dataset(config, home) != before
    assert "data set mine: left out, since such images are not read: 1 .heic in" in capsys.readouterr().err
    split = found.split("train")
    assert split.labels.tolist() == [0, 0, 1, 1, 1, 1, 1]
    assert all(abs(int(split.images(i)[0, 0, 0]) - 50) < 3 for i in range(3, 7))


def test_wrong_image_folders_are_named(tmp_path: Path, home: Home) -> None:
    root = folders(tmp_path / "set", {"train": {"a": 1, "b": 1}, "val": {"a": 1, "c": 1}})
    config = dataset("image_folder", root)
    with pytest.raises(DataError, match="class folder 'b' is not in both train and val"):
        open_dataset(config, 8, home).split("train")
    with pytest.raises(DataError, match="classes=imagenet names 1000 classes, but there are 2 folders"):
        open_dataset(dataset("image_folder", root, classes="imagenet"), 8, home)
    flat = tmp_path / "flat"
    flat.mkdir()
    (flat / "x.png").write_bytes(encoded(plain(1)))
    with pytest.raises(DataError, match=r"no class folders in .*\(found: x\.png\); expected class folders of images"):
        open_dataset(dataset("image_folder", flat), 8, home)
    with pytest.raises(DataError, match=r"data set mine: .*x\.png is no folder; expected class folders of images"):
        open_dataset(dataset("image_folder", flat / "x.png"), 8, home)
    (flat / "val").mkdir()
    (flat / "x.png").rename(flat / "val" / "ILSVRC2012_val_00000001.png")
    (flat / "test").mkdir()
    words = (
        r"no class folders in .*val \(found: ILSVRC2012_val_00000001\.png\); sort its images into one folder a class"
    )
    with pytest.raises(DataError, match=words):
        open_dataset(dataset("image_folder", flat), 8, home)


def test_lists_follow_the_order_of_the_sets_own_names(tmp_path: Path, home: Home) -> None:
    """SLIP's names of KITTI's classes are CLIP_benchmark's in another order; of CLEVR's they are other names."""
    root = clip_benchmark(tmp_path / "wds", {"test": [[0, 1, 2, 3]]})
    near, far, side, none = "nearby.", "in the distance.", "on my left or right side.", "with no car."
    own = [
        f"a photo i took of a car {side}",
        f"a photo i took with a car {near}",
        f"A photo I took with a car {far}",
        f"a photo i took {none}",
    ]
    (root / "classnames.txt").write_text("\n".join(own))
    config = dataset("clip_benchmark", root, classes="kitti_distance")
    assert [name.lower() for name in own] == list(open_dataset(config, 8, home).classes)
    before = fingerprint_dataset(config, home)
    (root / "classnames.txt").write_text("\n".join(reversed(own)))
    assert fingerprint_dataset(config, home) != before
    (root / "classnames.txt").write_text("\n".join([own[3], "a", "b", own[0]]))
    with pytest.raises(
        DataError, match=r"'a photo i took of a car on my left or right side\.' the label 2, and of the"
    ):
        open_dataset(config, 8, home)
    (root / "classnames.txt").write_text("near\nmiddle\nfar\nnone")
    assert (
        open_dataset(config, 8, home).classes[1] == f"a photo i took with a car {near}"
    )  # other names: by their place
    with pytest.raises(
        DataError, match=r"classes=pets names 37 classes, but there are 4 .*; lists of 4: kitti_distance"
    ):
        open_dataset(dataset("clip_benchmark", root, classes="pets"), 8, home)
    frames = folders(tmp_path / "frames", {"val": {"positive": 1, "negative": 2}})
    found = open_dataset(dataset("image_folder", frames, classes="rendered_sst2"), 8, home)
    assert found.classes == ("negative", "positive") and found.split("test").labels.tolist() == [0, 0, 1]


def food(root: Path) -> Path:
    """Its paper's page: images/<class>/<number>.jpg, and the splits as lists in meta/ without the ending."""
    for folder, numbers in {"apple_pie": (1005649, 134), "beef_carpaccio": (9, 23), "waffles": (7,)}.items():
        (root / "images" / folder).mkdir(parents=True)
        for number in numbers:
            (root / "images" / folder / f"{number}.jpg").write_bytes(encoded(plain(number % 100), "PNG"))
    (root / "meta").mkdir()
    (root / "meta" / "classes.txt").write_text("apple_pie\nbeef_carpaccio\nwaffles\n")
    (root / "meta" / "labels.txt").write_text("Apple pie\nBeef carpaccio\nWaffles\n")
    (root / "meta" / "train.txt").write_text("apple_pie/134\nbeef_carpaccio/9")
    (root / "meta" / "test.txt").write_text("apple_pie/1005649\nbeef_carpaccio/23\nwaffles/7\n")
    return root


def birds(root: Path) -> Path:
    """Its README: every list has the image's number first; classes are numbered from 1, and 1 means training."""
    names = ("001.Black_footed_Albatross", "002.Laysan_Albatross")
    images = [f"{names[0]}/Black_0046_18.jpg", f"{names[0]}/Black_0009_34.jpg", f"{names[1]}/Laysan_0002_1027.jpg"]
    for i, image in enumerate(images):
        (root / "images" / image).parent.mkdir(parents=True, exist_ok=True)
        (root / "images" / image).write_bytes(encoded(plain(i), "PNG"))
    (root / "classes.txt").write_text("".join(f"{i} {name}\n" for i, name in enumerate(names, 1)))
    (root / "images.txt").write_text("".join(f"{i} {image}\n" for i, image in enumerate(images, 1)))
    (root / "image_class_labels.txt").write_text("1 1\n2 1\n3 2\n")
    (root / "train_test_split.txt").write_text("1 0\n2 1\n3 0\n")
    return root


def test_food_and_birds_as_published(tmp_path: Path, home: Home) -> None:
    foods, flying = dataset("food101", food(tmp_path / "food")), dataset("cub200", birds(tmp_path / "birds"))
    found = open_dataset(foods, 8, home)
    assert found.classes == ("apple pie", "beef carpaccio", "waffles")
    assert [found.split(name).labels.tolist() for name in ("train", "test")] == [[0, 1], [0, 1, 2]]
    np.testing.assert_array_equal(found.split("test").images(1), plain(23))
    found = open_dataset(flying, 8, home)
    assert found.classes == ("Black footed Albatross", "Laysan Albatross")
    assert [found.split(name).labels.tolist() for name in ("train", "test")] == [[0], [0, 1]]
    np.testing.assert_array_equal(found.split("test").images(1), plain(2))
    assert fingerprint_dataset(foods, home) != fingerprint_dataset(flying, home)


def test_wrong_food_and_birds_are_named(tmp_path: Path, home: Home) -> None:
    foods, flying = food(tmp_path / "food"), birds(tmp_path / "birds")

    def refused(words: str, kind: str, root: Path, **fields: Any) -> None:
        with pytest.raises(DataError, match=words):
            fingerprint_dataset(dataset(kind, root, **fields), home)

    refused(
        r"classes=food101 names 101 classes, but there are 3 names in meta/classes\.txt",
        "food101",
        foods,
        classes="food101",
    )
    (foods / "meta" / "test.txt").write_text("apple_pie/1005649\nspam/1\n")
    refused(r"test\.txt has the line 'spam/1'; expected <class>/<number>", "food101", foods)
    refused(r"no meta/classes\.txt in .*; expected Food-101 as published", "food101", flying)
    (flying / "images" / "002.Laysan_Albatross" / "Laysan_0002_1027.jpg").unlink()
    refused(r"no 002\.Laysan.*jpg in .*; expected CUB-200-2011 as published", "cub200", flying)
    (flying / "image_class_labels.txt").write_text("1 1\n2 1\n3 3\n")
    refused(r"labels\.txt has the line '3 3'; expected the number of a class", "cub200", flying)
    (flying / "image_class_labels.txt").write_text("one 1\n")
    refused(r"has the line 'one 1'; expected a number, a space", "cub200", flying)


def karpathy(root: Path, filepath: bool) -> Path:
    """`dataset_coco.json` (with folders) or `dataset_flickr30k.json` (without)."""
    images = []
    for i, split in enumerate(("train", "test", "val", "test", "restval")):
        folder = root / "val2014" if filepath else root
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i}.jpg").write_bytes(encoded(plain(i)))
        sentences = [{"raw": f" caption {i}.{j} ", "tokens": [], "sentid": j} for j in range(6)]
        entry = {"filename": f"{i}.jpg", "split": split, "imgid": i, "sentences": sentences}
        images.append({**entry, **({"filepath": "val2014"} if filepath else {})})
    path = root / "dataset.json"
    path.write_text(json.dumps({"dataset": "coco", "images": images}))
    return path


@pytest.mark.parametrize("filepath", [True, False])
def test_karpathy_splits(tmp_path: Path, home: Home, filepath: bool) -> None:
    path = karpathy(tmp_path / "images", filepath)
    config = dataset("captions", tmp_path / "images", annotations=str(path), max_captions=5)
    split = open_dataset(config, 8, home).split("test")
    assert split.captions == [[f"caption {i}.{j}" for j in range(5)] for i in (1, 3)]
    np.testing.assert_array_equal(split.images(1), plain(3))
    assert fingerprint_dataset(config, home) == fingerprint_dataset(config, home)


def test_coco_captions(tmp_path: Path, home: Home) -> None:
    for i in (7, 9):
        (tmp_path / f"{i:012d}.jpg").write_bytes(encoded(plain(i)))
    images = [{"id": i, "file_name": f"{i:012d}.jpg"} for i in (9, 7)]
    notes = [{"id": n, "image_id": i, "caption": f"{i} {n}"} for n, i in ((3, 7), (1, 9), (2, 7))]
    (tmp_path / "captions_val2017.json").write_text(json.dumps({"images": images, "annotations": notes}))
    config = dataset("captions", tmp_path, annotations=str(tmp_path / "captions_val2017.json"))
    split = open_dataset(config, 8, home).split("test")
    assert split.captions == [["9 1"], ["7 2", "7 3"]]
    np.testing.assert_array_equal(split.images(0), plain(9))


def test_wrong_captions_are_named(tmp_path: Path, home: Home) -> None:
    path = karpathy(tmp_path / "images", filepath=False)

    def refused(words: str, content: Any = None, **fields: Any) -> None:
        changed = tmp_path / f"{len(list(tmp_path.iterdir()))}.json"
        changed.write_text(path.read_text() if content is None else json.dumps(content))
        with pytest.raises((DataError, ConfigError), match=words):
            config = dataset("captions", tmp_path / "images", annotations=str(changed), **fields)
            open_dataset(config, 8, home).split("test")

    refused("lacks 'images'; expected COCO captions", {"rows": []})
    refused("lacks 'split'; expected COCO captions", {"images": [{"filename": "1.jpg"}]})
    refused("names no test images", {"images": []})
    refused(r"json is a list, expected an object: COCO captions", [1])
    refused(r"holds a value of another kind \(.*\); expected COCO captions", {"images": [1]})
    refused("suite.datasets.mine.test=5, but the test split .* has 2 samples", test=5)
    (tmp_path / "images" / "3.jpg").unlink()
    refused(r"no image 3\.jpg in")
    with pytest.raises(ConfigError, match="annotations: no path is set; expected COCO captions"):
        open_dataset(dataset("captions", tmp_path / "images"), 8, home)


def asked_of(tmp_path: Path) -> dict[str, tuple[str, list[str], str]]:
    """Name → protocol, words for the plan of a study with this set, and what the plan says of it."""
    root = folders(tmp_path / "folders", {"train": {"a": 2, "b": 1}, "test": {"a": 1, "b": 1}})
    wds = clip_benchmark(tmp_path / "wds", {"train": [[0, 1], [2]], "test": [[0, 1, 2]]})
    content = {"images": [{"id": 1, "file_name": "x0.JPEG"}], "annotations": [{"id": 1, "image_id": 1, "caption": "a"}]}
    (tmp_path / "captions.json").write_text(json.dumps(content))
    labelled = [sample(i, **({"kind": "ab"[i % 2]} if i < 4 else {})) for i in range(6)]
    shard = write_shard(tmp_path / "labelled.tar", labelled)
    labels = f"{{kind: shards, task: kind, path: {shard}, test_path: {shard}, "
    pictures = f"{{kind: captions, path: {root}/test/a, annotations: {tmp_path}/captions.json"
    folder, held = f"{{kind: image_folder, path: {root}, train", f"{{kind: clip_benchmark, path: {wds}, train"
    return {
        "labels": (
            "linear_probe",
            f"{labels} train: 5}}",
            r"train=5, but the train split \(.*\) has 4 .* 'kind'",
        ),
        "test_labels": ("zero_shot", f"{labels} test: 6}}", "test=6, but the test split .* has 4 samples that have"),
        "folders": ("finetune", f"{folder}: 4}}", "train=4, but the train split .* has 3"),
        "few_shots": ("linear_probe", f"{folder}: 1}}", "1 train samples for 2 classes; raise"),
        "wds": ("linear_probe", f"{held}: 9}}", "train=9, but the train split .* has 3"),
        "captions": ("retrieval", f"{pictures}, test: 2}}", "test=2, but the test split .* has 1 samples"),
        "no_labels": ("zero_shot", f"{pictures}}}", "it has no labels, which classification needs"),
        "digits": ("linear_probe", "{kind: digits, train: 1300}", "train=1300, but the train split has 1200"),
        "shapes": ("linear_probe", "{kind: shapes, task: shape, train: 5}", "5 train samples for 8 classes"),
    }


def test_the_plan_knows_what_sets_hold(tmp_path: Path, call_ablate: Callable[..., str]) -> None:
    for folder in ("suite", "study"):
        (tmp_path / folder).mkdir()
    asked = asked_of(tmp_path)
    sets = "".join(f"  {name}: {held}\n" for name, (_, held, _) in asked.items())
    (tmp_path / "suite" / "held.yaml").write_text(f"datasets:\n{sets}protocols: {{linear_probe: [labels]}}\n")
    study = tmp_path / "study" / "held.yaml"
    for name, (protocol, _, message) in asked.items():
        study.write_text(
            "name: held\nbase: {model: tiny, data: shapes, suite: held, schedule: demo}\nseeds: [0]\n"
            f"protocols: [{protocol}]\nfactors: {{pooling: {{map: {{model.pooling: map}}}}}}\n"
        )
        words = ("plan", "held", "--config-dir", str(tmp_path), f"suite.protocols.{protocol}=[{name}]")
        with pytest.raises(AssertionError, match=f"ablate: .*data set {name}: .*{message}"):
            call_ablate(tmp_path / "home", *words)
        if name == "labels":  # without data that are asked for too much, the plan opens the set once
            call_ablate(tmp_path / "home", *words, f"suite.datasets.{name}.train=4")
            (kept,) = (tmp_path / "home" / "cache" / "sets").iterdir()
            call_ablate(tmp_path / "home", *words, f"suite.datasets.{name}.train=4")
            assert [*(tmp_path / "home" / "cache" / "sets").iterdir()] == [kept]
