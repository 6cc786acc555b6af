"""Full fine-tuning: everything that an image passes through is trained, on a copy; rates fall with the depth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from protocol_fakes import MODEL, EvaluationSet, Split, evaluation
from small_systems import make_system

from ablative.trainer.clip.protocols.finetune import INPUTS, Classifier, finetune, fit
from ablative.trainer.clip.protocols.parts import row_store as storage
from ablative.trainer.clip.protocols.parts.features import Representation
from ablative.trainer.clip.protocols.parts.row_store import gathered
from ablative.trainer.clip.protocols.parts.training import layered_adamw, set_rate
from ablative.trainer.clip.spec.config import ProtocolConfig

PROTOCOL: dict[str, Any] = {
    "kind": "finetune", "lr": 1e-2, "epochs": 12, "batch_size": 16, "layer_decay": 0.65, "label_smoothing": 0.1,
}  # fmt: skip


def shades(samples: int, seed: int) -> Split:
    """Noise around one of three colours: sample i has class i mod 3."""
    generator = np.random.default_rng(seed)
    labels = np.arange(samples, dtype=np.int64) % 3
    colors = np.array([(200, 90, 90), (90, 200, 90), (90, 90, 200)])[labels]
    pixels = np.clip(colors[:, None, None] + generator.normal(0, 40, (samples, 32, 32, 3)), 0, 255)
    return Split(pixels.astype(np.uint8), labels=labels)


def make_set() -> EvaluationSet:
    return EvaluationSet(("red", "green", "blue"), {"train": shades(48, 0), "test": shades(30, 1)})


@pytest.mark.parametrize("objective", ["clip", "mae"])
def test_learns_and_leaves_the_run_as_it_is(tmp_path: Path, objective: str) -> None:
    found = evaluation(tmp_path, make_set(), PROTOCOL, objective=objective)
    before = {name: value.clone() for name, value in found.representation.system.state_dict().items()}
    state = torch.get_rng_state()
    metrics = dict(finetune(found))
    assert metrics == {"top1": 100.0, "per_class": 100.0}
    assert all(torch.equal(value, before[name]) for name, value in found.representation.system.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state), "evaluation touched the global generator"


def test_trains_what_images_pass_through_and_nothing_else() -> None:
    system = make_system("clip", pooling="map")
    classifier = Classifier(system, 3, "pooled")
    split = shades(12, 0)
    fit(classifier, split.pixels, torch.from_numpy(split.labels), ProtocolConfig(**{"name": "p", **PROTOCOL}))
    old = dict(system.named_parameters())
    moved = {name for name, value in classifier.system.named_parameters() if not torch.equal(value, old[name])}
    assert {name.split(".")[0] for name in moved} == {"image", "image_head"}
    unmoved = {name for name in old if name.startswith("image")} - moved
    assert unmoved == {"image_head.project.weight"}, "the projection comes after what is pooled"


def test_is_a_function_of_its_seed() -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(0)
        classifier = Classifier(make_system("clip"), 3, "mean")
        split = shades(12, 0)
        protocol = ProtocolConfig(**{"name": "p", **PROTOCOL, "epochs": 1, "seed": seed})
        fit(classifier, split.pixels, torch.from_numpy(split.labels), protocol)
        return classifier.linear.weight.detach()

    assert torch.equal(weights(0), weights(0)) and not torch.equal(weights(0), weights(1))


def test_rates_of_the_image_tower_are_maes() -> None:
    """`lr_decay.py` with two blocks: 0.65³ for the patch embedding, 0.65², 0.65, and 1 from the last norm on."""
    classifier = Classifier(make_system("clip", pooling="map"), 3, "pooled")
    optimizer = layered_adamw(classifier, ProtocolConfig(**{"name": "p", **PROTOCOL}), MODEL.depth, INPUTS)
    set_rate(optimizer, 1.0)
    rates = {id(weight): group["lr"] for group in optimizer.param_groups for weight in group["params"]}
    found = {
        name: rates[id(weight)] for name, weight in classifier.named_parameters() if not name.startswith("system.text")
    }
    assert found["system.image.trunk.blocks.0.mlp.up.weight"] == pytest.approx(0.65**2)
    assert found["system.image.trunk.blocks.1.norm1.bias"] == pytest.approx(0.65)
    assert found["system.image.norm.weight"] == found["system.image_head.pool.probe"] == found["linear.bias"] == 1.0
    assert all(rate == pytest.approx(0.65**3) for name, rate in found.items() if ".stem." in name)


def test_large_arrays_lie_in_a_file_without_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = [np.arange(6, dtype=np.float32).reshape(2, 3), np.full((1, 3), 7, np.float32)]
    inside = gathered(blocks, 3, tmp_path / "features")
    monkeypatch.setattr(storage, "MEMORY_BYTES", 8)
    beside = gathered(iter(blocks), 3, tmp_path / "features")
    assert isinstance(beside, np.memmap) and not isinstance(inside, np.memmap)
    np.testing.assert_array_equal(inside, beside)
    np.testing.assert_array_equal(beside[np.array([2, 0])], [[7, 7, 7], [0, 1, 2]])
    assert not list((tmp_path / "features").iterdir())


def test_images_are_read_once(tmp_path: Path) -> None:
    found = evaluation(tmp_path, make_set(), PROTOCOL)
    assert isinstance(found.representation, Representation)
    dict(finetune(found))
    train = found.split("train")
    assert isinstance(train, Split) and train.reads == 48
