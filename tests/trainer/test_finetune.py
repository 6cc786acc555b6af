"""Full fine-tuning: everything that an image passes through is trained, on a copy; rates fall with the depth."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import yaml
from protocol_fakes import MODEL, EvaluationSet, Split, evaluation
from shard_world import encoded, write_shard
from small_systems import make_system

from ablative.study.core.errors import Interrupted
from ablative.study.core.packages import folder
from ablative.study.home.paths import Home
from ablative.trainer.clip.data.sources import open_dataset
from ablative.trainer.clip.protocols.finetune import INPUTS, Classifier, Fitting, finetune
from ablative.trainer.clip.protocols.parts import row_store as storage
from ablative.trainer.clip.protocols.parts.features import Representation
from ablative.trainer.clip.protocols.parts.row_store import gathered
from ablative.trainer.clip.protocols.parts.training import Drawn, layered_adamw, learning_rate, set_rate
from ablative.trainer.clip.protocols.resumption import Resumption
from ablative.trainer.clip.protocols.training_images import augmented, reader
from ablative.trainer.clip.spec.config import DatasetConfig, ProtocolConfig
from ablative.trainer.clip.spec.training_options import AugmentConfig

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


def fit(classifier: Classifier, split: Split, protocol: ProtocolConfig, micro: int = 0) -> None:
    labels = torch.from_numpy(split.labels)
    Fitting(classifier, protocol, micro=micro).fit(lambda drawn: split.pixels[drawn.rows], labels, Resumption())


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
    fit(classifier, split, ProtocolConfig(**{"name": "p", **PROTOCOL}))
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
        fit(classifier, split, protocol)
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


FULL = AugmentConfig(crop_scale=0.3, flip=0.5, operations=2, erase=0.5, mixup=0.8, cutmix=1.0)


def full(**fields: Any) -> dict[str, Any]:
    return {**PROTOCOL, "augment": FULL, "drop_path": 0.3, "lr_floor": 1e-5, "features": "mean", **fields}


def test_learns_with_every_augmentation(tmp_path: Path) -> None:
    found = evaluation(tmp_path, make_set(), full(epochs=30))
    assert dict(finetune(found))["top1"] > 85


def test_the_preset_is_the_papers_recipe() -> None:
    """Appendix B: 100 epochs, 6e-4, 20 of warm-up, floor 1e-6, decay 0.7, mean; the rest is BEiT's."""
    path = folder("ablative.trainer") / "clip" / "conf" / "protocol" / "finetune_maskclip.yaml"
    values = yaml.safe_load(path.read_text())
    augment = AugmentConfig(**values.pop("augment"))
    found = ProtocolConfig(**values)
    assert (found.epochs, found.lr, found.warmup_epochs, found.lr_floor) == (100, 6e-4, 20, 1e-6)
    assert (found.layer_decay, found.features, found.drop_path, found.batch_size) == (0.7, "mean", 0.1, 1024)
    assert augment == AugmentConfig(
        crop_scale=0.08, flip=0.5, operations=2, magnitude=9.0, erase=0.25, mixup=0.8, cutmix=1.0
    )
    rates = [learning_rate(found.lr, epoch, 100, 20, found.lr_floor) for epoch in (0, 10, 20, 60, 100)]
    assert rates == pytest.approx([0, 3e-4, 6e-4, (6e-4 + 1e-6) / 2, 1e-6])


def test_stopped_at_any_step_it_ends_bit_identical(tmp_path: Path) -> None:
    """With everything random: crops, operations, rectangles, mixtures, stochastic depth, order."""
    split, protocol = shades(20, 0), ProtocolConfig(**{"name": "p", **full(epochs=2, batch_size=6)})
    labels = torch.from_numpy(split.labels)

    def trained(resumption: Resumption) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        classifier = Classifier(make_system("clip"), 3, "mean")
        read = lambda drawn: augmented(split, drawn, 32, FULL, protocol.seed)  # noqa: E731
        Fitting(classifier, protocol).fit(read, labels, resumption, threads=2)
        return classifier.state_dict()

    whole, path = trained(Resumption()), tmp_path / "last.pt"
    for done in range(1, 8):
        with pytest.raises(Interrupted, match=f"stopped after step {done} of 8"):
            trained(Resumption(path, "key", stop=lambda: True))
    resumed = trained(Resumption(path, "key", stop=lambda: True))
    assert all(torch.equal(value, whole[name]) for name, value in resumed.items())
    other = Resumption(path, "another key")
    assert other.begin() == 0 and Resumption(path, "key").begin() == 7
    other.end()
    assert not path.exists()


