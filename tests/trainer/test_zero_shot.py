"""Prompt ensembles against open_clip, templates, ties between classes, and what classification needs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from oracles import oracle
from protocol_fakes import EvaluationSet, Split, evaluation, random_split, representation
from sklearn.metrics import balanced_accuracy_score

from ablative.study.core.errors import ConfigError, DataError
from ablative.study.core.packages import folder
from ablative.trainer.clip.protocols.parts.prompts import class_embeddings, synonym_embeddings
from ablative.trainer.clip.protocols.zero_shot import nearest_ranks, zero_shot
from ablative.trainer.clip.spec.class_sets import class_set
from ablative.trainer.clip.spec.config import DatasetConfig
from ablative.trainer.clip.spec.prompts import fill, template_sets, templates

CLASSES = ("red circle", "blue square", "green star")
ZERO_SHOT = {"kind": "zero_shot"}


def test_template_sets_are_well_formed() -> None:
    path = folder("ablative.trainer.clip.spec") / "templates.json"
    for name, entry in json.loads(path.read_text()).items():
        assert set(entry) - {"licence"} == {"source", "templates"}, name
        assert entry["source"] and entry["templates"], name
        assert len(set(entry["templates"])) == len(entry["templates"]), name
        for template in entry["templates"]:
            assert template.count("{}") == 1
            assert fill(template, "x{y}").count("x{y}") == 1
    assert templates("plain") == ("{}",)
    assert len(templates("imagenet")) == 80
    assert len(templates("slip")) == 7
    assert set(templates("slip")) <= set(templates("imagenet"))


SLIP = (
    "food101 1 101, cifar10 18 10, cifar100 18 100, cub200 1 200, sun397 2 397, cars 8 196, aircraft 2 100, dtd 8 47, "
    "pets 1 37, caltech101 34 102, flowers 1 102, mnist 1 10, fer2013 6 7, stl10 2 10, eurosat 3 10, resisc45 18 45, "
    "gtsrb 3 43, kitti_distance 1 4, country211 5 211, patch_camelyon 1 2, ucf101 48 101, kinetics700 28 700, "
    "clevr_counts 1 8, rendered_sst2 1 2"
)
"""Set, prompts and classes, as counted in its templates.json and labels.json."""


def test_lists_of_maskclips_sets() -> None:
    """The suite names lists for each of the 25 sets, of as many templates and classes as SLIP has."""
    counts = {name: (int(prompts), int(classes)) for name, prompts, classes in map(str.split, SLIP.split(", "))}
    counts["imagenet"] = (7, 1000)
    suite = yaml.safe_load((folder("ablative.trainer.clip") / "conf" / "suite" / "maskclip.yaml").read_text())
    assert set(suite["protocols"]["zero_shot"]) == set(counts) and len(counts) == 25
    for name, (prompts, classes) in counts.items():
        own = {"classes": "imagenet", **suite["datasets"][name]}
        assert len(templates(own["templates"])) == prompts, name
        assert len(set(class_set(own["classes"]).names)) == classes - 2 * (name == "imagenet"), name
    assert class_set("fer2013").synonyms and class_set("fer2013").names[3] == "happy, smiling"
    assert not class_set("country211").synonyms and "Bonaire, Saint Eustatius and Saba" in class_set("country211").names


def test_imagenet_templates_are_open_clips() -> None:
    metadata = oracle("open_clip.zero_shot_metadata")
    assert [fill(template, "newt") for template in templates("imagenet")] == [
        template("newt") for template in metadata.OPENAI_IMAGENET_TEMPLATES
    ]


def test_unknown_templates_name_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown templates 'imagnet'; did you mean 'imagenet'\?"):
        templates("imagnet")


def test_articles() -> None:
    assert fill("a photo of {a} {}", "apple") == "a photo of an apple"
    assert fill("a photo of {a} {}", "Bed") == "a photo of a Bed"
    with pytest.raises(ConfigError, match="for its article"):
        fill("a {thing}", "apple")


def test_ensemble_agrees_with_open_clip(tmp_path: Path) -> None:
    classifier = oracle("open_clip.zero_shot_classifier")
    model = representation(tmp_path)

    def tokenizer(texts: list[str]) -> torch.Tensor:
        return torch.from_numpy(model.tokenizer(texts))

    class Wrapped:
        def encode_text(self, tokens: torch.Tensor, normalize: bool) -> torch.Tensor:
            assert normalize
            return model.system.encode_text(tokens)

    expected = classifier.build_zero_shot_classifier(
        Wrapped(), tokenizer, CLASSES, templates("imagenet"), num_classes_per_batch=None
    )
    found = class_embeddings(model, CLASSES, templates("imagenet"))
    assert np.allclose(found, expected.T.numpy(), atol=1e-6)


def test_ensemble_by_hand() -> None:
    vectors = {"a x": [1.0, 0.0], "x": [0.0, 1.0], "a y": [0.6, 0.8], "y": [0.6, 0.8]}

    class Encoder:
        def text_embeddings(self, texts: list[str]) -> np.ndarray:
            return np.array([vectors[text] for text in texts], dtype=np.float32)

    found = class_embeddings(Encoder(), ["x", "y"], ["a {}", "{}"])
    assert np.allclose(found, [[0.5**0.5, 0.5**0.5], [0.6, 0.8]])


def test_a_class_with_synonyms_is_the_mean_over_names_and_prompts(tmp_path: Path) -> None:
    model = representation(tmp_path)
    found = synonym_embeddings(model, [("happy", "smiling"), ("sad",), ("smiling", "happy")], ["a {} face", "{}"])
    each = model.text_embeddings(["a happy face", "happy", "a smiling face", "smiling"])
    mean = each.mean(axis=0) / np.linalg.norm(each.mean(axis=0))
    assert np.allclose(found[0], mean, atol=1e-6) and np.allclose(found[2], mean, atol=1e-6)
    assert np.allclose(found[1], class_embeddings(model, ["sad"], ["a {} face", "{}"])[0], atol=1e-6)


@pytest.mark.parametrize("classes", [4, 9])
def test_scores_are_sklearns_mean_per_class_and_mean_of_top1_and_top5(tmp_path: Path, classes: int) -> None:
    """Of a small wrong model, with unequal classes, one of which has no sample."""
    names = tuple(f"thing number {i}" for i in range(classes))
    split = random_split(60, classes)
    split.labels = np.minimum(split.labels, np.random.default_rng(0).integers(0, classes - 1, 60))
    about = evaluation(tmp_path, EvaluationSet(names, {"test": split}), ZERO_SHOT, templates="cifar10")
    scores = about.embeddings("test") @ class_embeddings(about.representation, names, templates("cifar10")).T
    found = dict(zero_shot(about))
    assert found["per_class"] == pytest.approx(100 * balanced_accuracy_score(split.labels, scores.argmax(axis=1)))
    if classes > 5:
        top5 = np.mean([label in np.argsort(-own)[:5] for label, own in zip(split.labels, scores, strict=True)])
        assert found["top1_top5"] == pytest.approx((found["top1"] + 100 * top5) / 2)


def test_metrics_of_a_model_that_knows(tmp_path: Path) -> None:
    """Labels are set to what the model answers: 100 % right, and the guessing rates follow from the labels."""
    dataset = EvaluationSet(CLASSES, {"test": random_split(40, 3)})
    about = evaluation(tmp_path, dataset, ZERO_SHOT, templates="shapes")
    classifier = class_embeddings(about.representation, CLASSES, templates("shapes"))
    answers = (about.embeddings("test") @ classifier.T).argmax(axis=1)
    dataset.splits["test"].labels = answers
    found = dict(zero_shot(about))
    assert found == {
        "top1": 100.0,
        "per_class": 100.0,
        "majority": pytest.approx(100 * np.bincount(answers).max() / 40),
        "chance": pytest.approx(100 / 3),
    }


def test_top5_is_for_more_than_five_classes(tmp_path: Path) -> None:
    for count in (5, 6):
        names = tuple(f"class {i}" for i in range(count))
        found = dict(
            zero_shot(evaluation(tmp_path, EvaluationSet(names, {"test": random_split(30, count)}), ZERO_SHOT))
        )
        assert ("top5" in found) == (count > 5)
    assert found["top5"] >= found["top1"]


def test_classes_with_the_same_prompts_never_score(tmp_path: Path) -> None:
    names = ("abc", "cab", "abc", "bca")  # one hash, so one token, in `Words`
    found = dict(zero_shot(evaluation(tmp_path, EvaluationSet(names, {"test": random_split(64, 4)}), ZERO_SHOT)))
    assert found["top1"] == found["per_class"] == 0.0


def test_twins_do_not_score_among_other_classes(tmp_path: Path) -> None:
    names = (*(f"thing {i}" for i in range(40)), "twin ab", "twin ba")
    split = random_split(420, 42)
    about = evaluation(tmp_path, EvaluationSet(names, {"test": split}), ZERO_SHOT, templates="imagenet")
    classifier = class_embeddings(about.representation, names, templates("imagenet"))
    assert np.array_equal(classifier[40], classifier[41])
    ranks = nearest_ranks(about.embeddings("test"), classifier, np.full(420, 41))
    assert ranks.min() >= 1


def test_what_classification_needs(tmp_path: Path) -> None:
    def found(classes: tuple[str, ...], split: Split) -> None:
        list(zero_shot(evaluation(tmp_path, EvaluationSet(classes, {"test": split}), ZERO_SHOT)))

    found(CLASSES, random_split(2, 2))  # fewer samples than classes: nothing is trained on them
    with pytest.raises(ConfigError, match="1 classes"):
        found(("one",), random_split(4, 1))
    with pytest.raises(DataError, match="labels run from 0 to 3, expected 0 to 2"):
        found(CLASSES, random_split(8, 4))
    with pytest.raises(ConfigError, match="no labels, which classification needs; name them in its `task`"):
        found(CLASSES, Split(random_split(4, 3).pixels))
    captioned = evaluation(tmp_path, EvaluationSet((), {"test": Split(random_split(4, 3).pixels)}), ZERO_SHOT)
    captioned = replace(captioned, config=DatasetConfig(name="c", kind="clip_benchmark"))
    with pytest.raises(ConfigError, match=r"no labels, .* needs; leave the set out of suite\.protocols\.zero_shot"):
        list(zero_shot(captioned))
    with pytest.raises(DataError, match="no test samples"):
        found(CLASSES, random_split(0, 1))


def test_every_template_set_can_be_named() -> None:
    assert {"plain", "shapes", "photo", "imagenet", "slip"} <= set(template_sets())
