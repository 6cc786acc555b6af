"""Segmentation sets in the layouts people have: Pascal VOC, images with label PNGs (ADE20K), COCO panoptic.

All masks come out as segmentation wants them: 0 the background or what is not scored, i the i-th class, 255 ignored.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ablative.study.core.errors import ConfigError, DataError
from ablative.trainer.clip.data.images.pictures import decode_labels
from ablative.trainer.clip.data.images.places import locate
from ablative.trainer.clip.data.sets.file_split import FileSplit
from ablative.trainer.clip.data.sets.set_files import choose, images_in, misfit, read_json, read_lines, required
from ablative.trainer.clip.spec.class_sets import ClassSet, class_set
from ablative.trainer.clip.spec.config import DatasetConfig

CONTEXT = (
    "Pascal Context as mmsegmentation's converter writes it into VOC2010: JPEGImages/*.jpg, "
    "SegmentationClassContext/*.png (0 the background, 1 to 59 the classes), ImageSets/SegmentationContext/val.txt"
)
STUFF = "COCO's images (val2017) in `path` and the PNGs of stuffthingmaps (val2017) in `test_path`"
VOC = "Pascal VOC's layout: JPEGImages/*.jpg, SegmentationClass/*.png, ImageSets/Segmentation/val.txt"
MASKS = "images in `path` and a label PNG of the same name for each in `test_path` (ADE20K: annotations/validation)"
_DROPPED = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)
"""Numbers below 182 that no pixel of COCO-Stuff has: eleven things that COCO names and did not annotate."""
NO_STUFF = 254
STUFF_LABELS = np.full(256, NO_STUFF, dtype=np.uint8)
STUFF_LABELS[[number for number in range(182) if number not in _DROPPED]] = np.arange(1, 172)
STUFF_LABELS[255] = 255
SCENES = "ADEChallengeData2016's images/{training,validation}/*.jpg and annotations/{training,validation}/*.png"
_USUAL = (".jpg", ".jpeg", ".png", ".webp")
PANOPTIC = (
    "COCO's panoptic JSON ({images: [{id, file_name}], annotations: [{image_id, file_name, segments_info: "
    "[{id, category_id}]}], categories: [{id, name}]})"
)


class _MaskSet(ABC):
    """What the three have in common: image and mask files, in order, as a test split (see `evaluation`)."""

    layout: str

    def __init__(self, dataset: DatasetConfig, image_size: int) -> None:
        self._dataset, self._image_size = dataset, image_size
        self._where = f"data set {dataset.name}"
        self._pairs = self._find()
        if not self._pairs:
            raise DataError(f"{self._where}: no images with masks in {self._dataset.path}; expected {self.layout}")

    def split(self, name: str) -> FileSplit:
        """The `test` split: segmentation is zero-shot."""
        if name != "test":
            raise ConfigError(f"{self._where}: masks have a test split only")
        rows = choose(self._dataset, name, np.arange(len(self._pairs)), self._where)
        pairs = [self._pairs[row] for row in rows]
        return FileSplit([image for image, _ in pairs], self._image_size, mask=lambda i: self._mask(pairs[i][1]))

    def files(self) -> tuple[Path, list[Path], list[Path]]:
        """The root, images and masks, and what else decides."""
        found = [path for pair in self._pairs for path in pair]
        return found[0].parent, found, []

    @abstractmethod
    def _find(self) -> list[tuple[Path, Path]]:
        """Every image with its mask, in order."""

    def _mask(self, path: Path) -> np.ndarray:
        return decode_labels(_read(path), str(path))

    def _named(self, default: str) -> ClassSet:
        if not (name := self._dataset.classes or default):
            raise ConfigError(f"{self._where}: classes is not set; masks hold numbers, so name their classes (ade20k)")
        return class_set(name)


class VocSet(_MaskSet):
    """Pascal VOC 2012's segmentation, validation images; 255 marks outlines and is ignored."""

    layout = VOC
    usual, folder, listed = "voc", "SegmentationClass", "ImageSets/Segmentation/val.txt"

    def __init__(self, dataset: DatasetConfig, image_size: int) -> None:
        super().__init__(dataset, image_size)
        self.classes, self.background = (named := self._named(self.usual)).names, named.background

    def _find(self) -> list[tuple[Path, Path]]:
        where, layout = self._where, self.layout
        root = locate(self._dataset.path, where, layout)
        listed = required(root, self.listed, where, layout)
        images, masks = (required(root, name, where, layout) for name in ("JPEGImages", self.folder))
        return [
            (required(images, f"{name}.jpg", where, layout), required(masks, f"{name}.png", where, layout))
            for name in read_lines(listed)
        ]


class ContextSet(VocSet):
    """Pascal Context's 59 classes on VOC 2010's images; the rest, label 0, is not scored."""

    layout = CONTEXT
    usual, folder, listed = "pascal_context", "SegmentationClassContext", "ImageSets/SegmentationContext/val.txt"


