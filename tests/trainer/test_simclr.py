"""SimCLR: the loss, its projector behind the whole batch, and the views that it compares."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from oracles import oracle
from test_train import assert_same, never, stop_after, train
from tiny_run import MODEL, make_batch, make_config, make_home

from ablative.study.core.errors import ConfigError, Interrupted
from ablative.study.home.paths import Home
from ablative.trainer.clip import checkpoint, micro_batches
from ablative.trainer.clip.data.pairs import loader
from ablative.trainer.clip.data.pairs.batch import Batch, to_pixels
from ablative.trainer.clip.data.pairs.loader import Loader
from ablative.trainer.clip.data.pairs.tokenizer import Tokenizer
from ablative.trainer.clip.data.sources import open_pairs
from ablative.trainer.clip.objectives.augmentation import NUMBERS, augment
from ablative.trainer.clip.objectives.losses import nt_xent
from ablative.trainer.clip.objectives.system import System
from ablative.trainer.clip.spec.checks import check_run
from ablative.trainer.clip.spec.config import DataConfig, RunConfig
from ablative.trainer.clip.spec.loss_options import ViewsConfig
from ablative.trainer.clip.step import Gradients


def test_nt_xent_by_hand() -> None:
    """Two images with orthogonal vectors: e for the other view of one, 1 for each view of the other image."""
    unit = torch.eye(2)
    assert nt_xent(unit, unit, 1.0).item() == pytest.approx(math.log(math.e + 2) - 1)


def test_nt_xent_is_the_formula_and_the_sum_of_its_shares() -> None:
    """SimCLR eq. 1, view by view."""
    first, second = torch.nn.functional.normalize(torch.randn(2, 7, 5, dtype=torch.float64), dim=-1)
    views, total = torch.cat([first, second]), 0.0
    for i in range(14):
        others = [math.exp(float(views[i] @ views[k]) / 0.1) for k in range(14) if k != i]
        total -= math.log(math.exp(float(views[i] @ views[(i + 7) % 14]) / 0.1) / sum(others)) / 14
    assert nt_xent(first, second, 0.1).item() == pytest.approx(total, rel=1e-12)
    shares = [nt_xent(first, second, 0.1, rows).item() for rows in (slice(0, 3), slice(3, 4), slice(4, 7))]
    assert sum(shares) == pytest.approx(total, rel=1e-12)


def gradients(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """In fp64, with the loss; BatchNorm and the augmentation included."""
    monkeypatch.setattr(micro_batches, "to_pixels", lambda images, device: to_pixels(images, device).double())
    torch.manual_seed(1)
    system = System(config.model, config.objective, MODEL.vocab_size).double()
    batch, draws = make_batch(8), system.draw(8, torch.Generator().manual_seed(2))
    loss = Gradients(system, config, torch.device("cpu"))(100, batch, draws)
    found = {name: weight.grad for name, weight in system.named_parameters() if weight.grad is not None}
    assert len(found) == len(list(system.parameters()))
    return {"loss": loss, **found}


@pytest.mark.parametrize("pooling", ["map", "gap"])
def test_the_projector_sees_the_batch_and_not_its_pieces(pooling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = gradients(make_config("simclr", model__pooling=pooling), monkeypatch)
    pieces = gradients(make_config("simclr", model__pooling=pooling, runtime__micro_batch=3), monkeypatch)
    for name, value in whole.items():
        torch.testing.assert_close(pieces[name], value, rtol=1e-9, atol=1e-10, msg=name)


def test_the_augmentation_is_torchvisions() -> None:
    """Each image by its own numbers, in its own order of operations."""
    functional: Any = oracle("torchvision.transforms.v2.functional")
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(16, 3, 40, 40, generator=generator) * 2 - 1
    numbers = torch.rand(16, NUMBERS, generator=generator)
    assert all(0 < int((numbers[:, k] < p).sum()) < 16 for k, p in ((0, 0.8), (9, 0.2), (10, 0.5), (12, 0.5)))
    found = augment(images, numbers, ViewsConfig())
    for image, drawn, own in zip(images, numbers.tolist(), found, strict=True):
        x = (image + 1) / 2
        changes = [
            ("adjust_brightness", 0.6 + 0.8 * drawn[1]),
            ("adjust_contrast", 0.6 + 0.8 * drawn[2]),
            ("adjust_saturation", 0.6 + 0.8 * drawn[3]),
            ("adjust_hue", 0.2 * drawn[4] - 0.1),
        ]
        for turn in np.argsort(drawn[5:9]) if drawn[0] < 0.8 else ():
            name, value = changes[turn]
            x = getattr(functional, name)(x, value)
        if drawn[9] < 0.2:
            x = functional.rgb_to_grayscale(x, 3)
        if drawn[10] < 0.5:
            x = functional.gaussian_blur(x, [5, 5], [0.1 + 1.9 * drawn[11]] * 2)
        if drawn[12] < 0.5:
            x = functional.horizontal_flip(x)
        torch.testing.assert_close(own, x * 2 - 1, rtol=0, atol=2e-5)


def test_views_are_a_function_of_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same from the first step or a later one, read by a process or cached; the image is as without views."""
    pairs = open_pairs(DataConfig(name="shapes", kind="shapes", pairs=20), 16, Home(tmp_path))
    tokenizer = Tokenizer.fit([pairs.caption(i) for i in range(20)], 64, 8)

    def batch(step: int, start: int, views: tuple[float, ...] = (0.08, 0.08), **options: Any) -> Batch:
        given = Loader(pairs, tokenizer, 6, 16, seed=1, crop_scale=1.0, views=views, **options)
        return list(given.batches(start, step + 1 - start))[-1]

    expected = batch(5, 0)
    assert expected.views is not None and expected.views.shape == (2, 6, 16, 16, 3)
    assert not torch.equal(*expected.views)
    assert torch.equal(expected.images, batch(5, 5, ()).images)
    monkeypatch.setattr(loader, "CACHE_BYTES", 0)
    for found in (batch(5, 5), batch(5, 4, workers=1)):
        assert found.views is not None and torch.equal(found.views, expected.views)
        assert torch.equal(found.images, expected.images)
    own = batch(5, 5, rows=slice(2, 5)).views
    assert own is not None and torch.equal(own, expected.views[:, 2:5])


def test_stopped_and_resumed_with_its_views(tmp_path: Path) -> None:
    config = make_config("clip_simclr", schedule__steps=4)
    whole, broken = make_home(tmp_path / "whole"), make_home(tmp_path / "broken")
    train(whole, config, never)
    for _ in range(3):
        with pytest.raises(Interrupted):
            train(broken, config, stop_after(1))
    train(broken, config, never)
    left, right = (checkpoint.load(home.run("aaaaaaaaaaaa").model) for home in (whole, broken))
    assert left is not None
    assert_same(left, right)


def test_deviations_that_leave_none() -> None:
    config = make_config("clip_simclr", objective__views=ViewsConfig(sigma_min=3.0))
    with pytest.raises(ConfigError, match=r"views\.sigma_min: 3\.0 is more than objective\.views\.sigma_max \(2\.0\)"):
        check_run(config)
