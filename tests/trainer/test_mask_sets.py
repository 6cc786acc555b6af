"""Pascal VOC, ADE20K and COCO panoptic, written here in exactly those layouts, and scored with their class lists."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from protocol_fakes import representation
from shard_world import encoded, plain, turned

from ablative.study.core.errors import ConfigError, DataError
from ablative.study.home.paths import Home
from ablative.trainer.clip.data.sets.evaluation import EvaluationSet, WholeImages
from ablative.trainer.clip.data.sources import fingerprint_dataset, open_dataset
from ablative.trainer.clip.protocols.evaluation import Evaluation
from ablative.trainer.clip.protocols.parts.masks import background_names
from ablative.trainer.clip.protocols.segmentation import prompt_groups, segmentation
from ablative.trainer.clip.spec.class_sets import class_set
from ablative.trainer.clip.spec.config import DatasetConfig, ProtocolConfig

LABELS = np.arange(64, dtype=np.uint8).reshape(8, 8) % 21


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def voc(root: Path) -> DatasetConfig:
    """Three images of which two are in the validation list; masks are palette PNGs with 255 on outlines."""
    for name in ("2007_000033", "2007_000042", "2007_000061"):
        write(root / "JPEGImages" / f"{name}.jpg", encoded(plain(int(name[-2:])), "JPEG", quality=100))
    outlined = LABELS.copy()
    outlined[0] = 255
    for name, labels in (("2007_000042", LABELS), ("2007_000061", outlined)):
        mask = Image.fromarray(labels).convert("P")
        mask.putpalette([i for n in range(256) for i in (n, 255 - n, n // 2)])
        (root / "SegmentationClass").mkdir(exist_ok=True)
        mask.save(root / "SegmentationClass" / f"{name}.png")
    write(root / "ImageSets" / "Segmentation" / "val.txt", b"2007_000061\n2007_000042\n")
    return DatasetConfig(name="voc", kind="voc", path=str(root), classes="voc")


def ade20k(root: Path) -> DatasetConfig:
    for number in (1, 2):
        write(root / "images" / "validation" / f"ADE_val_0000000{number}.jpg", encoded(plain(number), "PNG"))
        mask = np.full((8, 8), 150 * (number - 1), dtype=np.uint8)
        write(root / "annotations" / "validation" / f"ADE_val_0000000{number}.png", _grey(mask))
    paths = {"path": str(root / "images/validation"), "test_path": str(root / "annotations/validation")}
    return DatasetConfig(name="ade", kind="masks", classes="ade20k", **paths)


def _grey(labels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(labels).save(buffer, "PNG")
    return buffer.getvalue()


def panoptic(root: Path) -> DatasetConfig:
    """One image with a person (category 1), a wall (category 199) and pixels of neither."""
    write(root / "val2017" / "000000000139.jpg", encoded(plain(3), "JPEG"))
    ids = np.zeros((8, 8), dtype=np.uint32)
    ids[:4], ids[4:6] = 3226956, 70000
    colours = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
    write(root / "panoptic_val2017" / "000000000139.png", encoded(colours))
    segments = [{"id": 3226956, "category_id": 1, "area": 32}, {"id": 70000, "category_id": 199, "area": 16}]
    content = {
        "images": [{"id": 139, "file_name": "000000000139.jpg", "height": 8, "width": 8}],
        "annotations": [{"image_id": 139, "file_name": "000000000139.png", "segments_info": segments}],
        "categories": [
            {"id": 1, "name": "person", "isthing": 1},
            {"id": 199, "name": "wall-other-merged", "isthing": 0},
        ],
    }
    (root / "panoptic_val2017.json").write_text(json.dumps(content))
    paths = {"path": "val2017", "test_path": "panoptic_val2017", "annotations": "panoptic_val2017.json"}
    return DatasetConfig(name="coco", kind="panoptic", **{key: str(root / value) for key, value in paths.items()})


def coco_stuff(root: Path) -> DatasetConfig:
    """An image of 30 × 20 pixels with a person (number 0), a brush (89), wood (181) and what has no label."""
    write(root / "val2017" / "000000000139.jpg", encoded(np.full((20, 30, 3), 90, np.uint8), "JPEG"))
    numbers = np.repeat(np.array([0, 89, 181, 255], np.uint8), 5)[:, None].repeat(30, axis=1)
    write(root / "stuffthingmaps" / "val2017" / "000000000139.png", _grey(numbers))
    paths = {"path": str(root / "val2017"), "test_path": str(root / "stuffthingmaps/val2017")}
    return DatasetConfig(name="stuff", kind="coco_stuff", short_side=40, **paths)


def pascal_context(root: Path) -> DatasetConfig:
    """Two images of VOC 2010, one of them in the validation list: an upright one, with the last class at its end."""
    for name in ("2008_000002", "2008_000003"):
        write(root / "JPEGImages" / f"{name}.jpg", encoded(np.full((64, 40, 3), 90, np.uint8), "JPEG"))
    labels = np.arange(64, dtype=np.uint8)[:, None].repeat(40, axis=1) % 60
    write(root / "SegmentationClassContext" / "2008_000003.png", _grey(labels))
    write(root / "ImageSets" / "SegmentationContext" / "val.txt", b"2008_000003\n")
    return DatasetConfig(name="context", kind="pascal_context", path=str(root), short_side=48, long_side=64)


def test_voc(tmp_path: Path, home: Home) -> None:
    found: EvaluationSet = open_dataset(voc(tmp_path / "VOC2012"), 8, home)
    assert (len(found.classes), found.classes[0], found.classes[19]) == (20, "aeroplane", "television monitor")
    split = found.split("test")
    assert len(split) == 2
    masks = [split.masks(i) for i in range(2)]
    assert masks[0] is not None and masks[1] is not None
    assert (masks[0][0] == 255).all()
    np.testing.assert_array_equal(masks[0][1:], LABELS[1:])
    np.testing.assert_array_equal(masks[1], LABELS)
    assert abs(split.images(1).astype(int) - plain(42)).max() <= 2


def test_ade20k(tmp_path: Path, home: Home) -> None:
    found = open_dataset(ade20k(tmp_path), 8, home)
    assert (len(found.classes), found.classes[149]) == (150, "flag, flags")
    assert found.background == ()
    masks = [found.split("test").masks(i) for i in range(2)]
    assert [int(mask.max()) for mask in masks if mask is not None] == [0, 150]


def test_panoptic(tmp_path: Path, home: Home) -> None:
    config = panoptic(tmp_path)
    found = open_dataset(config, 8, home)
    assert (found.classes, found.background) == (("person", "wall-other-merged"), ())
    mask = found.split("test").masks(0)
    assert mask is not None
    assert mask[:, 0].tolist() == [1, 1, 1, 1, 2, 2, 0, 0]
    first = fingerprint_dataset(config, home)
    source = tmp_path / "panoptic_val2017.json"
    source.write_text(source.read_text().replace("wall-other", "wall-brick"))
    assert fingerprint_dataset(config, home) != first


def test_coco_stuff_and_pascal_context(tmp_path: Path, home: Home) -> None:
    stuff = open_dataset(coco_stuff(tmp_path), 8, home)
    assert (len(stuff.classes), stuff.background) == (171, ())
    split = stuff.split("test")
    assert isinstance(split, WholeImages)
    assert split.whole(0, 40, 0).shape == (40, 60, 3) and split.whole(0, 40, 30).shape == (20, 30, 3)
    mask = split.whole_mask(0)
    assert mask is not None and mask[::5, 0].tolist() == [1, 80, 171, 255]
    assert [stuff.classes[i - 1] for i in (1, 80, 171)] == ["person", "toothbrush", "wood"]
    write(tmp_path / "stuffthingmaps" / "val2017" / "000000000139.png", _grey(np.full((20, 30), 11, np.uint8)))
    with pytest.raises(DataError, match=r"number 11, which is no thing or stuff of COCO-Stuff; expected COCO's images"):
        split.masks(0)
    context = open_dataset(pascal_context(tmp_path / "VOC2010"), 8, home)
    assert (len(context.classes), context.classes[0], context.classes[58]) == (59, "airplane", "wood")
    found = context.split("test")
    assert isinstance(found, WholeImages) and len(found) == 1
    assert found.whole(0, 48, 64).shape == (64, 40, 3), "the longer side is 64 at most"


def test_wrong_layouts_are_named(tmp_path: Path, home: Home) -> None:
    def refused(config: DatasetConfig, words: str) -> None:
        with pytest.raises((DataError, ConfigError), match=words):
            open_dataset(config, 8, home).split("test").masks(0)

    config = voc(tmp_path / "voc")
    (tmp_path / "voc" / "SegmentationClass" / "2007_000042.png").unlink()
    refused(config, r"no 2007_000042\.png in .* expected Pascal VOC's layout")
    (tmp_path / "voc" / "ImageSets" / "Segmentation" / "val.txt").unlink()
    refused(config, r"no ImageSets/Segmentation/val\.txt in .* expected Pascal VOC's layout")
    ade = ade20k(tmp_path / "ade")
    refused(DatasetConfig(name="ade", kind="masks", path=ade.path, test_path=ade.test_path), "classes is not set")
    (tmp_path / "ade" / "annotations" / "validation" / "ADE_val_00000002.png").unlink()
    refused(ade, r"no ADE_val_00000002\.png in .*a label PNG of the same name")
    coco = panoptic(tmp_path / "coco")
    write(tmp_path / "coco" / "panoptic_val2017" / "000000000139.png", _grey(LABELS))
    refused(coco, "the mask has mode L; expected panoptic PNGs")
    (tmp_path / "coco" / "panoptic_val2017.json").write_text('{"images": [], "annotations": []}')
    refused(coco, "lacks 'categories'; expected COCO's panoptic JSON")
    (tmp_path / "coco" / "panoptic_val2017.json").write_text("[]")
    refused(coco, "is a list, expected an object: COCO's panoptic JSON")
    (tmp_path / "empty").mkdir()
    empty = DatasetConfig(
        name="e", kind="masks", classes="ade20k", path=str(tmp_path / "empty"), test_path=ade.test_path
    )
    refused(empty, r"data set e: no images with masks in .*empty; expected images in `path` and a label PNG")


def test_masks_belong_to_the_pixels_as_stored(tmp_path: Path, home: Home) -> None:
    image, labels = turned()
    write(tmp_path / "images" / "a.jpg", image)
    write(tmp_path / "masks" / "a.png", _grey(labels))
    paths = {"path": str(tmp_path / "images"), "test_path": str(tmp_path / "masks")}
    split = open_dataset(DatasetConfig(name="m", kind="masks", classes="ade20k", **paths), 4, home).split("test")
    mask = split.masks(0)
    assert mask is not None and mask.tolist() == [[1, 1, 0, 0]] * 4
    np.testing.assert_array_equal(split.images(0)[..., 0] > 128, mask == 1)
    write(tmp_path / "masks" / "a.png", _grey(labels.T))
    with pytest.raises(DataError, match=r"a\.jpg: the mask has 8 × 16 pixels and its image 16 × 8 \(as stored"):
        split.masks(0)


def test_prompt_lists_of_the_supplement() -> None:
    names, ade = class_set("voc"), class_set("ade20k")
    assert names.background is not None
    assert (len(names.names), len(names.background), len(ade.names)) == (20, 40, 150)
    assert (names.background[0], names.background[-1]) == ("background", "wood")
    prompts, groups = prompt_groups(", ".join(names.background), names.names)
    assert len(prompts) == 60 and len(groups) == 21
    prompts, groups = prompt_groups("", ade.names)
    assert not groups[0]
    assert [prompts[i] for i in groups[3]] == ["sky", "clouds"]
    assert len(class_set("imagenet").names) == len(set(class_set("imagenet").names)) + 2  # missiles and sunglasses
    with pytest.raises(ConfigError, match="unknown classes 'vok'; did you mean 'voc'"):
        class_set("vok")


def test_background_names_of_the_set_go_first() -> None:
    protocol = ProtocolConfig(name="s", kind="segmentation", background=True, background_names="sky")
    assert background_names(protocol, None) == "sky"
    assert background_names(protocol, ("wall", "floor")) == "wall, floor"
    assert background_names(protocol, ()) == ""


DENSE = ProtocolConfig(name="dense", kind="segmentation", patch_features="values", stride=0.5, background=False)


@pytest.mark.parametrize("make", [voc, ade20k, panoptic, coco_stuff, pascal_context])
def test_a_model_is_scored_on_each(tmp_path: Path, home: Home, make: Any) -> None:
    """Windows have 32 pixels: the images are 8 × 8, 40 × 60 and 40 × 64 of them wide or high."""
    config = make(tmp_path / "set")
    dense = make in (coco_stuff, pascal_context)
    protocol = ProtocolConfig(name="segmentation", kind="segmentation", prompt="a photo of {a} {}")
    dataset = open_dataset(config, 32, home)
    model = representation(tmp_path, pooling="gap", class_token=True) if dense else representation(tmp_path)
    evaluation = Evaluation(DENSE if dense else protocol, config, dataset, model, fingerprint_dataset(config, home))
    ((name, value),) = segmentation(evaluation)
    assert name == "miou" and 0 <= value <= 100
