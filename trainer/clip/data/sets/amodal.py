"""COCO-Amodal: objects that others partly hide, each with its name.

MAE-CLIP's Table 10 prints zero-shot top-1 and top-5 accuracy on it and says no more than that its objects are occluded
(supplement E). Two readings, by `task`: `objects` (the default) cuts every object out by the box around its amodal
outline, hidden parts included, and asks for its name; `images` shows whole images and asks for the name of the object
with the largest amodal box. Names are the 80 categories of COCOA-cls (Follmann et al. 2019), or those that annotators
wrote in the original (Zhu et al. 2017), distinguished by their content; there, stuff is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ablative.study.core.errors import ConfigError, DataError, unknown
from ablative.trainer.clip.data.images.places import locate
from ablative.trainer.clip.data.sets.file_split import FileSplit
from ablative.trainer.clip.data.sets.set_files import choose, misfit, read_json, required
from ablative.trainer.clip.spec.config import DatasetConfig

LAYOUT = (
    "COCO-Amodal's JSON: with classes ({images: [{id, file_name}], annotations: [{image_id, category_id, "
    "segmentation}], categories: [{id, name}]}), or as first published (annotations: [{image_id, regions: "
    "[{name, segmentation}]}]); an outline that is no polygon but run-length encoded needs its bbox beside it"
)
READINGS = ("objects", "images")
Box = tuple[float, float, float, float]


class AmodalSet:
    """See `evaluation.EvaluationSet`; it has a test split only."""

    background: tuple[str, ...] | None = None

    def __init__(self, dataset: DatasetConfig, image_size: int) -> None:
        self._dataset, self._image_size = dataset, image_size
        self._where = f"data set {dataset.name}"
        if dataset.task and dataset.task not in READINGS:
            raise ConfigError(unknown("task of coco_amodal", dataset.task, READINGS, self._where))
        self._root = locate(dataset.path, self._where, "the folder of COCO's images of 2014")
        self._json = locate(dataset.annotations, f"{self._where}: annotations", LAYOUT)
        content = read_json(self._json, self._where, LAYOUT)
        try:
            objects = list(_objects(content))
            files = {image["id"]: image["file_name"] for image in content["images"]}
            named = [(files[image], name, box) for image, name, box in objects]
        except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
            raise misfit(self._json, error, self._where, LAYOUT) from None
        if not named:
            raise DataError(f"{self._where}: {self._json} names no objects; expected {LAYOUT}")
        self._objects = named if dataset.task != "images" else list(_largest(named))
        self.classes = tuple(sorted({name for _, name, _ in named}))

    def split(self, name: str) -> FileSplit:
        """`test`; raises DataError where the first of its images is missing."""
        if name != "test":
            raise ConfigError(f"{self._where}: coco_amodal has a test split only")
        rows = choose(self._dataset, name, np.arange(len(self._objects)), self._where)
        chosen = [self._objects[row] for row in rows]
        required(self._root, chosen[0][0], self._where, LAYOUT)
        number = {name: i for i, name in enumerate(self.classes)}
        labels = np.array([number[name] for _, name, _ in chosen], dtype=np.int64)
        boxes = None if self._dataset.task == "images" else [box for _, _, box in chosen]
        return FileSplit([self._root / file for file, _, _ in chosen], self._image_size, labels, boxes=boxes)

    def files(self) -> tuple[Path, list[Path], list[Path]]:
        """The root, no images (the JSON names them), and the JSON."""
        self.split("test")
        return self._root, [], [self._json]


def _objects(content: Any) -> Iterator[tuple[Any, str, Box]]:
    """Image id, name and amodal box of every object."""
    names = {category["id"]: category["name"] for category in content.get("categories", ())}
    for annotation in content["annotations"]:
        if "regions" not in annotation:
            yield annotation["image_id"], names[annotation["category_id"]], _box(annotation)
            continue
        for region in annotation["regions"]:
            if not region.get("isStuff"):
                if not isinstance(name := region["name"], str):
                    raise TypeError(f"the name {json.dumps(name)} of a region of image {annotation['image_id']}")
                yield annotation["image_id"], name.strip().lower(), _box(region)


def _box(region: Any) -> Box:
    """Left, top, right and bottom of an amodal outline: polygons, or the box of one that is run-length encoded."""
    outline = region["segmentation"]
    if isinstance(outline, dict):
        left, top, width, height = region["bbox"]
        return left, top, left + width, top + height
    # One polygon, as first published, or several.
    parts = outline if isinstance(outline[0], list) else [outline]
    points = np.concatenate([np.asarray(part, dtype=np.float64).reshape(-1, 2) for part in parts])
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    return float(left), float(top), float(right), float(bottom)


def _largest(objects: list[tuple[str, str, Box]]) -> Iterator[tuple[str, str, Box]]:
    """The object with the largest box in each image."""
    best: dict[str, tuple[str, str, Box]] = {}
    for one in objects:
        if one[0] not in best or _area(one[2]) > _area(best[one[0]][2]):
            best[one[0]] = one
    yield from best.values()


def _area(box: Box) -> float:
    left, top, right, bottom = box
    return (right - left) * (bottom - top)