def test_pieces_of_a_batch_give_the_gradient_of_the_whole() -> None:
    def trained(micro: int) -> torch.Tensor:
        torch.manual_seed(0)
        classifier = Classifier(make_system("clip"), 3, "mean")
        fit(classifier, shades(12, 0), ProtocolConfig(**{"name": "p", **full(epochs=1, batch_size=12)}), micro)
        return classifier.linear.weight.detach()

    whole = trained(0)
    torch.testing.assert_close(trained(5), whole, rtol=0, atol=1e-5)


def test_stochastic_depth_is_the_protocols_and_leaves_the_runs_alone() -> None:
    system = make_system("clip", drop_path=0.5)
    assert system.image.trunk.rates == [0.0, 0.5]
    classifier = Classifier(system, 3, "mean")
    Fitting(classifier, ProtocolConfig(**{"name": "p", **full(drop_path=0.2)}))
    assert classifier.system.image.trunk.rates == [0.0, 0.2] and system.image.trunk.rates == [0.0, 0.5]
    images = torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        paths = torch.rand(64, 4, generator=torch.Generator().manual_seed(1))
        changed = (classifier(images, paths) - classifier(images)).abs().sum(1) > 1e-6
    assert changed.all(), "kept branches are larger, dropped ones 0"


def test_streams_from_shards_and_crops_whole_images(tmp_path: Path) -> None:
    """Wide images, a half of each colour: the central square has no more than a third of one, a crop may."""
    samples = []
    for number in range(12):
        pixels = np.zeros((40, 120, 3), np.uint8)
        pixels[:, 60:] = 255
        samples.append({"png": encoded(pixels), "json": b'{"kind": "%d"}' % (number % 3)})
    shard = str(write_shard(tmp_path / "set" / "0.tar", samples))
    config = DatasetConfig(name="set", kind="shards", task="kind", path=shard, test_path=shard)
    dataset = open_dataset(config, 32, Home(tmp_path / "home"))
    found = evaluation(tmp_path, cast(EvaluationSet, dataset), full(epochs=2))
    read = reader(found)
    first, again, later = (read(Drawn(epoch, torch.arange(12), 0.1)) for epoch in (0, 0, 1))
    assert first.shape == (12, 32, 32, 3)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, later), "every epoch draws anew"
    one = read(Drawn(0, torch.tensor([7]), 0.1))
    np.testing.assert_array_equal(one[0], first[7])
    plain = augmented(dataset.split("train"), Drawn(0, torch.arange(12), 0.1), 32, AugmentConfig(), 0)
    assert plain[0][:, :15].max() == 0 and plain[0][:, 17:].min() == 255
    crops = augmented(dataset.split("train"), Drawn(0, torch.arange(12), 0.1), 32, AugmentConfig(crop_scale=0.1), 0)
    shares = crops.mean((1, 2, 3)) / 255
    assert shares.min() == 0 and shares.max() == 1, "some crops lie left or right of the middle"


def test_what_does_not_fit_into_memory_is_read_in_every_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "MEMORY_BYTES", 8)
    found = evaluation(tmp_path, make_set(), {**PROTOCOL, "epochs": 2})
    kept = evaluation(tmp_path, make_set(), {**PROTOCOL, "epochs": 2})
    streamed = dict(finetune(found))
    train = found.split("train")
    assert isinstance(train, Split) and train.reads == 96
    monkeypatch.undo()
    assert dict(finetune(kept)) == streamed


def test_a_broken_image_names_itself(tmp_path: Path) -> None:
    class Stored(Split):
        def encoded(self, i: int) -> bytes:
            return encoded(np.zeros((9, 9, 3), np.uint8))[:20]

    with pytest.raises(Exception, match="train image 3: no readable image"):
        augmented(Stored(np.zeros((4, 32, 32, 3), np.uint8)), Drawn(0, torch.tensor([3]), 0.1), 32, FULL, 0)
