"""UPerNet: its heads against transformers', its training on masks, and what it asks of a data set."""

from __future__ import annotations

import colorsys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from oracles import oracle
from protocol_fakes import representation
from shard_world import encoded
from small_models import MODEL
from small_systems import make_system
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ablative.study.core.errors import DataError, Interrupted
from ablative.study.core.packages import folder
from ablative.study.core.typed import build
from ablative.study.home.panel_pictures import NEEDED
from ablative.study.home.paths import Home, TaskPaths
from ablative.trainer.clip.data.pairs.batch import to_pixels
from ablative.trainer.clip.data.sources import open_dataset
from ablative.trainer.clip.models.head_flops import neck_flops, upernet_flops
from ablative.trainer.clip.models.towers import ImageTower
from ablative.trainer.clip.protocols.augmentation import scenes
from ablative.trainer.clip.protocols.dense.trunk import PyramidTrunk
from ablative.trainer.clip.protocols.dense.upernet_head import FcnHead, UperHead, enlarged
from ablative.trainer.clip.protocols.evaluation import Evaluation
from ablative.trainer.clip.protocols.parts import metrics
from ablative.trainer.clip.protocols.parts.masks import segment
from ablative.trainer.clip.protocols.resumption import Resumption
from ablative.trainer.clip.protocols.upernet import UperNet, fit, learning_rate, pictures, upernet, weighted_loss
from ablative.trainer.clip.spec.config import DatasetConfig, ProtocolConfig
from ablative.trainer.clip.spec.panel_pictures import pictures_path
from ablative.trainer.clip.spec.training_options import UpernetConfig

CONF = folder("ablative.trainer") / "clip" / "conf" / "protocol"
SHAPES = DatasetConfig(name="shapes", kind="shapes", train=64, test=24)
COLOURS = replace(SHAPES, task="color")


def preset(name: str, **fields: Any) -> ProtocolConfig:
    return build(ProtocolConfig, {**yaml.safe_load((CONF / f"{name}.yaml").read_text()), **fields})


def shapes(tmp_path: Path, resumption: Resumption | None = None, **options: Any) -> Evaluation:
    """On the procedural world, with a small tower that nothing has trained."""
    mini = preset("upernet_mini", batch_size=4)
    protocol = replace(mini, upernet=replace(mini.upernet, warmup_steps=2, width=16, auxiliary_width=8, **options))
    dataset = open_dataset(SHAPES, protocol.upernet.side, Home(tmp_path))
    return Evaluation(protocol, SHAPES, dataset, representation(tmp_path), "", None, resumption or Resumption())


def copied(own: nn.Module, theirs: nn.Module) -> None:
    """Our convolutions and norms are theirs, in the order in which both were made."""
    kinds = (nn.Conv2d, nn.BatchNorm2d)
    pairs = [[each for each in module.modules() if isinstance(each, kinds)] for module in (own, theirs)]
    assert [type(each) for each in pairs[0]] == [type(each) for each in pairs[1]]
    for mine, other in zip(*pairs, strict=True):
        mine.load_state_dict(other.state_dict())


def reordered(head: Any) -> nn.ModuleList:
    """The parts of transformers' head in the order of ours."""
    pyramid = [head.lateral_convs, head.fpn_convs, head.fpn_bottleneck]
    return nn.ModuleList([*head.psp_modules.blocks, head.bottleneck, *pyramid, head.classifier])


def test_heads_are_those_of_transformers() -> None:
    """With copied weights and running statistics, on maps whose sides are no multiples of each other."""
    theirs = oracle("transformers.models.upernet.modeling_upernet")
    config = oracle("transformers").UperNetConfig(hidden_size=12, num_labels=5, auxiliary_channels=7)
    config.auxiliary_in_channels = None
    torch.manual_seed(0)
    reference, auxiliary = theirs.UperNetHead(config, [8] * 4), theirs.UperNetFCNHead(config, [8] * 4)
    for module in (*reference.modules(), *auxiliary.modules()):
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)  # type: ignore[arg-type]
            nn.init.uniform_(module.weight)
    own, second = UperHead(8, 4, 12, 5).eval(), FcnHead(8, 7, 5).eval()
    copied(own, reordered(reference))
    copied(second, auxiliary)
    maps = [torch.randn(2, 8, height, width) for height, width in ((20, 28), (10, 14), (5, 7), (2, 3))]
    with torch.no_grad():
        torch.testing.assert_close(own(maps), reference.eval()(maps), rtol=0, atol=1e-5)
        torch.testing.assert_close(second(maps[2]), auxiliary.eval()(maps), rtol=0, atol=1e-5)


