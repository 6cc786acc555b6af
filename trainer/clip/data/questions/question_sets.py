"""Question sets in the layouts in which they are published: CLEVR, VQAv2 and GQA.

What is scored is the part whose answers are public: CLEVR's and VQAv2's validation questions, GQA's balanced test-dev
questions (the papers' test answers lie on servers). Images are numbered in the order in which the questions name them.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ablative.study.core.errors import ConfigError, DataError
from ablative.trainer.clip.data.images.places import locate
from ablative.trainer.clip.data.questions.answer_scoring import normalize
from ablative.trainer.clip.data.questions.questions import STAGES, Questions, QuestionSplit
from ablative.trainer.clip.data.sets.file_split import FileSplit
from ablative.trainer.clip.data.sets.set_files import choose, misfit, read_json, required
from ablative.trainer.clip.spec.config import DatasetConfig

CLEVR = (
    "CLEVR's layout: questions/CLEVR_train_questions.json and CLEVR_val_questions.json ({questions: [{image_filename, "
    "question, answer}]}), images/train/*.png and images/val/*.png"
)
VQA = (
    "VQAv2's files in `annotations`: v2_OpenEnded_mscoco_train2014_questions.json ({questions: [{question_id, "
    "image_id, question}]}), v2_mscoco_train2014_annotations.json ({annotations: [{question_id, answers: "
    "[{answer}]}]}), both for val2014 too, and train2014/ and val2014/ in `path`"
)
GQA = (
    "GQA's files in `annotations`: train_balanced_questions.json, testdev_balanced_questions.json and, for a first "
    "stage, train_all_questions/train_all_questions_*.json ({<id>: {imageId, question, answer}}), and <imageId>.jpg "
    "in `path`"
)
Asked = tuple[str, str, tuple[str, ...]]
"""An image's file, a question about it, and what people answered."""


class _QuestionSet(ABC):
    """What the three have in common; see `evaluation.EvaluationSet`."""

    classes: tuple[str, ...] = ()
    background: tuple[str, ...] | None = None
    layout: str

    def __init__(self, dataset: DatasetConfig, image_size: int) -> None:
        self._dataset, self._image_size = dataset, image_size
        self._where = f"data set {dataset.name}"
        self._images = locate(dataset.path, self._where, self.layout)

    def split(self, name: str) -> QuestionSplit:
        """`train`, `test` or `broad`, as many images of it as the configuration says, with all of their questions.

        Raises DataError where files are missing or lie in another layout, ConfigError where there is no such stage.
        """
        assert name in STAGES
        places: dict[str, int] = {}
        images, texts, answers = [], [], []
        for path in self._files(name):
            try:
                for file, text, given in self._asked(path, name):
                    images.append(places.setdefault(file, len(places)))
                    texts.append(text)
                    answers.append(given)
            except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
                raise misfit(path, error, self._where, self.layout) from None
        questions = Questions(np.array(images, dtype=np.int64), texts, answers)
        files = list(places)
        if name != "broad":
            chosen = choose(self._dataset, name, np.arange(len(files)), self._where)
            questions, files = questions.of_images(chosen), [files[i] for i in chosen]
        return QuestionSplit(FileSplit(self._found(files), self._image_size), questions, self._where)

    def files(self) -> tuple[Path, list[Path], list[Path]]:
        """A root, the JSON files, which count by name and size as images do (they are gigabytes), and nothing else.

        Of these, the test questions alone are read, which are the fewest; the first one's image must be there.
        """
        stages = ("broad", "train", "test") if self._dataset.first_epochs else ("train", "test")
        read = [path for name in stages for path in self._files(name)]
        [path] = self._files("test")
        try:
            first = [self._image(entry, "test") for entry in itertools.islice(self._entries(path), 1)]
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise misfit(path, error, self._where, self.layout) from None
        if not first:
            raise DataError(f"{self._where}: no questions in {path}; expected {self.layout}")
        self._found(first)
        return read[0].parent, read, []

    @abstractmethod
    def _files(self, name: str) -> list[Path]:
        """The JSON files of a split, which all exist."""

    @abstractmethod
    def _asked(self, path: Path, name: str) -> Iterator[Asked]:
        """Every question in one of the files."""

    @abstractmethod
    def _image(self, entry: Any, name: str) -> str:
        """The file of the image that an entry asks about, below the folder of images."""

    def _entries(self, path: Path) -> Iterable[Any]:
        """Entries of one of the files, a question each."""
        return self._read(path)["questions"]

    def _found(self, files: Iterable[str]) -> list[Path]:
        found = [self._images / name for name in files]
        for path in found[:1]:
            required(path.parent, path.name, self._where, self.layout)
        return found

    def _read(self, path: Path) -> Any:
        """JSON, not kept: GQA's training questions alone are gigabytes."""
        return read_json(path, self._where, self.layout, keep=False)

    def _no_stage(self, name: str) -> None:
        if name == "broad":
            raise ConfigError(
                f"{self._where}: kind '{self._dataset.kind}' has one stage of training; set first_epochs=0"
            )