class PngSet(_MaskSet):
    """Label PNGs of the images' names: ADE20K's scene parsing benchmark, and masks of one's own."""

    layout, usual = MASKS, ""

    def __init__(self, dataset: DatasetConfig, image_size: int) -> None:
        super().__init__(dataset, image_size)
        self.classes, self.background = (named := self._named(self.usual)).names, named.background

    def _find(self) -> list[tuple[Path, Path]]:
        images = locate(self._dataset.path, self._where, self.layout)
        return self._matching(images, locate(self._dataset.test_path, f"{self._where}: test_path", self.layout))

    def _matching(self, images: Path, masks: Path) -> list[tuple[Path, Path]]:
        """Every image of a folder with the mask of its name in another one."""
        places = [(path, path.relative_to(images).with_suffix(".png")) for path in images_in(images)]
        # Other kinds of files than these usual ones may be anything; with a mask they are images.
        places = [place for place in places if place[0].suffix.lower() in _USUAL or (masks / place[1]).exists()]
        return [(path, required(masks, str(name), self._where, self.layout)) for path, name in places]


class SceneSet(PngSet):
    """ADE20K's scene parsing benchmark with its train split, for what is trained on masks; label 0 is not scored."""

    layout, usual = SCENES, "ade20k"

    def split(self, name: str) -> FileSplit:
        """`train` or `test`, the published validation images."""
        pairs = self._pairs if name == "test" else self._training
        rows = choose(self._dataset, name, np.arange(len(pairs)), self._where)
        chosen = [pairs[row] for row in rows]
        return FileSplit([image for image, _ in chosen], self._image_size, mask=lambda i: self._mask(chosen[i][1]))

    def files(self) -> tuple[Path, list[Path], list[Path]]:
        found = [path for pair in (*self._training, *self._pairs) for path in pair]
        return locate(self._dataset.path, self._where, self.layout), found, []

    def _find(self) -> list[tuple[Path, Path]]:
        root = locate(self._dataset.path, self._where, self.layout)
        train, test = (
            self._matching(
                *(required(root, f"{kind}/{part}", self._where, SCENES) for kind in ("images", "annotations"))
            )
            for part in ("training", "validation")
        )
        self._training = train
        return test


class StuffSet(PngSet):
    """COCO-Stuff: PNGs hold the numbers of 80 things (0 to 89, with gaps) and 91 stuffs (91 to 181), 255 elsewhere."""

    layout, usual = STUFF, "coco_stuff"

    def _mask(self, path: Path) -> np.ndarray:
        numbers = super()._mask(path)
        labels = STUFF_LABELS[numbers]
        if (labels == NO_STUFF).any():
            raise DataError(
                f"{path}: number {numbers[labels == NO_STUFF].max()}, which is no thing or stuff of COCO-Stuff; "
                f"expected {self.layout}"
            )
        return labels


class PanopticSet(_MaskSet):
    """COCO panoptic as semantic masks: each segment's category, in the order of the JSON's categories (133 in COCO).

    Pixels of no segment are not scored. Names are the JSON's own, which the paper uses (supplement I.1).
    """

    layout = PANOPTIC
    background: tuple[str, ...] | None = ()

    def __init__(self, dataset: DatasetConfig, image_size: int) -> None:
        self.classes: tuple[str, ...] = ()
        self._segments: dict[str, list[tuple[int, int]]] = {}
        super().__init__(dataset, image_size)

    def files(self) -> tuple[Path, list[Path], list[Path]]:
        root, found, _ = super().files()
        return root, found, [locate(self._dataset.annotations, self._where, PANOPTIC)]

    def _find(self) -> list[tuple[Path, Path]]:
        images = locate(self._dataset.path, self._where, "the folder of the images")
        masks = locate(self._dataset.test_path, f"{self._where}: test_path", "the folder of the panoptic PNGs")
        source = locate(self._dataset.annotations, f"{self._where}: annotations", PANOPTIC)
        content = read_json(source, self._where, PANOPTIC)
        try:
            pairs = self._read(content)
        except (KeyError, TypeError, AttributeError) as error:
            raise misfit(source, error, self._where, PANOPTIC) from None
        return [
            (required(images, image, self._where, PANOPTIC), required(masks, mask, self._where, PANOPTIC))
            for image, mask in pairs
        ]

    def _read(self, content: Any) -> list[tuple[str, str]]:
        self.classes = tuple(category["name"] for category in content["categories"])
        number = {category["id"]: i for i, category in enumerate(content["categories"], 1)}
        images = {image["id"]: image["file_name"] for image in content["images"]}
        pairs = []
        for annotation in content["annotations"]:
            segments = [(item["id"], number[item["category_id"]]) for item in annotation["segments_info"]]
            self._segments[annotation["file_name"]] = segments
            pairs.append((images[annotation["image_id"]], annotation["file_name"]))
        return pairs

    def _mask(self, path: Path) -> np.ndarray:
        """uint8 (H, W) from a PNG whose colours are segment ids: R + 256 G + 65536 B (panopticapi `rgb2id`)."""
        try:
            with Image.open(path) as image:
                mode, pixels = image.mode, np.array(image)
        except Exception as error:  # as in `pictures.decode`
            raise DataError(f"{path}: no readable mask ({error})") from error
        if mode != "RGB":
            raise DataError(f"{path}: the mask has mode {mode}; expected panoptic PNGs, whose RGB is a segment's id")
        ids = pixels.astype(np.uint32) @ np.array([1, 256, 65536], dtype=np.uint32)
        mask = np.zeros(ids.shape, dtype=np.uint8)
        for segment, label in self._segments[path.name]:
            mask[ids == segment] = label
        return mask


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