def test_the_trunk_gives_beits_four_resolutions_of_any_image() -> None:
    """Taps after a third, a half, two thirds and all of the blocks; positions of other grids as timm resamples them."""
    torch.manual_seed(0)
    tower = ImageTower(replace(MODEL, depth=6, positions="learned", class_token=True))
    trunk = PyramidTrunk(tower, drop_path=0.0).eval()
    assert trunk.blocks == (2, 3, 4, 6)
    images = torch.randn(2, 3, 48, 80)
    with torch.no_grad():
        maps = trunk(images)
        assert [tuple(each.shape[2:]) for each in maps] == [(24, 40), (12, 20), (6, 10), (3, 5)]
        third = tower.taps(images, (4,))[0]
        torch.testing.assert_close(maps[2], third.transpose(1, 2).unflatten(2, (6, 10)))
        layers = oracle("timm.layers")
        expected = layers.resample_abs_pos_embed(tower.positions[None], [6, 10], num_prefix_tokens=0)[0]
        torch.testing.assert_close(tower._positions(6, 10), expected, rtol=0, atol=1e-5)
        assert tower._positions(4, 4) is tower.positions


def test_flops_of_neck_and_heads_are_torchs_count() -> None:
    options = UpernetConfig(width=12, auxiliary_width=5)
    protocol = ProtocolConfig(name="p", kind="upernet", upernet=options)
    model, images = UperNet(make_system("clip").image, 9, protocol).eval(), torch.zeros(1, 3, 32, 64)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(images)
    with torch.no_grad(), FlopCounterMode(display=False) as tower:
        model.trunk.image.taps(images, (model.trunk.blocks[-1],))
    patches = 4 * 8
    classes = 2 * 12 * 9 * 16 * patches + 2 * 5 * 9 * patches
    expected = neck_flops(32, patches) + upernet_flops(32, patches, options) + classes
    assert counter.get_total_flops() - tower.get_total_flops() == expected


def test_rates_and_loss_by_hand() -> None:
    """BEiT: 160,000 steps, 1,500 of warm-up from 1e-6 of the rate, linearly to 0. Label 0 is not scored."""
    protocol = preset("upernet")
    assert (protocol.lr, protocol.layer_decay, protocol.drop_path, protocol.batch_size) == (2e-4, 0.6, 0.1, 16)
    steps = (0, 750, 1500, 80_000, 159_999)
    expected = [2e-10, 2e-4 * (1 - 750 / 160_000) * 0.5, 2e-4 * (1 - 1500 / 160_000), 1e-4, 2e-4 / 160_000]
    assert [learning_rate(protocol, step) for step in steps] == pytest.approx(expected, rel=1e-4)
    labels = torch.tensor([[[0, 1], [2, 255]]], dtype=torch.uint8)
    logits = torch.zeros(1, 2, 1, 1)
    found = weighted_loss((logits, logits), labels, 1, UpernetConfig())
    assert float(found) == pytest.approx(1.4 * np.log(2) * 2 / 4), "two of four pixels are ignored"
    background = weighted_loss((torch.zeros(1, 3, 1, 1), logits[:, :1].expand(1, 3, 1, 1)), labels, 0, UpernetConfig())
    assert float(background) == pytest.approx(1.4 * np.log(3) * 3 / 4)


