"""COCO-Amodal in both of its layouts, written here; crops by hand; and the procedural world's hidden objects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shard_world import encoded, turned

from ablative.study.core.errors import ConfigError, DataError
from ablative.study.home.paths import Home
from ablative.trainer.clip.data.images.pictures import square_around
from ablative.trainer.clip.data.sources import fingerprint_dataset, open_dataset
from ablative.trainer.clip.data.world.occlusion import HIDDEN
from ablative.trainer.clip.spec.config import DatasetConfig

PIXELS = np.arange(16 * 20 * 3, dtype=np.int64).reshape(16, 20, 3) % 251
"""Height 16, width 20."""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def dataset(root: Path, content: Any, **fields: Any) -> DatasetConfig:
    root.mkdir(exist_ok=True)
    for name in ("COCO_val2014_000000000042.jpg", "COCO_val2014_000000000073.jpg"):
        (root / name).write_bytes(encoded(PIXELS.astype(np.uint8)))
    path = root / "amodal.json"
    path.write_text(json.dumps(content))
    return DatasetConfig(**{"name": "a", "kind": "coco_amodal", "path": str(root), "annotations": str(path), **fields})


IMAGES = [{"id": i, "file_name": f"COCO_val2014_{i:012d}.jpg"} for i in (42, 73)]
WITH_CLASSES = {
    "images": IMAGES,
    "categories": [{"id": 3, "name": "car"}, {"id": 1, "name": "person"}],
    "annotations": [
        {"id": 1, "image_id": 42, "category_id": 1, "segmentation": [[4, 2, 12, 2, 12, 10, 4, 10]]},
        {"id": 2, "image_id": 42, "category_id": 3, "segmentation": [[0, 0, 1, 1], [19, 15, 18, 14]]},
        {
            "id": 3,
            "image_id": 73,
            "category_id": 3,
            "segmentation": {"counts": "x", "size": [16, 20]},
            "bbox": [0, 0, 4, 4],
        },
    ],
}
FIRST = {
    "images": IMAGES,
    "annotations": [
        {
            "image_id": 42,
            "regions": [
                {"name": " Man ", "segmentation": [4, 2, 12, 2, 12, 10, 4, 10], "isStuff": 0, "occlude_rate": 0.3},
                {"name": "grass", "segmentation": [0, 0, 19, 0, 19, 15], "isStuff": 1, "occlude_rate": 0},
            ],
        },
        {"image_id": 73, "regions": [{"name": "dog", "segmentation": [1, 1, 3, 1, 3, 5], "isStuff": 0}]},
    ],
}


def test_objects_are_cut_out_by_their_amodal_boxes(tmp_path: Path, home: Home) -> None:
    found = open_dataset(dataset(tmp_path / "c", WITH_CLASSES), 8, home)
    split = found.split("test")
    assert found.classes == ("car", "person") and split.labels.tolist() == [1, 0, 0]
    np.testing.assert_array_equal(split.images(0), PIXELS[2:10, 4:12])
    assert split.images(2).shape == (8, 8, 3)


def test_names_as_first_published(tmp_path: Path, home: Home) -> None:
    found = open_dataset(dataset(tmp_path / "c", FIRST), 8, home)
    assert found.classes == ("dog", "man"), "stuff is no object"
    assert found.split("test").labels.tolist() == [1, 0]
    np.testing.assert_array_equal(found.split("test").images(0), PIXELS[2:10, 4:12])


def test_boxes_belong_to_the_pixels_as_stored(tmp_path: Path, home: Home) -> None:
    config = dataset(tmp_path / "c", WITH_CLASSES)
    image, _ = turned()
    (tmp_path / "c" / IMAGES[0]["file_name"]).write_bytes(image)
    # Columns 4 to 12 and rows 0 to 8 of the stored image, whose left half is white.
    shown = open_dataset(config, 8, home).split("test").images(0)
    assert (shown[:, :3] > 200).all() and (shown[:, 5:] < 50).all()


def test_whole_images_go_by_their_largest_object(tmp_path: Path, home: Home) -> None:
    config = dataset(tmp_path / "c", WITH_CLASSES, task="images")
    split = open_dataset(config, 16, home).split("test")
    assert split.labels.tolist() == [0, 0]
    np.testing.assert_array_equal(split.images(0), PIXELS[:, 2:18])
    assert fingerprint_dataset(config, home)


def test_squares_by_hand() -> None:
    assert square_around((4, 2, 12, 10), 20, 16) == (4, 2, 12, 10)
    assert square_around((4, 6, 12, 8), 20, 16) == (4, 3, 12, 11)
    assert square_around((0, 6, 4, 7), 20, 16) == (0, 4.5, 4, 8.5)
    assert square_around((14, 12, 22, 14), 20, 16) == (12, 8, 20, 16), "moved inside"
    assert square_around((0, 4, 20, 6), 20, 16) == (2, 0, 18, 16), "as large as there is room"
    assert square_around((5, 5, 5, 5), 20, 16) == (4.5, 4.5, 5.5, 5.5), "never empty"


def test_wrong_layouts_are_named(tmp_path: Path, home: Home) -> None:
    def refused(words: str, content: Any, kind: type[Exception] = DataError, **fields: Any) -> None:
        with pytest.raises(kind, match=words):
            open_dataset(dataset(tmp_path / "c", content, **fields), 8, home).split("test")

    refused(r"lacks 'annotations'; expected COCO-Amodal's JSON", {"images": IMAGES})
    refused(r"lacks 3; expected", {**WITH_CLASSES, "categories": WITH_CLASSES["categories"][1:]})
    refused(r"amodal\.json is a list, expected an object: COCO-Amodal's JSON", [WITH_CLASSES])
    nameless = [{"image_id": 42, "regions": [{"name": None, "segmentation": [0, 0, 1, 1]}]}]
    refused(r"another kind \(the name null of a region of image 42\)", {"images": IMAGES, "annotations": nameless})
    packed = [{**WITH_CLASSES["annotations"][2], "bbox": None}]
    refused("run-length encoded needs its bbox", {**WITH_CLASSES, "annotations": packed})
    refused("names no objects", {"images": IMAGES, "annotations": []})
    refused("unknown task of coco_amodal 'object'; did you mean 'objects'", WITH_CLASSES, ConfigError, task="object")
    missing = [{**image, "file_name": "x.jpg"} for image in IMAGES]
    refused(r"no x\.jpg in", {**WITH_CLASSES, "images": missing})
    with pytest.raises(ConfigError, match="has a test split only"):
        open_dataset(dataset(tmp_path / "c", FIRST), 8, home).split("train")


def test_hidden_shapes_show_the_main_object_behind_grey(home: Home) -> None:
    plainly, hidden = (
        open_dataset(DatasetConfig(name="s", kind="shapes", task=task, test=30), 64, home).split("test")
        for task in ("shape", "occluded")
    )
    np.testing.assert_array_equal(plainly.labels, hidden.labels)
    for i in range(30):
        image = hidden.images(i).astype(int)
        grey = (image == image[..., :1]).all(axis=2)
        sides = [grey[:, :16], grey[:, -16:], grey[:16], grey[-16:]]
        assert max(side.mean() for side in sides) > 0.75, "most of one side of the crop is hidden"
        assert 0.25 < grey.mean() < HIDDEN + 0.1
    np.testing.assert_array_equal(hidden.images(3), hidden.images(3))