class ClevrSet(_QuestionSet):
    """CLEVR v1.0 (Johnson et al. 2017), as its archive unpacks."""

    layout = CLEVR

    def _files(self, name: str) -> list[Path]:
        self._no_stage(name)
        folder = required(self._images, "questions", self._where, CLEVR)
        return [required(folder, f"CLEVR_{self._part(name)}_questions.json", self._where, CLEVR)]

    def _asked(self, path: Path, name: str) -> Iterator[Asked]:
        for entry in self._entries(path):
            yield self._image(entry, name), entry["question"], (str(entry["answer"]),)

    def _image(self, entry: Any, name: str) -> str:
        return f"images/{self._part(name)}/{entry['image_filename']}"

    @staticmethod
    def _part(name: str) -> str:
        return "val" if name == "test" else "train"


class VqaSet(_QuestionSet):
    """VQAv2 (Goyal et al. 2017) on COCO's images of 2014: ten answers a question."""

    layout = VQA

    def _files(self, name: str) -> list[Path]:
        self._no_stage(name)
        folder = locate(self._dataset.annotations, f"{self._where}: annotations", VQA)
        required(folder, f"v2_mscoco_{self._part(name)}_annotations.json", self._where, VQA)
        return [required(folder, f"v2_OpenEnded_mscoco_{self._part(name)}_questions.json", self._where, VQA)]

    def _asked(self, path: Path, name: str) -> Iterator[Asked]:
        part = self._part(name)
        notes = self._read(path.with_name(f"v2_mscoco_{part}_annotations.json"))["annotations"]
        given = {note["question_id"]: tuple(normalize(one["answer"]) for one in note["answers"]) for note in notes}
        for entry in self._entries(path):
            yield self._image(entry, name), entry["question"], given[entry["question_id"]]

    def _image(self, entry: Any, name: str) -> str:
        return f"{self._part(name)}/COCO_{self._part(name)}_{entry['image_id']:012d}.jpg"

    def files(self) -> tuple[Path, list[Path], list[Path]]:
        root, read, _ = super().files()
        parts = (self._part("train"), self._part("test"))
        return root, [*read, *(root / f"v2_mscoco_{part}_annotations.json" for part in parts)], []

    @staticmethod
    def _part(name: str) -> str:
        return "val2014" if name == "test" else "train2014"


class GqaSet(_QuestionSet):
    """GQA (Hudson and Manning 2019): all training questions first, then the balanced ones."""

    layout = GQA

    def _files(self, name: str) -> list[Path]:
        folder = locate(self._dataset.annotations, f"{self._where}: annotations", GQA)
        if name != "broad":
            part = "testdev" if name == "test" else "train"
            return [required(folder, f"{part}_balanced_questions.json", self._where, GQA)]
        parts = sorted(required(folder, "train_all_questions", self._where, GQA).glob("train_all_questions_*.json"))
        if not parts:
            raise DataError(f"{self._where}: no train_all_questions_*.json in {folder}; expected {GQA}")
        return parts

    def _asked(self, path: Path, name: str) -> Iterator[Asked]:
        for entry in self._entries(path):
            yield self._image(entry, name), entry["question"], (str(entry["answer"]),)

    def _image(self, entry: Any, name: str) -> str:
        return f"{entry['imageId']}.jpg"

    def _entries(self, path: Path) -> Iterable[Any]:
        return self._read(path).values()