def test_colours_change_as_in_hsv() -> None:
    """Against Python's own conversion; each of the four changes alone, then all of them, in mmsegmentation's order."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(1, 3, 4, 4, generator=generator)
    names, amounts = ("shift", "contrast", "saturation", "hue"), (0.9, 0.2, 0.95, 0.3)
    for wanted in (*[(name,) for name in names], names):
        for early in (0.2, 0.8):
            pairs = [(0.1 if name in wanted else 0.9, a) for name, a in zip(names, amounts, strict=True)]
            numbers = torch.tensor([[value for pair in pairs for value in pair] + [early]])
            found = (scenes.distort(images * 2 - 1, numbers) + 1) / 2
            signed = {name: 2 * a - 1 if name in wanted else 0.0 for name, a in zip(names, amounts, strict=True)}
            for pixel, result in zip(images[0].flatten(1).T.tolist(), found[0].flatten(1).T.tolist(), strict=True):
                assert result == pytest.approx(_distorted(pixel, signed, early < 0.5), abs=2e-5)


def _distorted(pixel: list[float], signed: dict[str, float], first: bool) -> list[float]:
    def clip(values: Any) -> list[float]:
        return [min(1.0, max(0.0, value)) for value in values]

    factor = 1 + 0.5 * signed["contrast"]
    pixel = clip(value + 32 / 255 * signed["shift"] for value in pixel)
    pixel = clip(value * factor for value in pixel) if first else pixel
    hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
    saturation = min(1.0, saturation * (1 + 0.5 * signed["saturation"]))
    pixel = list(colorsys.hsv_to_rgb((hue + 0.1 * signed["hue"]) % 1, saturation, value))
    return pixel if first else clip(value * factor for value in pixel)


def test_crops_keep_image_and_labels_together() -> None:
    """An image whose red is its row and whose label is its row; what is missing is grey and ignored."""
    options = UpernetConfig(side=16, most=1.0)
    rows = np.arange(24, dtype=np.uint8)[:, None].repeat(40, 1)
    image = np.stack([rows, np.arange(40, dtype=np.uint8)[None].repeat(24, 0), rows], 2)
    flipped = set()
    for seed in range(12):
        numbers = np.random.default_rng(seed).random(scenes.CROP_NUMBERS)
        pixels, labels = scenes.cut(image, rows, numbers, options)
        np.testing.assert_array_equal(pixels[..., 0], labels)
        assert labels.shape == (16, 16)
        flipped.add(bool(pixels[0, 0, 1] > pixels[0, 1, 1]))
    assert flipped == {True, False}
    small, missing = scenes.cut(image[:10], rows[:10], np.full(scenes.CROP_NUMBERS, 0.9), options)
    assert (missing[10:] == 255).all() and (small[10:] == 128).all() and (missing[:10] < 10).all()
    mostly = np.ones((16, 40), np.uint8)
    mostly[:, 20:28] = 2
    numbers = np.zeros(scenes.CROP_NUMBERS)
    numbers[2:4], numbers[4:] = (0.0, 0.1), 0.5
    _, labels = scenes.cut(np.zeros((16, 40, 3), np.uint8), mostly, numbers, replace(options, most=0.75))
    assert set(np.unique(labels)) == {1, 2}, "the third place is the first with more than one label"


def test_stopped_at_a_step_it_ends_bit_identical(tmp_path: Path) -> None:
    def trained(resumption: Resumption) -> dict[str, torch.Tensor]:
        found = shapes(tmp_path, resumption, steps=3)
        torch.manual_seed(0)
        model = UperNet(found.representation.system.image, 9, found.protocol)
        fit(model, found, 0)
        return model.state_dict()

    whole, path = trained(Resumption()), tmp_path / "last.pt"
    for done in (1, 2):
        with pytest.raises(Interrupted, match=f"stopped after step {done} of 3"):
            trained(Resumption(path, "key", stop=lambda: True))
    resumed = trained(Resumption(path, "key", stop=lambda: True))
    assert all(torch.equal(value, whole[name]) for name, value in resumed.items())


def test_scores_whole_images_and_leaves_the_run_as_it_is(tmp_path: Path) -> None:
    found = replace(shapes(tmp_path, steps=4), task=TaskPaths(tmp_path / "task"))
    before = {name: value.clone() for name, value in found.representation.system.state_dict().items()}
    state = torch.get_rng_state()
    results = dict(upernet(found))
    assert set(results) == {"miou"} and 0 < results["miou"] < 100
    assert all(torch.equal(value, before[name]) for name, value in found.representation.system.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    with np.load(pictures_path(TaskPaths(tmp_path / "task"), "shapes")) as arrays:
        assert set(NEEDED["fine_tuned_segmentation"]) == set(arrays) and len(arrays["images"]) == 6


def test_keeps_pictures_of_labels(tmp_path: Path) -> None:
    """What is predicted beside what is given, undecided pixels as such."""
    found = replace(shapes(tmp_path), config=COLOURS)
    masks = {i: found.whole(i, 32)[1] for i in (0, 5)}
    arrays = pictures(found, {i: (mask, np.where(mask == 0, scenes.IGNORE, mask)) for i, mask in masks.items()})
    assert set(NEEDED["fine_tuned_segmentation"]) == set(arrays)
    for row, (i, mask) in enumerate(masks.items()):
        np.testing.assert_array_equal(arrays["images"][row], found.whole(i, 32)[0])
        np.testing.assert_array_equal(arrays["truth"][row], mask)
        np.testing.assert_array_equal(arrays["fine_tuned"][row], np.where(mask == 0, scenes.IGNORE, mask))
    assert arrays["names"][0] == "background" and len(arrays["names"]) == 9


def mean_iou(model: UperNet, found: Evaluation, split: str) -> float:
    counts = np.zeros((9, 10), dtype=np.int64)
    for i in range(len(found.split(split))):
        image, mask = found.whole(i, found.protocol.upernet.side, split)
        with torch.inference_mode():
            maps = enlarged(model.scores(to_pixels(image[None], torch.device("cpu"))), mask.shape)[0]
        counts += metrics.confusion(mask, segment(maps, [[i] for i in range(9)], mask.shape), 9, (scenes.IGNORE,))
    return metrics.mean_iou(counts)


@pytest.mark.long
def test_labels_every_pixel_of_the_images_that_it_was_trained_on(tmp_path: Path) -> None:
    """Four images, 400 times: with labels of other pixels, or of another resize, it would not come near."""
    found = wide(tmp_path, replace(COLOURS, train=4), batch_size=4, layer_decay=0.9, steps=400, scale=1.0)
    model = UperNet(found.representation.system.image, 9, found.protocol)
    fit(model, found, 0)
    assert mean_iou(model, found, "train") > 90


@pytest.mark.long
def test_labels_pixels_of_images_that_it_has_not_seen(tmp_path: Path) -> None:
    """A tower that nothing has trained, by the miniature's recipe: the background alone would be 9 %."""
    found = wide(tmp_path, replace(COLOURS, train=800, test=60))
    model = UperNet(found.representation.system.image, 9, found.protocol)
    losses = fit(model, found, 0)
    assert np.mean(losses[-15:]) < 0.3 * np.mean(losses[:5])
    assert mean_iou(model, found, "test") > 45


