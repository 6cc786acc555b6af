"""Questions about images: what question answering trains and is scored on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ablative.study.core.errors import DataError
from ablative.trainer.clip.data.questions.answer_scoring import soft_accuracy
from ablative.trainer.clip.data.sets.evaluation import Split, StoredImages

STAGES = ("broad", "train", "test")
"""Splits of a question set; `broad` is what a two-stage schedule trains on first (GQA's train-all)."""
UNKNOWN = -1
"""Instead of the number of an answer that the vocabulary lacks."""


@dataclass(frozen=True)
class Questions:
    """`n` questions, each about one image of a split."""

    images: np.ndarray
    """int64 (n,), number of the image."""
    texts: Sequence[str]
    answers: Sequence[tuple[str, ...]]
    """What people answered: one answer, or ten; compared as they stand (see `answers.normalize`)."""

    def __len__(self) -> int:
        return len(self.images)

    def of_images(self, chosen: np.ndarray) -> Questions:
        """Questions about some images alone, renumbered: `chosen` int64 (m,) becomes images 0 … m-1."""
        place = np.full(int(max(self.images.max(initial=-1), chosen.max(initial=-1))) + 1, -1, dtype=np.int64)
        place[chosen] = np.arange(len(chosen))
        rows = np.flatnonzero(place[self.images] >= 0)
        return self.take(rows, place[self.images[rows]])

    def take(self, rows: np.ndarray, images: np.ndarray | None = None) -> Questions:
        """Some of the questions; `images` renumbers what they are about."""
        numbers = self.images[rows] if images is None else images
        return Questions(numbers, [self.texts[row] for row in rows], [self.answers[row] for row in rows])


class QuestionSplit:
    """Images with questions; see `evaluation.Split`."""

    captions: list[list[str]] | None = None

    def __init__(self, pictures: Split, questions: Questions, where: str) -> None:
        """Raises DataError where there is no question."""
        if not len(questions):
            raise DataError(f"{where}: no questions")
        self.labels = np.empty(0, dtype=np.int64)
        self.questions = questions
        self._pictures = pictures

    def __len__(self) -> int:
        return len(self._pictures)

    def images(self, i: int) -> np.ndarray:
        return self._pictures.images(i)

    def encoded(self, i: int) -> bytes:
        """See `evaluation.StoredImages`; only where the images are files."""
        assert isinstance(self._pictures, StoredImages)
        return self._pictures.encoded(i)

    def masks(self, i: int) -> np.ndarray | None:
        return None


@dataclass(frozen=True)
class Targets:
    """Known answers of each question with what they are worth, padded to the most that one question has."""

    ids: np.ndarray
    """int32 (n, k), numbers in the vocabulary, or `UNKNOWN`."""
    scores: np.ndarray
    """float32 (n, k), `answers.soft_accuracy`; 0 where unknown."""

    def score(self, predicted: np.ndarray) -> np.ndarray:
        """float64 (n,): what the predicted answers int64 (n,) are worth; a negative prediction is worth nothing."""
        hits = (self.ids == predicted[:, None]) & (predicted[:, None] >= 0)
        return np.where(hits, self.scores, 0.0).sum(axis=1, dtype=np.float64)


def vocabulary(asked: Iterable[Questions], fewest: int) -> tuple[str, ...]:
    """Answers that can be given: those that most people gave to at least `fewest` training questions, by frequency.

    With ten answers a question and 9, this is the usual vocabulary of VQAv2 (Teney et al. 2017).
    """
    counts = Counter(Counter(answers).most_common(1)[0][0] for questions in asked for answers in questions.answers)
    kept = [(answer, count) for answer, count in counts.items() if count >= fewest]
    return tuple(answer for answer, _ in sorted(kept, key=lambda item: (-item[1], item[0])))


def targets(questions: Questions, answers: Sequence[str]) -> Targets:
    """The answers to every question that the vocabulary has, with the score of each."""
    number = {answer: i for i, answer in enumerate(answers)}
    width = max((len(given) for given in questions.answers), default=1)
    ids = np.full((len(questions), width), UNKNOWN, dtype=np.int32)
    scores = np.zeros((len(questions), width), dtype=np.float32)
    for row, given in enumerate(questions.answers):
        known = [(number[answer], count) for answer, count in Counter(given).items() if answer in number]
        for place, (answer, count) in enumerate(known):
            ids[row, place], scores[row, place] = answer, soft_accuracy(count, len(given))
    return Targets(ids, scores)
