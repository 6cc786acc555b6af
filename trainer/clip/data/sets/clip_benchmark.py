"""Evaluation sets as CLIP_benchmark publishes them: WebDatasets of ImageNet, of VTAB's tasks and of captioned images.

    <path>/classnames.txt                          one name a line, in the order of the labels
    <path>/zeroshot_classification_templates.txt   one template a line, with {c} for the name
    <path>/dataset_type.txt                        "retrieval" for captioned images; else "classification" or none
    <path>/<split>/nshards.txt                     number of archives
    <path>/<split>/0.tar …                         .webp, .jpg or .png with .cls (label from 0), or with .txt (captions,
                                                   one a line)

(LAION-AI/CLIP_benchmark, README "WebDataset example" and `webdataset_builder.py`.)
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from ablative.study.core.errors import ConfigError, DataError, unknown
from ablative.study.home.paths import Home
from ablative.trainer.clip.data.images.places import locate
from ablative.trainer.clip.data.sets.labelled_shards import ShardSplit
from ablative.trainer.clip.data.sets.set_files import choose, read_lines, required
from ablative.trainer.clip.data.shards.shard_files import ShardFiles
from ablative.trainer.clip.spec.class_sets import class_set, names_in_order
from ablative.trainer.clip.spec.config import DatasetConfig
from ablative.trainer.clip.spec.prompts import OWN

LAYOUT = "CLIP_benchmark's layout: classnames.txt, test/nshards.txt, test/0.tar … (and train/ likewise)"
CLASSNAMES, TEMPLATES, TYPE, NSHARDS = (
    "classnames.txt",
    "zeroshot_classification_templates.txt",
    "dataset_type.txt",
    "nshards.txt",
)
TYPES = ("classification", "retrieval")


class ClipBenchmarkSet:
    """See `evaluation.EvaluationSet`."""

    background: tuple[str, ...] | None = None

    def __init__(self, dataset: DatasetConfig, image_size: int, home: Home) -> None:
        """
        Raises:
            AbsentDataError: no such folder.
            DataError: another layout.
        """
        self._dataset, self._image_size, self._home = dataset, image_size, home
        self._where = f"data set {dataset.name}"
        self.root = locate(dataset.path, self._where, LAYOUT)
        self._retrieval = _type(self.root, self._where) == "retrieval"
        self.classes: tuple[str, ...] = ()
        if not self._retrieval:
            own = read_lines(required(self.root, CLASSNAMES, self._where, LAYOUT))
            listed = dataset.classes and names_in_order(dataset.classes, own, self._where, f"names in {CLASSNAMES}")
            self.classes = listed or tuple(own)
        self._stored = len(self.classes)
        if dataset.bins > self._stored:
            raise ConfigError(f"{self._where}: bins={dataset.bins}, but it has {self._stored} classes")
        if dataset.bins:
            self.classes = tuple(str(number) for number in range(dataset.bins))

    @functools.cached_property
    def templates(self) -> tuple[str, ...]:
        """The set's own prompt templates, with {} for the class name."""
        lines = read_lines(required(self.root, TEMPLATES, self._where, LAYOUT))
        if wrong := [line for line in lines if "{c}" not in line]:
            raise DataError(f"{self._where}: {TEMPLATES}: '{wrong[0]}' has no {{c}}, which stands for the class name")
        return tuple(line.replace("{c}", "{}") for line in lines)

    def split(self, name: str) -> ShardSplit:
        """`train` or `test`; raises DataError where there is none, or a label or caption is missing."""
        files = ShardFiles(split_shards(self.root, name, self._where), self._home, self._where)
        rows = choose(self._dataset, name, np.arange(len(files)), self._where)
        if self._retrieval:
            return _CaptionSplit(files, rows, np.empty(0, dtype=np.int64), self._dataset, self._image_size)
        labels = np.array([self._label(files, int(row)) for row in rows], dtype=np.int64)
        return ShardSplit(files, rows, labels, self._dataset, self._image_size)

    def _label(self, files: ShardFiles, row: int) -> int:
        content = files.read(row, "cls")
        text = "" if content is None else content.decode("utf-8", "replace").strip()
        if not text.isdecimal() or int(text) >= self._stored:
            found = "no .cls" if content is None else f".cls '{text[:40]}'"
            raise DataError(
                f"{files.name(row)} has {found}; expected a label from 0 to {self._stored - 1} "
                f"({CLASSNAMES} has {self._stored} names)"
            )
        # task_adaptation `data/dsprites.py`: floordiv(label, classes / bins), in whole numbers.
        return int(text) * self._dataset.bins // self._stored if self._dataset.bins else int(text)


class _CaptionSplit(ShardSplit):
    """Captions one a line of the `.txt`."""

    @functools.cached_property
    def captions(self) -> list[list[str]] | None:
        limit = self._dataset.max_captions or None
        texts = (self._files.read_text(int(row)) for row in self._rows)
        return [[line.strip() for line in text.splitlines() if line.strip()][:limit] for text in texts]


def _type(root: Path, where: str) -> str:
    """One of `TYPES`; raises DataError for another one (`multilabel` sets have several labels an image)."""
    found = (root / TYPE).read_text().strip().lower() if (root / TYPE).is_file() else TYPES[0]
    if found not in TYPES:
        raise DataError(unknown("type of CLIP_benchmark set", found, TYPES, f"{where}: {root / TYPE}"))
    return found


def split_shards(root: Path, split: str, where: str) -> list[Path]:
    """Archives of a split; raises DataError unless as many lie there as its nshards.txt says."""
    folder = required(root, split, where, LAYOUT)
    counted = required(folder, NSHARDS, where, LAYOUT).read_text().strip()
    if not counted.isdecimal() or not int(counted):
        raise DataError(f"{where}: {folder / NSHARDS} says '{counted[:40]}'; expected the number of archives")
    return [
        required(folder, f"{number}.tar", where, f"{counted} archives ({NSHARDS})") for number in range(int(counted))
    ]


def fingerprints(dataset: DatasetConfig, home: Home) -> list[str]:
    """Fingerprints of the splits that are there, of class names (unless a list is used as it is) and templates."""
    where = f"data set {dataset.name}"
    if dataset.task or dataset.annotations:
        raise ConfigError(
            f"{where}: CLIP_benchmark sets take neither task nor annotations; their labels are .cls files"
        )
    found = ClipBenchmarkSet(dataset, 8, home)
    root = found.root
    parts = []
    for split in ("train", "test"):
        if split == "test" or (root / split).is_dir():
            parts.append(ShardFiles(split_shards(root, split, where), home, where).fingerprint)
    as_listed = bool(dataset.classes) and found.classes == class_set(dataset.classes).names
    names = [] if as_listed else [CLASSNAMES]
    if dataset.templates == OWN and found.templates:
        names.append(TEMPLATES)
    return parts + ["\n".join(read_lines(root / name)) for name in names if (root / name).is_file()]