def wide(tmp_path: Path, config: DatasetConfig, scale: float = 0.0, steps: int = 0, **fields: Any) -> Evaluation:
    """The miniature's recipe with its own width."""
    mini = preset("upernet_mini", **fields)
    options = replace(mini.upernet, steps=steps or mini.upernet.steps)
    options = replace(options, scale_low=scale, scale_high=scale) if scale else options
    dataset = open_dataset(config, options.side, Home(tmp_path))
    torch.manual_seed(0)
    return Evaluation(replace(mini, upernet=options), config, dataset, representation(tmp_path), "")


def scene_set(root: Path, missing: str = "") -> DatasetConfig:
    for part, count in (("training", 3), ("validation", 2)):
        for number in range(count):
            name = f"ADE_{part}_{number}"
            image = root / "images" / part / f"{name}.jpg"
            mask = root / "annotations" / part / f"{name}.png"
            for path in (image, mask):
                path.parent.mkdir(parents=True, exist_ok=True)
            image.write_bytes(encoded(np.full((20, 30, 3), number, np.uint8), "JPEG"))
            labels = np.full((20, 30), 50 * number, np.uint8)
            if name != missing:
                mask.write_bytes(encoded(labels))
    return DatasetConfig(name="ade", kind="ade20k", path=str(root), short_side=32, long_side=128)


def test_ade20k_has_both_splits_and_names_a_missing_annotation(tmp_path: Path) -> None:
    config = scene_set(tmp_path / "a")
    dataset = open_dataset(config, 8, Home(tmp_path))
    assert (len(dataset.classes), dataset.background) == (150, ())
    found = Evaluation(preset("upernet"), config, dataset, representation(tmp_path), "")
    image, mask = found.whole(2, 512, "train", scale=2.0)
    assert image.shape == (64, 96, 3) and mask.shape == (20, 30) and (mask == 100).all()
    assert len(found.split("test")) == 2
    found.check()
    for name in ("ADE_training_1", "ADE_validation_0"):
        broken = scene_set(tmp_path / name, name)
        with pytest.raises(DataError, match=f"data set ade: no {name}.png in .*annotations.*expected ADEChallengeData"):
            open_dataset(broken, 8, Home(tmp_path))
