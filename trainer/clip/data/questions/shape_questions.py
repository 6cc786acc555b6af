"""Questions about the procedural world, in miniature of CLEVR, VQAv2 and GQA.

| task       | in miniature of | what it has of it                                                               |
|------------|-----------------|---------------------------------------------------------------------------------|
| questions  | CLEVR           | counting, existence, colour; one answer, which is right                          |
| opinions   | VQAv2           | the same questions, ten people's answers, of whom some err                      |
| balanced   | GQA             | all questions (stage `broad`), and a part in which no answer is the usual one   |
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict

import numpy as np

from ablative.trainer.clip.data.images import streams
from ablative.trainer.clip.data.questions.questions import STAGES, Questions, QuestionSplit
from ablative.trainer.clip.data.world.shapes import Question, ShapeSplit
from ablative.trainer.clip.spec.config import DatasetConfig

TASKS = ("questions", "opinions", "balanced")
PEOPLE = 10
"""Answers to each question of `opinions`."""
ERRS = 0.15
"""How often one of those people gives another answer to a question of the same kind."""


class ShapeQuestions:
    """Questions about scenes as a question set (see `evaluation.EvaluationSet`); `train` and `test` count scenes."""

    classes: tuple[str, ...] = ()
    background: tuple[str, ...] | None = None

    def __init__(self, dataset: DatasetConfig, image_size: int) -> None:
        self._dataset, self._image_size = dataset, image_size

    def split(self, name: str) -> QuestionSplit:
        assert name in STAGES
        task = self._dataset.task
        scenes = ShapeSplit(
            dataclasses.replace(self._dataset, task=""), "train" if name == "broad" else name, self._image_size
        )
        asked = [(i, question) for i in range(len(scenes)) for question in scenes.questions(i)]
        if task == "balanced" and name != "broad":
            asked = balanced(asked)
        answers: list[tuple[str, ...]] = [(question.answer,) for _, question in asked]
        if task == "opinions":
            number = streams.stream("opinions", self._dataset.split, name, self._dataset.seed)
            answers = opinions([question for _, question in asked], number)
        images = np.array([i for i, _ in asked], dtype=np.int64)
        texts = [question.question for _, question in asked]
        return QuestionSplit(scenes, Questions(images, texts, answers), f"data set {self._dataset.name}")


def balanced(asked: list[tuple[int, Question]]) -> list[tuple[int, Question]]:
    """A part of the questions in which no answer of a kind occurs more often than its median answer does in all."""
    places = defaultdict(list)
    for place, (_, question) in enumerate(asked):
        places[question.kind, question.answer].append(place)
    kept = []
    for kind in dict.fromkeys(kind for kind, _ in places):
        own = [found for (other, _), found in places.items() if other == kind]
        limit = int(np.median([len(found) for found in own]))
        kept += [place for found in own for place in found[:limit]]
    return [asked[place] for place in sorted(kept)]


def opinions(questions: list[Question], number: int) -> list[tuple[str, ...]]:
    """Answers of `PEOPLE` to each question; those who err give some answer that this kind of question has."""
    possible: dict[str, list[str]] = defaultdict(list)
    for question in questions:
        if question.answer not in possible[question.kind]:
            possible[question.kind].append(question.answer)
    draws = streams.uniforms(streams.keys(number, np.arange(len(questions))), 2 * PEOPLE)
    given = []
    for question, (doubts, picks) in zip(questions, draws.reshape(-1, 2, PEOPLE), strict=True):
        choices = sorted(possible[question.kind])
        given.append(
            tuple(
                choices[int(pick * len(choices))] if doubt < ERRS else question.answer
                for doubt, pick in zip(doubts, picks, strict=True)
            )
        )
    return given
