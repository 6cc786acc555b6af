"""Image sets whose publishers list the images of each split in text files: Food-101, and Caltech-UCSD Birds 200.

food-101/meta/{classes,train,test}.txt   a class, or `<class>/<number>`, a line; images/<class>/<number>.jpg

CUB_200_2011/classes.txt                 `<class number from 1> <folder>` a line
CUB_200_2011/images.txt                  `<image number> <folder>/<file>`; images/<folder>/<file>
CUB_200_2011/image_class_labels.txt      `<image number> <class number>`
CUB_200_2011/train_test_split.txt        `<image number> <1: train, 0: test>`
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np

from ablative.study.core.errors import ConfigError, DataError
from ablative.trainer.clip.data.images.places import locate
from ablative.trainer.clip.data.sets.file_split import FileSplit
from ablative.trainer.clip.data.sets.set_files import choose, read_lines, required
from ablative.trainer.clip.spec.class_sets import names_in_order
from ablative.trainer.clip.spec.config import DatasetConfig

FOOD = "Food-101 as published: meta/classes.txt, meta/train.txt, meta/test.txt, images/<class>/*.jpg"
BIRDS = (
    "CUB-200-2011 as published: classes.txt, images.txt, image_class_labels.txt, train_test_split.txt, "
    "images/<class>/*.jpg"
)


class _ListedSet(ABC):
    """See `evaluation.EvaluationSet`."""

    background: tuple[str, ...] | None = None
    layout: str
    lists: tuple[str, ...]
    """The text files that say what the classes (the first) and the splits are."""

    def __init__(self, dataset: DatasetConfig, image_size: int) -> None:
        """Raises AbsentDataError where there is no such folder, and DataError for another layout."""
        self._dataset, self._image_size = dataset, image_size
        self._where = f"data set {dataset.name}"
        if dataset.task or dataset.annotations:
            raise ConfigError(
                f"{self._where}: {dataset.kind} takes neither task nor annotations; expected {self.layout}"
            )
        self._root = locate(dataset.path, self._where, self.layout)
        own = self._names()
        given = dataset.classes
        self.classes = names_in_order(given, own, self._where, f"names in {self.lists[0]}") if given else own

    @abstractmethod
    def _names(self) -> tuple[str, ...]:
        """The set's own class names, in the order of its labels."""

    @abstractmethod
    def _listed(self, split: str) -> list[tuple[str, int]]:
        """Path below images/ and label of every image of a split."""

    def split(self, name: str) -> FileSplit:
        """`train` or `test`; raises DataError where a list has a line of another form."""
        listed = self._listed(name)
        if not listed:
            raise DataError(f"{self._where}: its lists name no {name} images; expected {self.layout}")
        rows = choose(self._dataset, name, np.arange(len(listed)), self._where)
        images = [self._root / "images" / listed[row][0] for row in rows]
        return FileSplit(images, self._image_size, np.array([listed[row][1] for row in rows], dtype=np.int64))

    def files(self) -> tuple[Path, list[Path], list[Path]]:
        """The root, the images of both splits, and the lists."""
        images = [
            required(self._root / "images", path, self._where, self.layout)
            for split in ("train", "test")
            for path, _ in self._listed(split)
        ]
        return self._root, images, [self._root / name for name in self.lists]

    def _lines(self, name: str) -> list[str]:
        return read_lines(required(self._root, name, self._where, self.layout))

    def _wrong(self, name: str, line: str, expected: str) -> DataError:
        return DataError(f"{self._where}: {self._root / name} has the line '{line[:80]}'; expected {expected}")


class FoodSet(_ListedSet):
    """Food-101."""

    layout = FOOD
    lists = ("meta/classes.txt", "meta/train.txt", "meta/test.txt")

    def _names(self) -> tuple[str, ...]:
        return tuple(name.replace("_", " ") for name in self._folders)

    @functools.cached_property
    def _folders(self) -> list[str]:
        return self._lines(self.lists[0])

    def _listed(self, split: str) -> list[tuple[str, int]]:
        label = {folder: number for number, folder in enumerate(self._folders)}
        found, name = [], f"meta/{split}.txt"
        for line in self._lines(name):
            folder = line.rpartition("/")[0]
            if folder not in label:
                raise self._wrong(name, line, f"<class>/<number>, with a class of {self.lists[0]}")
            found.append((f"{line}.jpg", label[folder]))
        return found


class BirdSet(_ListedSet):
    """Caltech-UCSD Birds 200, 2011."""

    layout = BIRDS
    lists = ("classes.txt", "images.txt", "image_class_labels.txt", "train_test_split.txt")

    def _names(self) -> tuple[str, ...]:
        folders = self._numbered(self.lists[0])
        if list(folders) != list(range(1, len(folders) + 1)):
            raise DataError(
                f"{self._where}: {self.lists[0]} does not number the classes from 1; expected {self.layout}"
            )
        return tuple(folder.partition(".")[2].replace("_", " ") for folder in folders.values())

    def _listed(self, split: str) -> list[tuple[str, int]]:
        classes = len(self._numbered(self.lists[0]))
        labels, parts = self._numbered("image_class_labels.txt"), self._numbered("train_test_split.txt")
        found = []
        for number, path in self._numbered("images.txt").items():
            label, part = labels.get(number, ""), parts.get(number, "")
            if not (label.isdecimal() and 1 <= int(label) <= classes):
                raise self._wrong("image_class_labels.txt", f"{number} {label}", "the number of a class for each image")
            if part not in ("0", "1"):
                raise self._wrong("train_test_split.txt", f"{number} {part}", "1 (train) or 0 (test) for each image")
            if (part == "1") == (split == "train"):
                found.append((path, int(label) - 1))
        return found

    def _numbered(self, name: str) -> dict[int, str]:
        """What a list has for each number."""
        if name not in self._read:
            self._read[name] = dict(self._pair(name, line) for line in self._lines(name))
        return self._read[name]

    @functools.cached_property
    def _read(self) -> dict[str, dict[int, str]]:
        return {}

    def _pair(self, name: str, line: str) -> tuple[int, str]:
        number, _, rest = line.partition(" ")
        if not number.isdecimal():
            raise self._wrong(name, line, "a number, a space and what belongs to it")
        return int(number), rest.strip()
