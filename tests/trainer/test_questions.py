"""Questions and answers: the official formula by hand, CLEVR's, VQAv2's and GQA's files written here as published."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shard_world import encoded, plain

from ablative.study.core.errors import AbsentDataError, ConfigError, DataError
from ablative.study.home.paths import Home
from ablative.trainer.clip.data.questions.answer_scoring import normalize, soft_accuracy
from ablative.trainer.clip.data.questions.questions import UNKNOWN, Questions, QuestionSplit, targets, vocabulary
from ablative.trainer.clip.data.questions.shape_questions import ERRS, PEOPLE
from ablative.trainer.clip.data.sources import fingerprint_dataset, open_dataset
from ablative.trainer.clip.spec.config import DatasetConfig

TEST_QUESTIONS = re.compile(r"(_val|_val2014|testdev_balanced)_questions")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def opened(config: DatasetConfig, home: Home, name: str) -> QuestionSplit:
    split = open_dataset(config, 8, home).split(name)
    assert isinstance(split, QuestionSplit)
    return split


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("The two dogs.", "2 dogs"),
        ("none", "0"),
        ("isnt", "isn't"),
        ("couldnt've", "couldn't've"),
        ("ow's'at", "'ow's'at"),
        ("t-shirt", "t shirt"),
        ("yes , sir", "yes sir"),
        ("1,000", "1000"),
        ("3.5 m.", "3.5 m"),
        ("well\nlit\t", "well lit"),
        ("Yes!", "yes"),
        ("a", ""),
    ],
)
def test_answers_are_compared_by_the_official_rules(answer: str, expected: str) -> None:
    assert normalize(answer) == expected


def test_soft_accuracy_by_the_official_loop() -> None:
    """`vqaEval.py`: every person in turn is left out, and the answer counts by the other nine."""
    for matches in range(11):
        people = ["right"] * matches + [f"wrong {i}" for i in range(10 - matches)]
        each = [min(1, sum(one == "right" for one in people[:i] + people[i + 1 :]) / 3) for i in range(10)]
        assert soft_accuracy(matches, 10) == pytest.approx(sum(each) / 10)
    assert [round(soft_accuracy(n, 10), 12) for n in (0, 1, 2, 3, 4, 10)] == [0, 0.3, 0.6, 0.9, 1, 1]
    assert (soft_accuracy(0, 1), soft_accuracy(1, 1)) == (0, 1)


def asked(*answers: tuple[str, ...]) -> Questions:
    return Questions(np.arange(len(answers)), [f"q{i}" for i in range(len(answers))], answers)


def test_vocabulary_counts_what_most_people_said() -> None:
    first = asked(("cat",) * 6 + ("dog",) * 4, ("dog",) * 9 + ("cow",))
    second = asked(("cat",) * 10, ("ant",) * 10)
    assert vocabulary([first, second], 1) == ("cat", "ant", "dog")
    assert vocabulary([first, second], 2) == ("cat",)


def test_targets_and_scores_by_hand() -> None:
    questions = asked(("cat",) * 2 + ("dog",) * 8, ("cow",) * 10, ("dog",) * 9 + ("cat",))
    worth = targets(questions, ("cat", "dog"))
    assert worth.score(np.array([0, 0, 0])) == pytest.approx([0.6, 0, 0.3])
    assert worth.score(np.array([1, 1, 1])) == pytest.approx([1, 0, 1])
    assert worth.score(np.array([UNKNOWN, UNKNOWN, UNKNOWN])).tolist() == [0, 0, 0], "unknown is not an answer"
    assert (worth.ids[1] == UNKNOWN).all()


def clevr(root: Path) -> DatasetConfig:
    for part, count in (("train", 3), ("val", 2)):
        entries = []
        for i in range(count):
            file = f"CLEVR_{part}_{i:06d}.png"
            write(root / "images" / part / file, encoded(plain(10 * count + i)))
            common = {
                "split": part,
                "image_filename": file,
                "image_index": i,
                "program": [],
                "question_family_index": 0,
            }
            entries += [{**common, "question": f"How many {i}?", "answer": str(i), "question_index": 2 * i}]
            entries += [{**common, "question": f"Is {i}?", "answer": "yes", "question_index": 2 * i + 1}]
        write(root / "questions" / f"CLEVR_{part}_questions.json", {"info": {}, "questions": entries})
    return DatasetConfig(name="clevr", kind="clevr", path=str(root))


def test_clevr(tmp_path: Path, home: Home) -> None:
    config = clevr(tmp_path / "CLEVR_v1.0")
    train, test = (opened(config, home, name) for name in ("train", "test"))
    assert (len(train), len(test)) == (3, 2)
    assert train.questions.texts[:2] == ["How many 0?", "Is 0?"]
    assert train.questions.answers[:4] == [("0",), ("yes",), ("1",), ("yes",)]
    assert test.questions.images.tolist() == [0, 0, 1, 1]
    np.testing.assert_array_equal(test.images(1), plain(21))
    few = opened(DatasetConfig(name="clevr", kind="clevr", path=config.path, train=2), home, "train")
    assert len(few) == 2 and few.questions.images.tolist() == [0, 0, 1, 1]
    before = fingerprint_dataset(config, home)
    path = tmp_path / "CLEVR_v1.0/questions/CLEVR_val_questions.json"
    write(path, {"questions": json.loads(path.read_text())["questions"][1:]})
    assert fingerprint_dataset(config, home) != before
    write(path, {"questions": []})
    with pytest.raises(DataError, match="no questions"):
        opened(config, home, "test")


def vqa_v2(root: Path) -> DatasetConfig:
    """The two files of each part, with ten answers a question."""
    for part, ids in (("train2014", (9, 25)), ("val2014", (42,))):
        questions, notes = [], []
        for image in ids:
            write(root / "coco" / part / f"COCO_{part}_{image:012d}.jpg", encoded(plain(image)))
            number = image * 1000
            answers = [
                {"answer": "The cat" if i < 7 else "dogs!", "answer_confidence": "yes", "answer_id": i}
                for i in range(1, 11)
            ]
            questions.append({"image_id": image, "question": "What?", "question_id": number})
            notes.append(
                {"question_id": number, "image_id": image, "multiple_choice_answer": "cat", "answers": answers}
            )
        write(root / "vqa" / f"v2_OpenEnded_mscoco_{part}_questions.json", {"questions": questions})
        write(root / "vqa" / f"v2_mscoco_{part}_annotations.json", {"annotations": notes[::-1]})
    return DatasetConfig(name="vqa", kind="vqa_v2", path=str(root / "coco"), annotations=str(root / "vqa"))


def test_vqa_v2(tmp_path: Path, home: Home) -> None:
    config = vqa_v2(tmp_path)
    train, test = (opened(config, home, name) for name in ("train", "test"))
    assert train.questions.answers == [("cat",) * 6 + ("dogs",) * 4] * 2
    np.testing.assert_array_equal(test.images(0), plain(42))
    np.testing.assert_array_equal(train.images(1), plain(25))
    before = fingerprint_dataset(config, home)
    write(tmp_path / "vqa/v2_mscoco_val2014_annotations.json", {"annotations": []})
    assert fingerprint_dataset(config, home) != before
    with pytest.raises(DataError, match=r"lacks 42000; expected VQAv2's files in `annotations`"):
        opened(config, home, "test")


def gqa(root: Path) -> DatasetConfig:
    def entries(*images: str) -> dict[str, Any]:
        return {
            f"{i:07d}": {"imageId": image, "question": f"Is it {image}?", "answer": "yes", "isBalanced": True}
            for i, image in enumerate(images)
        }

    for number, image in enumerate(("n1", "n2", "2370799")):
        write(root / "images" / f"{image}.jpg", encoded(plain(number)))
    for part in (0, 1):
        path = root / "questions1.2" / "train_all_questions" / f"train_all_questions_{part}.json"
        write(path, entries(*("n1", "n2", "n1")[part:]))
    write(root / "questions1.2" / "train_balanced_questions.json", entries("n2"))
    write(root / "questions1.2" / "testdev_balanced_questions.json", entries("2370799"))
    paths = {"path": str(root / "images"), "annotations": str(root / "questions1.2")}
    return DatasetConfig(name="gqa", kind="gqa", first_epochs=5, epochs=2, **paths)


def test_gqa_in_its_two_stages(tmp_path: Path, home: Home) -> None:
    config = gqa(tmp_path)
    broad, train, test = (opened(config, home, name) for name in ("broad", "train", "test"))
    assert broad.questions.images.tolist() == [0, 1, 0, 1, 0] and len(broad) == 2
    assert (len(train.questions), len(test.questions)) == (1, 1)
    np.testing.assert_array_equal(test.images(0), plain(2))
    assert len(fingerprint_dataset(config, home)) == 12


def test_wrong_layouts_are_named(tmp_path: Path, home: Home) -> None:
    config = clevr(tmp_path / "clevr")
    with pytest.raises(ConfigError, match="kind 'clevr' has one stage of training; set first_epochs=0"):
        opened(config, home, "broad")
    write(tmp_path / "clevr/questions/CLEVR_val_questions.json", {"questions": [{"question": "?", "answer": "1"}]})
    with pytest.raises(DataError, match=r"lacks 'image_filename'; expected CLEVR's layout"):
        opened(config, home, "test")
    write(tmp_path / "clevr/questions/CLEVR_val_questions.json", b"{")
    with pytest.raises(DataError, match=r"no readable JSON .*expected CLEVR's layout"):
        opened(config, home, "test")
    (tmp_path / "clevr/questions/CLEVR_train_questions.json").unlink()
    with pytest.raises(DataError, match=r"no CLEVR_train_questions\.json in .*found: CLEVR_val_questions\.json"):
        fingerprint_dataset(config, home)
    with pytest.raises(AbsentDataError, match="nowhere does not exist; expected CLEVR's layout"):
        open_dataset(DatasetConfig(name="c", kind="clevr", path=str(tmp_path / "nowhere")), 8, home)
    config = gqa(tmp_path)
    (tmp_path / "images/n2.jpg").unlink()
    with pytest.raises(DataError, match=r"no n2\.jpg in .*expected GQA's files"):
        opened(config, home, "train")
    for path in (tmp_path / "questions1.2/train_all_questions").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"no train_all_questions_\*\.json in"):
        fingerprint_dataset(config, home)


@pytest.mark.parametrize("make", [clevr, vqa_v2, gqa])
def test_a_plan_reads_the_test_questions(tmp_path: Path, home: Home, make: Callable[[Path], DatasetConfig]) -> None:
    config = make(tmp_path / "set")
    test = next(path for path in (tmp_path / "set").rglob("*.json") if TEST_QUESTIONS.search(path.name))
    content = json.loads(test.read_text())

    def holding(*entries: Any) -> dict[str, Any]:
        return {"questions": list(entries)} if "questions" in content else dict(enumerate(entries))  # type: ignore[arg-type]

    for wrong, words in (
        ([1], "is a list, expected an object: "),
        (holding(), f"no questions in .*{test.name}; expected"),
        (holding(1), r"holds a value of another kind \(.*\); expected"),
        (holding({}), r"lacks 'image\w+'; expected"),
    ):
        write(test, wrong)
        with pytest.raises(DataError, match=words):
            fingerprint_dataset(config, home)
    write(test, content)
    assert fingerprint_dataset(config, home)
    image = opened(config, home, "test")._pictures._images[0]  # type: ignore[attr-defined]
    image.unlink()
    with pytest.raises(DataError, match=rf"no {image.name} in .*; expected"):
        fingerprint_dataset(config, home)


def shapes(task: str, home: Home, name: str = "train") -> Questions:
    config = DatasetConfig(name="q", kind="shapes", task=task, train=150, test=60, first_epochs=1)
    return opened(config, home, name).questions


def test_questions_about_shapes(home: Home) -> None:
    plainly, people = shapes("questions", home), shapes("opinions", home)
    assert list(plainly.texts) == list(people.texts)
    assert all(len(given) == PEOPLE for given in people.answers)
    pairs = zip(plainly.answers, people.answers, strict=True)
    agree = np.mean([given.count(right[0]) / PEOPLE for right, given in pairs])
    assert 1 - ERRS < agree < 1 - ERRS / 2, "who errs may be right by chance"
    assert shapes("opinions", home).answers == people.answers
    assert shapes("questions", home, "test").answers != plainly.answers[: len(shapes("questions", home, "test"))]


def test_balanced_questions_about_shapes_are_a_flatter_part_of_all(home: Home) -> None:
    broad, part = shapes("balanced", home, "broad"), shapes("balanced", home)
    assert shapes("questions", home).texts == broad.texts and len(part) < len(broad)
    everything = list(zip(broad.images, broad.texts, broad.answers, strict=True))
    assert all(one in everything for one in zip(part.images, part.texts, part.answers, strict=True))
    exist = [answers for text, answers in zip(part.texts, part.answers, strict=True) if text.startswith("is there")]
    counts = Counter(answer for (answer,) in exist)
    assert counts["no"] < 1.8 * counts["yes"], "in all there are twice as many that say no"
