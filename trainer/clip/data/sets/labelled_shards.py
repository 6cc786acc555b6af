"""Evaluation sets in WebDataset shards: labels and captions from the JSON, masks in files of the sample.

Masks are `.seg.png`, a map of labels (0 background, i the i-th class, 255 ignored), or `.mask.png`, a bitmap that is
not zero where the sample's labelled object is. Class names come from the labels; a set without labels takes them
from a `classes.json` (a list of names) in the folder of its test shards.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np

from ablative.study.core.errors import ConfigError, DataError, UnfitDataError, unknown
from ablative.study.home.paths import Home
from ablative.trainer.clip.data.images.pictures import check_mask, decode, decode_labels, resize, resize_labels
from ablative.trainer.clip.data.sets.set_files import choose
from ablative.trainer.clip.data.shards.captions import all_captions, check_caption
from ablative.trainer.clip.data.shards.shard_files import ShardFiles, say
from ablative.trainer.clip.data.shards.shard_paths import find_shards
from ablative.trainer.clip.spec.config import DatasetConfig

CLASSES = "classes.json"
_IGNORED = 255
_LABELS, _BITMAP = "seg.png", "mask.png"


class ShardSet:
    """Shards as an evaluation set (see `evaluation.EvaluationSet`).

    With a `task`, samples whose JSON has no such key are left out, the classes are the labels that the train
    split (without one, the test split) holds, and test samples of other classes are left out, as a note says.
    `train` and `test` take a fixed random subset of what remains.
    """

    def __init__(self, dataset: DatasetConfig, image_size: int, home: Home) -> None:
        """
        Raises:
            ConfigError: no test shards named.
            UnfitDataError: no such JSON key, or more samples wanted than there are.
            DataError: no such shards, or one of them is unusable.
        """
        self._dataset, self._image_size = dataset, image_size
        self._where = f"data set {dataset.name}"
        if not dataset.test_path:
            raise ConfigError(f"{self._where}: test_path is not set; name the shards of the test split")
        paths = find_shards(dataset.test_path, self._where)
        test = ShardFiles(paths, home, self._where)
        train = ShardFiles(find_shards(dataset.path, self._where), home, self._where) if dataset.path else None
        self._splits: dict[str, ShardSplit] = {}
        self.notes: tuple[str, ...] = ()
        """What was left out, in words."""
        self.classes: tuple[str, ...] = ()
        self.background: tuple[str, ...] | None = None
        if dataset.task:
            self._label(train, test)
        else:
            self.classes = listed_classes(paths[0].parent / CLASSES)
            if train is not None:
                self._add("train", train, np.arange(len(train)))
            self._add("test", test, np.arange(len(test)))

    def split(self, name: str) -> ShardSplit:
        """`train` or `test`; raises ConfigError where there are no training shards."""
        if name not in self._splits:
            raise ConfigError(f"{self._where}: no {name} split; `path` names its shards")
        return self._splits[name]

    def _label(self, train: ShardFiles | None, test: ShardFiles) -> None:
        test_labels = self._labels(test)
        if train is None:
            self.classes = _sorted_classes({label for label in test_labels if label})
        else:
            labels = self._labels(train)
            rows = choose(self._dataset, "train", np.flatnonzero([bool(label) for label in labels]), self._where)
            self.classes = _sorted_classes({labels[row] for row in rows})
            self._add_labelled("train", train, rows, labels)
        seen = set(self.classes)
        labelled = sum(bool(label) for label in test_labels)
        rows = np.flatnonzero([label in seen for label in test_labels])
        if labelled > len(rows):
            note = f"{self._where}: {labelled - len(rows)} of {labelled} test samples are of classes not in train"
            self.notes += (f"{note}; they are left out",)
            say(self.notes[-1])
        self._add_labelled("test", test, choose(self._dataset, "test", rows, self._where), test_labels)

    def _labels(self, files: ShardFiles) -> list[str]:
        """Label of every sample, "" where it has none."""
        check_label(files, self._dataset.task, self._where)
        return [_label(files, i, self._dataset.task) for i in range(len(files))]

    def _add_labelled(self, name: str, files: ShardFiles, rows: np.ndarray, labels: list[str]) -> None:
        number = {label: i for i, label in enumerate(self.classes)}
        self._splits[name] = self._split(files, rows, np.array([number[labels[row]] for row in rows], dtype=np.int64))

    def _add(self, name: str, files: ShardFiles, rows: np.ndarray) -> None:
        self._splits[name] = self._split(
            files, choose(self._dataset, name, rows, self._where), np.empty(0, dtype=np.int64)
        )

    def _split(self, files: ShardFiles, rows: np.ndarray, labels: np.ndarray) -> ShardSplit:
        return ShardSplit(files, rows, labels, self._dataset, self._image_size)


class ShardSplit:
    """See `evaluation.Split`."""

    def __init__(
        self, files: ShardFiles, rows: np.ndarray, labels: np.ndarray, dataset: DatasetConfig, image_size: int
    ) -> None:
        """`rows` int64 (n,): numbers of the samples in `files`."""
        self.labels = labels
        self._files, self._rows, self._dataset, self._image_size = files, rows, dataset, image_size

    def __len__(self) -> int:
        return len(self._rows)

    def images(self, i: int) -> np.ndarray:
        """uint8 (S, S, 3), the central square; raises DataError where the sample is broken."""
        row = int(self._rows[i])
        turn = all(self._files.read(row, suffix) is None for suffix in (_LABELS, _BITMAP))
        return resize(decode(self._files.read_image(row), self._files.name(row), turn), self._image_size)

    def encoded(self, i: int) -> bytes:
        """See `evaluation.StoredImages`."""
        return self._files.read_image(int(self._rows[i]))

    @functools.cached_property
    def captions(self) -> list[list[str]] | None:
        """Captions of each image, several where `json.<key>` is a list; None where no sample has any.

        Raises ConfigError for a caption source that does not exist.
        """
        source = self._dataset.caption
        if source != "txt":
            check_caption(self._files, source, f"data set {self._dataset.name}")
        captions = [all_captions(self._files, int(row), source) for row in self._rows]
        return captions if any(captions) else None

    def masks(self, i: int) -> np.ndarray | None:
        """uint8 (S, S), 0 background, 1 + class elsewhere, 255 ignored; None where the sample has no mask."""
        row = int(self._rows[i])
        name = self._files.name(row)
        found = self._mask(row, _LABELS)
        if found is not None:
            return found
        found = self._mask(row, _BITMAP) if len(self.labels) else None
        if found is None:
            return None
        number = int(self.labels[i]) + 1
        if number >= _IGNORED:
            raise DataError(f"{name}: class {number} does not fit a mask, which has room for {_IGNORED - 1}")
        return np.where(found > 0, np.uint8(number), np.uint8(0))

    def _mask(self, row: int, suffix: str) -> np.ndarray | None:
        """uint8 (S, S) of a sample's label map; None where it has none."""
        content, name = self._files.read(row, suffix), self._files.name(row)
        if content is None:
            return None
        labels = decode_labels(content, name)
        check_mask(labels, self._files.read_image(row), name)
        return resize_labels(labels, self._image_size)


