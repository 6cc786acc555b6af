"""The probe against scikit-learn's logistic regression, LARS and the schedule against MAE's formulas."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from ablative.study.core.packages import folder
from ablative.study.core.typed import build
from ablative.trainer.clip.protocols.linear_probe import Probe, _optimizer, fit, predict
from ablative.trainer.clip.protocols.parts import metrics
from ablative.trainer.clip.protocols.parts.lars import LARS
from ablative.trainer.clip.protocols.parts.training import learning_rate
from ablative.trainer.clip.spec.config import ProtocolConfig

ADAMW = ProtocolConfig(
    name="probe", kind="linear_probe", optimizer="adamw", lr=0.01, epochs=80, batch_size=256, standardize=True
)
MAE = ProtocolConfig(
    name="probe", kind="linear_probe", optimizer="lars", lr=3.0, epochs=90, warmup_epochs=10, batch_size=256,
    batch_norm=True,
)  # fmt: skip
"""MAE's recipe but for the rate: its 0.1 is for the 7,000 steps that 90 epochs of ImageNet are; here they are 450."""
RECIPES = pytest.mark.parametrize("protocol", [ADAMW, MAE], ids=["adamw", "lars"])


def digits() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, np.ndarray]:
    """Train features (1200, 64) and labels, test features and labels, of handwritten digits."""
    data, target = load_digits(return_X_y=True)
    features, labels = torch.from_numpy(data.astype(np.float32)), torch.from_numpy(target.astype(np.int64))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    train, test = order[:1200], order[1200:]
    return features[train], labels[train], features[test], labels[test].numpy()


def accuracy(protocol: ProtocolConfig, scale: float = 1.0) -> float:
    features, labels, test, test_labels = digits()
    probe = fit(features * scale, labels, 10, protocol)
    return metrics.recall(metrics.class_ranks(predict(probe, test * scale), test_labels), 1)


@RECIPES
def test_agrees_with_logistic_regression_on_digits(protocol: ProtocolConfig) -> None:
    features, labels, test, test_labels = digits()
    oracle = LogisticRegression(max_iter=2000).fit(features / 16, labels)
    assert accuracy(protocol) == pytest.approx(100 * oracle.score(test / 16, test_labels), abs=2.0)


@RECIPES
def test_the_scale_of_features_does_not_matter(protocol: ProtocolConfig) -> None:
    assert accuracy(protocol, scale=1000.0) == pytest.approx(accuracy(protocol), abs=1.0)


@RECIPES
def test_separable_classes_are_separated(protocol: ProtocolConfig) -> None:
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(300) % 3
    features = torch.eye(3)[labels] * 6 + torch.randn(300, 3, generator=generator)
    ranks = metrics.class_ranks(predict(fit(features, labels, 3, protocol), features), labels.numpy())
    assert metrics.recall(ranks, 1) > 98


@RECIPES
def test_is_a_function_of_its_seed(protocol: ProtocolConfig) -> None:
    features, labels, test, _ = digits()
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first = predict(fit(features, labels, 10, protocol), test)
    again = predict(fit(features, labels, 10, protocol), test)
    other = predict(fit(features, labels, 10, ProtocolConfig(**{**vars(protocol), "seed": 1})), test)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert torch.equal(torch.get_rng_state(), before), "evaluation touched the global generator"


def test_a_constant_feature_is_harmless() -> None:
    features, labels, test, _ = digits()
    features[:, 0] = test[:, 0] = 3.0
    for protocol in (ADAMW, MAE):
        assert np.isfinite(predict(fit(features, labels, 10, protocol), test)).all()


def test_standardisation_is_of_the_training_set() -> None:
    features, labels, test, _ = digits()
    probe = fit(features, labels, 10, ADAMW)
    standardized = probe.standardize(features)
    varied = features.std(dim=0) > 0
    assert standardized.mean(dim=0).abs().max() < 1e-4
    assert standardized[:, varied].std(dim=0, correction=0).sub(1).abs().max() < 1e-4
    row = predict(probe, test[:1])
    assert np.allclose(predict(probe, test)[:1], row, atol=1e-5), "a prediction depends on its neighbours"


def test_maskclips_preset_is_maes_recipe() -> None:
    path = folder("ablative.trainer") / "clip" / "conf" / "protocol" / "linear_probe_maskclip.yaml"
    protocol = build(ProtocolConfig, yaml.safe_load(path.read_text()))
    assert protocol == replace(MAE, name="linear_probe_maskclip", lr=0.1, batch_size=16384)
    probe = Probe(torch.zeros(2, 4), 3, protocol, torch.Generator())
    optimizer, peak = _optimizer(probe, 1_281_167, protocol)
    assert isinstance(optimizer, LARS) and peak == pytest.approx(6.4)


def test_schedule_by_hand() -> None:
    assert learning_rate(8.0, 0.0, 90, 10) == 0.0
    assert learning_rate(8.0, 2.5, 90, 10) == 2.0
    assert learning_rate(8.0, 10.0, 90, 10) == 8.0
    assert learning_rate(8.0, 50.0, 90, 10) == pytest.approx(4.0)
    assert learning_rate(8.0, 70.0, 90, 10) == pytest.approx(4.0 * (1 + math.cos(math.pi * 0.75)))
    assert learning_rate(8.0, 0.0, 20, 0) == 8.0


def test_lars_by_hand() -> None:
    weight = torch.nn.Parameter(torch.tensor([[3.0, 4.0]]))
    bias = torch.nn.Parameter(torch.tensor([1.0]))
    optimizer = LARS([weight, bias], lr=2.0, weight_decay=0.5)
    weight.grad, bias.grad = torch.tensor([[-1.5, 4.0]]), torch.tensor([0.25])
    optimizer.step()
    # gradient + 0.5 weight = (0, 6), norm 6; weight norm 5; trust 0.001 · 5 / 6
    step = 0.001 * 5 / 6 * 6
    assert torch.allclose(weight, torch.tensor([[3.0, 4.0 - 2 * step]]))
    assert torch.allclose(bias, torch.tensor([0.5])), "a bias is neither decayed nor rescaled"
    weight.grad, bias.grad = torch.zeros(1, 2), torch.zeros(1)
    optimizer.param_groups[0]["weight_decay"] = 0.0
    optimizer.step()
    assert torch.allclose(weight, torch.tensor([[3.0, 4.0 - 2 * step - 2 * 0.9 * step]])), "momentum 0.9"


def test_lars_can_leave_zero() -> None:
    weight = torch.nn.Parameter(torch.zeros(2, 2))
    weight.grad = torch.ones(2, 2)
    LARS([weight], lr=0.5).step()
    assert torch.equal(weight.detach(), torch.full((2, 2), -0.5))
