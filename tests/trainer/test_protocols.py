"""`score` from a run's directory, on the procedural world: metric names, cache, what does not apply."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from protocol_fakes import EvaluationSet, evaluation, random_split
from tiny_run import make_config, make_home, write_run

from ablative.study.core.errors import ConfigError, DataError
from ablative.study.home.paths import Home, RunPaths
from ablative.trainer.clip import checkpoint
from ablative.trainer.clip.data.pairs.tokenizer import Tokenizer
from ablative.trainer.clip.objectives.system import System
from ablative.trainer.clip.protocols import represent, score
from ablative.trainer.clip.spec.config import DatasetConfig, EvaluationConfig, ProtocolConfig
from ablative.trainer.clip.spec.metrics import PROTOCOL_KINDS

SHAPES = DatasetConfig(name="shapes_shape", kind="shapes", task="shape", train=60, test=40, templates="shapes")
PROTOCOLS = {
    "zero_shot": ProtocolConfig(name="zero_shot", kind="zero_shot"),
    "linear_probe": ProtocolConfig(name="probe", kind="linear_probe", epochs=2, batch_size=32),
    "retrieval": ProtocolConfig(name="retrieval", kind="retrieval"),
    "segmentation": ProtocolConfig(name="segmentation", kind="segmentation", prompt="a photo of {a} {}"),
    "vqa": ProtocolConfig(name="vqa", kind="vqa", epochs=1, batch_size=64),
    "finetune": ProtocolConfig(name="finetune", kind="finetune", epochs=1, batch_size=32),
}


def make_run(home: Home, objective: str = "clip", seed: int = 0) -> RunPaths:
    """A finished run of randomly initialised weights."""
    config = make_config(objective)
    paths = write_run(home, config)
    captions = ["a red circle", "photo of a blue square", "green star on the left", "two shapes"]
    tokenizer = Tokenizer.fit(captions * 3, config.model.vocab_size, config.model.context_length)
    tokenizer.save(paths.tokenizer)
    save_weights(paths, seed)
    return paths


def save_weights(paths: RunPaths, seed: int) -> None:
    config = make_config(paths.root.name if paths.root.name in ("mae", "m3ae") else "clip")
    torch.manual_seed(seed)
    system = System(config.model, config.objective, Tokenizer.load(paths.tokenizer).vocab_size)
    checkpoint.save(paths.model, {"model": system.state_dict()})


def found(paths: RunPaths, home: Home, kind: str, *datasets: DatasetConfig) -> dict[str, float]:
    config = EvaluationConfig(run_id=paths.root.name, protocol=PROTOCOLS[kind], datasets=datasets or (SHAPES,))
    return dict(score(represent(paths, config, torch.device("cpu")), config, home))


@pytest.mark.parametrize("kind", list(PROTOCOLS))
def test_yields_what_the_study_was_promised(tmp_path: Path, kind: str) -> None:
    home = make_home(tmp_path)
    dataset = replace(SHAPES, task="questions", train=10, test=10) if kind == "vqa" else SHAPES
    metrics = found(make_run(home), home, kind, dataset)
    assert list(metrics) == [f"{PROTOCOLS[kind].name}/shapes_shape/{metric}" for metric in PROTOCOL_KINDS[kind].metrics]
    assert all(0 <= value <= 100 for value in metrics.values())


def test_every_data_set_in_its_order(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    color = replace(SHAPES, name="color", task="color")
    digits = DatasetConfig(name="digits", kind="digits")
    metrics = found(make_run(home), home, "linear_probe", SHAPES, color, digits)
    assert list(metrics)[::2] == ["probe/shapes_shape/top1", "probe/color/top1", "probe/digits/top1"]


def test_repeats_give_identical_numbers_and_new_weights_others(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    paths = make_run(home)
    first = found(paths, home, "linear_probe")
    files = sorted(paths.features.iterdir())
    assert len(files) == 2
    assert found(paths, home, "linear_probe") == first
    assert sorted(paths.features.iterdir()) == files
    save_weights(paths, seed=1)
    found(paths, home, "linear_probe")
    assert len(list(paths.features.iterdir())) == 4, "features of other weights were served"


def test_zero_shot_and_retrieval_share_features(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    paths = make_run(home)
    found(paths, home, "zero_shot")
    found(paths, home, "retrieval")
    assert len(list(paths.features.iterdir())) == 1


@pytest.mark.parametrize("kind", ["zero_shot", "retrieval", "segmentation"])
def test_needs_a_joint_embedding(tmp_path: Path, kind: str) -> None:
    home = make_home(tmp_path)
    paths = write_run(home, make_config("mae"), "mae")
    Tokenizer.fit(["a b"], 64, 12).save(paths.tokenizer)
    save_weights(paths, 0)
    with pytest.raises(ConfigError, match=f"{kind} compares images with texts, and objective 'mae' trains no joint"):
        found(paths, home, kind)
    assert found(paths, home, "linear_probe")


def test_data_sets_that_do_not_fit(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    paths = make_run(home)
    with pytest.raises(ConfigError, match="digits: it has no captions"):
        found(paths, home, "retrieval", DatasetConfig(name="digits", kind="digits"))
    with pytest.raises(ConfigError, match="digits: it has no questions"):
        found(paths, home, "vqa", DatasetConfig(name="digits", kind="digits"))
    with pytest.raises(ConfigError, match="digits: test sample 0 has no mask"):
        found(paths, home, "segmentation", DatasetConfig(name="digits", kind="digits"))
    with pytest.raises(
        ConfigError, match=r"4 train samples for 8 classes; raise suite.datasets.shapes_shape.train to at least 8"
    ):
        found(paths, home, "linear_probe", replace(SHAPES, train=4))
    assert found(paths, home, "zero_shot", replace(SHAPES, test=4))
    few = evaluation(tmp_path, EvaluationSet(("a", "b", "c"), {"train": random_split(2, 2)}), {"kind": "linear_probe"})
    with pytest.raises(ConfigError, match="fake: 2 train samples for 3 classes, too few to train on"):
        few.labels("train")


def test_an_unfinished_run_is_not_evaluated(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    paths = make_run(home)
    paths.model.unlink()
    with pytest.raises(DataError, match="no final model"):
        found(paths, home, "zero_shot")