def check_label(files: ShardFiles, key: str, where: str) -> None:
    """Raise UnfitDataError unless some sample has that label; stops at the first one that has."""
    if not any(_label(files, i, key) for i in range(len(files))):
        keys = {name for i in files.probe() for name in files.read_json(i)}
        raise UnfitDataError(unknown("JSON key", key, keys, f"{where}: task={key}"))


def _label(files: ShardFiles, i: int, key: str) -> str:
    """A sample's label as text, "" for none (null, "", or no such key); raises DataError for lists and objects."""
    content = files.read(i, "json") or b""
    # Most samples may have no label: their JSON is searched, not parsed.
    if json.dumps(key).encode() not in content and json.dumps(key, ensure_ascii=False).encode() not in content:
        return ""
    value = files.read_json(i).get(key)
    if value is None:
        return ""
    if isinstance(value, (str, int)):
        return str(value)
    raise DataError(f"{files.name(i)}: label '{key}' is {json.dumps(value)[:40]}, expected a name or a number")


def _sorted_classes(labels: set[str]) -> tuple[str, ...]:
    """The labels in the order of their names, or of their numbers when all are numbers."""
    if all(label.removeprefix("-").isdecimal() for label in labels):
        return tuple(sorted(labels, key=int))
    return tuple(sorted(labels))


def listed_classes(path: Path) -> tuple[str, ...]:
    """The names in a `classes.json`; none where there is no such file."""
    try:
        names = json.loads(path.read_text())
    except FileNotFoundError:
        return ()
    except ValueError as error:
        raise DataError(f"{path}: no JSON ({error})") from None
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise DataError(f"{path}: expected a list of class names")
    return tuple(names)
