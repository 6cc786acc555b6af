"""Evaluation sets of plain image files: class folders, and images with a JSON of captions.

Class folders are torchvision's `ImageFolder` layout; captions are COCO's own JSON (`captions_val2017.json`) or
Karpathy's split (`dataset_coco.json`, `dataset_flickr30k.json`), distinguished by their content.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ablative.study.core.errors import ConfigError, DataError
from ablative.trainer.clip.data.images.image_files import is_visible, unread, visible_files
from ablative.trainer.clip.data.images.places import locate
from ablative.trainer.clip.data.sets.file_split import FileSplit
from ablative.trainer.clip.data.sets.set_files import (
    choose,
    images_in,
    listing,
    misfit,
    read_json,
    read_lines,
    required,
)
from ablative.trainer.clip.data.shards.captions import captions_of
from ablative.trainer.clip.data.shards.shard_files import say
from ablative.trainer.clip.spec.class_sets import names_in_order
from ablative.trainer.clip.spec.config import DatasetConfig

FOLDERS = "class folders of images: train/<class>/*.jpg and test/<class>/*.jpg (or val/)"
CAPTIONS = (
    "COCO captions ({images: [{id, file_name}], annotations: [{image_id, caption}]}) or Karpathy's split "
    "({images: [{filename, split, sentences: [{raw}]}]})"
)
CLASSNAMES = "classnames.txt"
"""File in the folder of train/ and test/: a name a line for the sorted class folders (ImageNet's are WordNet ids)."""


class FolderSet:
    """A folder for each class (see `evaluation.EvaluationSet`); classes are the test split's folders, sorted."""

    background: tuple[str, ...] | None = None

    def __init__(self, dataset: DatasetConfig, image_size: int) -> None:
        self._dataset, self._image_size = dataset, image_size
        self._where = f"data set {dataset.name}"
        self._root = locate(dataset.path, self._where, FOLDERS)
        self._folders = [path.name for path in _class_folders(self._test())]
        self.classes = self._names()

    def split(self, name: str) -> FileSplit:
        """`train` or `test`; raises DataError where its class folders are others than the test split's."""
        root = self._test() if name == "test" else required(self._root, name, self._where, FOLDERS)
        folders = _class_folders(root)
        if [path.name for path in folders] != self._folders:
            odd = sorted({path.name for path in folders} ^ set(self._folders))
            raise DataError(f"{self._where}: class folder '{odd[0]}' is not in both train and {self._test().name}")
        images, labels = [], []
        for label, folder in enumerate(folders):
            own = images_in(folder)
            images += own
            labels += [label] * len(own)
        if not images:
            raise DataError(f"{self._where}: no images in {root}; expected {FOLDERS}")
        rows = choose(self._dataset, name, np.arange(len(images)), self._where)
        return FileSplit([images[row] for row in rows], self._image_size, np.array(labels, dtype=np.int64)[rows])

    def files(self) -> tuple[Path, list[Path], list[Path]]:
        """The root, its images, and the class names if they lie in a file."""
        roots = [self._test(), *([self._root / "train"] if (self._root / "train").is_dir() else [])]
        if odd := unread(path for root in roots for path in visible_files(root)):
            say(f"{self._where}: left out, since such images are not read: {odd} in {self._root}")
        names = [self._root / CLASSNAMES] if (self._root / CLASSNAMES).is_file() else []
        return self._root, [path for root in roots for path in images_in(root)], names

    def _test(self) -> Path:
        """`test` or, where that has no class folders (ImageNet's has none), `val`."""
        for name in ("test", "val"):
            if _class_folders(self._root / name):
                return self._root / name
        if not self._root.is_dir():
            raise DataError(f"{self._where}: {self._root} is no folder; expected {FOLDERS}")
        for name in ("val", "test"):
            if images_in(self._root / name):
                raise DataError(
                    f"{self._where}: no class folders in {self._root / name} (found: {listing(self._root / name)}); "
                    f"sort its images into one folder a class; expected {FOLDERS}"
                )
        found = listing(self._root)
        raise DataError(
            f"{self._where}: no class folders in {self._root}/test or /val (found: {found}); expected {FOLDERS}"
        )

    def _names(self) -> tuple[str, ...]:
        listed = self._root / CLASSNAMES
        if self._dataset.classes:
            return names_in_order(self._dataset.classes, self._folders, self._where, "folders")
        if not listed.is_file():
            return tuple(name.replace("_", " ") for name in self._folders)
        names = tuple(read_lines(listed))
        if len(names) != len(self._folders):
            raise DataError(
                f"{self._where}: {CLASSNAMES} names {len(names)} classes, but there are {len(self._folders)} folders"
            )
        return names


class CaptionSet:
    """Images with captions in a JSON (see `evaluation.EvaluationSet`)."""

    classes: tuple[str, ...] = ()
    background: tuple[str, ...] | None = None

    def __init__(self, dataset: DatasetConfig, image_size: int) -> None:
        self._dataset, self._image_size = dataset, image_size
        self._where = f"data set {dataset.name}"
        self._root = locate(dataset.path, self._where, "the folder of the images")
        self._json = locate(dataset.annotations, f"{self._where}: annotations", CAPTIONS)

    def split(self, name: str) -> FileSplit:
        """`test` (of COCO's own JSON all images); raises DataError where images or captions are missing."""
        if name != "test":
            raise ConfigError(f"{self._where}: captions have a test split only")
        content = read_json(self._json, self._where, CAPTIONS)
        try:
            pairs = _karpathy(content) if "annotations" not in content else _coco(content)
        except (KeyError, TypeError, AttributeError) as error:
            raise misfit(self._json, error, self._where, CAPTIONS) from None
        if not pairs:
            raise DataError(f"{self._where}: {self._json} names no test images; expected {CAPTIONS}")
        rows = choose(self._dataset, name, np.arange(len(pairs)), self._where)
        images = [self._image(pairs[row][0]) for row in rows]
        limit = self._dataset.max_captions or None
        return FileSplit(images, self._image_size, captions=[pairs[row][1][:limit] for row in rows])

    def files(self) -> tuple[Path, list[Path], list[Path]]:
        """The root, no images (the JSON names them), and the JSON."""
        self._image(self.first_image())
        return self._root, [], [self._json]

    def first_image(self) -> tuple[str, ...]:
        """Names under which the first test image may lie."""
        content = read_json(self._json, self._where, CAPTIONS)
        try:
            return (_karpathy(content) if "annotations" not in content else _coco(content))[0][0]
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise misfit(self._json, error, self._where, CAPTIONS) from None

    def _image(self, names: tuple[str, ...]) -> Path:
        for name in names:
            if (self._root / name).is_file():
                return self._root / name
        raise DataError(f"{self._where}: no image {' or '.join(names)} in {self._root}, which {self._json.name} names")


def _coco(content: Any) -> list[tuple[tuple[str, ...], list[str]]]:
    """Names under which each image may lie, and its captions."""
    captions: dict[Any, list[str]] = {image["id"]: [] for image in content["images"]}
    for annotation in sorted(content["annotations"], key=lambda item: item["id"]):
        captions[annotation["image_id"]] += captions_of(annotation["caption"])
    return [((image["file_name"],), captions[image["id"]]) for image in content["images"] if captions[image["id"]]]


def _karpathy(content: Any) -> list[tuple[tuple[str, ...], list[str]]]:
    pairs: list[tuple[tuple[str, ...], list[str]]] = []
    for image in content["images"]:
        if image["split"] == "test":
            name = image["filename"]
            names = (f"{image['filepath']}/{name}", name) if "filepath" in image else (name,)
            pairs.append((names, captions_of([sentence["raw"] for sentence in image["sentences"]])))
    return pairs


def _class_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and is_visible(path.name))
