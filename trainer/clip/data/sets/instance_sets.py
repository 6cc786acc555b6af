"""COCO's instances: boxes and masks of things, for detection."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ablative.study.core.errors import ConfigError, DataError
from ablative.study.core.extras import require
from ablative.study.core.typed import Settings
from ablative.trainer.clip.data.images.pictures import decode
from ablative.trainer.clip.data.images.places import locate
from ablative.trainer.clip.data.sets.evaluation import Instances
from ablative.trainer.clip.data.sets.set_files import choose, misfit, read_json, required
from ablative.trainer.clip.spec.config import DatasetConfig

COCO = (
    "COCO's folder: train2017/*.jpg, val2017/*.jpg and annotations/instances_{train2017,val2017}.json "
    "({images: [{id, file_name, height, width}], categories: [{id, name}], annotations: [{image_id, category_id, bbox, "
    "segmentation, iscrowd}]})"
)
PARTS = {"train": "train2017", "test": "val2017"}
"""Split → its name in COCO."""


class Picture(NamedTuple):
    """A file, and the pixels that it is said to have."""

    name: str
    height: int
    width: int


class Thing(NamedTuple):
    """An annotation."""

    number: str
    """Its id, for messages."""
    label: int
    box: tuple[float, float, float, float]
    outline: object
    """Polygons or run lengths."""
    crowd: bool


class CocoInstanceSet:
    """See `evaluation.EvaluationSet`; classes are the JSON's categories in the order of their numbers."""

    background: tuple[str, ...] | None = ()

    def __init__(self, dataset: DatasetConfig, image_size: int) -> None:
        """`image_size` is not read: images are as they are stored."""
        self._dataset, self._where = dataset, f"data set {dataset.name}"
        self._root = locate(dataset.path, self._where, COCO)

    @functools.cached_property
    def classes(self) -> tuple[str, ...]:
        return tuple(name for _, name in self._categories("test"))

    def split(self, name: str) -> CocoInstanceSplit:
        """`train` or `test`; raises DataError where it has no instances, or of other classes than the test split."""
        if name not in PARTS:
            raise ConfigError(f"{self._where}: no {name} split; COCO's instances have {', '.join(PARTS)}")
        source = self._json(name)
        if self._categories(name) != self._categories("test"):
            raise DataError(f"{self._where}: {source.name} has other categories than {self._json('test').name}")
        numbers = {number: i for i, (number, _) in enumerate(self._categories(name), 1)}
        try:
            pictures, things = _parsed(read_json(source, self._where, COCO), numbers)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise misfit(source, error, self._where, COCO) from None
        if not any(things):
            raise DataError(f"{self._where}: {source} has no instances, which detection needs; expected {COCO}")
        rows = choose(self._dataset, name, np.arange(len(pictures)), self._where).tolist()
        folder = required(self._root, PARTS[name], self._where, COCO)
        return CocoInstanceSplit(folder, [pictures[row] for row in rows], [things[row] for row in rows], source)

    def files(self) -> tuple[Path, list[Path], list[Path]]:
        """The root, no images (the JSONs name them), and the JSONs."""
        for name in PARTS:
            required(self._root, PARTS[name], self._where, COCO)
        return self._root, [], [self._json(name) for name in PARTS]

    def _json(self, name: str) -> Path:
        return required(self._root, f"annotations/instances_{PARTS[name]}.json", self._where, COCO)

    def _categories(self, name: str) -> list[tuple[int, str]]:
        source = self._json(name)
        content = read_json(source, self._where, COCO)
        try:
            return sorted((int(each["id"]), str(each["name"])) for each in content["categories"])
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise misfit(source, error, self._where, COCO) from None


def _parsed(content: Settings, numbers: Mapping[int, int]) -> tuple[list[Picture], list[list[Thing]]]:
    """Images of a JSON, and the things in each; `numbers`: label of a category, from 1."""
    places = {image["id"]: i for i, image in enumerate(content["images"])}
    pictures = [Picture(str(each["file_name"]), int(each["height"]), int(each["width"])) for each in content["images"]]
    things: list[list[Thing]] = [[] for _ in pictures]
    for each in content["annotations"]:
        label = numbers[each["category_id"]]
        left, top, width, height = (float(value) for value in each["bbox"])
        box, crowd = (left, top, left + width, top + height), bool(each.get("iscrowd"))
        things[places[each["image_id"]]].append(Thing(str(each.get("id")), label, box, each.get("segmentation"), crowd))
    return pictures, things


class CocoInstanceSplit:
    """See `evaluation.InstanceImages`."""

    captions = None

    def __init__(self, folder: Path, pictures: list[Picture], things: list[list[Thing]], source: Path) -> None:
        """`source`: the JSON, for messages."""
        self.labels = np.empty(0, dtype=np.int64)
        self._folder, self._pictures, self._things, self._source = folder, pictures, things, source

    def __len__(self) -> int:
        return len(self._pictures)

    def images(self, i: int) -> np.ndarray:
        """The whole image: there is no square of it that holds all things."""
        return self.picture(i)

    def masks(self, i: int) -> np.ndarray | None:
        """None: things have masks, classes have none."""
        return None

    def picture(self, i: int) -> np.ndarray:
        path = self._folder / self._pictures[i].name
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}, which {self._source.name} names") from None
        # Boxes and masks belong to the pixels as they are stored.
        return np.array(decode(content, str(path), turn=False))

    def instances(self, i: int) -> Instances:
        picture, own = self._pictures[i], self._things[i]
        masks = [self._mask(each, picture) for each in own]
        return Instances(
            np.array([each.box for each in own], dtype=np.float32).reshape(-1, 4),
            np.array([each.label for each in own], dtype=np.int64),
            np.stack(masks) if masks else np.zeros((0, picture.height, picture.width), dtype=np.uint8),
            np.array([each.crowd for each in own], dtype=bool),
        )

    def with_instances(self) -> np.ndarray:
        return np.flatnonzero([any(not each.crowd for each in own) for own in self._things])

    def _mask(self, thing: Thing, picture: Picture) -> np.ndarray:
        """uint8 (H, W) of polygons, or of COCO's run lengths, compressed or not."""
        require("detection")
        from pycocotools import mask as coco_masks

        outline, size = thing.outline, (picture.height, picture.width)
        try:
            if isinstance(outline, list) or (isinstance(outline, dict) and isinstance(outline.get("counts"), list)):
                outline = coco_masks.frPyObjects(outline, *size)
            lengths = coco_masks.merge(outline) if isinstance(outline, list) else outline
            with warnings.catch_warnings():
                # pycocotools meets NumPy 2 with a deprecated call.
                warnings.simplefilter("ignore", DeprecationWarning)
                found: np.ndarray = coco_masks.decode(lengths)
        except Exception as error:  # pycocotools raises errors of any kind on outlines that are none
            raise DataError(
                f"{self._source}: annotation {thing.number} has no readable segmentation ({error}); expected {COCO}"
            ) from error
        if found.shape != size:
            raise DataError(f"{self._source}: annotation {thing.number} has a mask of another size than its image")
        return found
