"""Facts of a record: device, utilisation, attempts; and who is blamed for a divergence."""

from __future__ import annotations

import pytest
import torch
from tiny_run import make_batch, make_config

from ablative.study.core.errors import ConfigError
from ablative.trainer.clip.models.flops import train_flops
from ablative.trainer.clip.train import Training
from ablative.trainer.runner.record import AttemptTotals, attempt_totals
from ablative.trainer.torch.devices import arithmetic, choose_device
from ablative.trainer.torch.divergence import Divergence, DivergenceWatch, bad_parameter
from ablative.trainer.torch.meter import utilisation

CPU = torch.device("cpu")


def test_utilisation_by_hand() -> None:
    assert utilisation(494.5e12, "bf16", "NVIDIA H200") == pytest.approx(50.0)
    assert utilisation(78e12, "fp32", "NVIDIA A100-SXM4-80GB") == pytest.approx(50.0)
    assert utilisation(1e12, "bf16", "NVIDIA GeForce RTX 3080") is None


def test_flops_of_a_sample_use_the_lengths_of_the_captions() -> None:
    class Stand:
        """Tokenizer and pairs, as far as a training asks."""

        fingerprint, vocab_size = "f", 64

    config = make_config("mae_clip")
    training = Training(config, Stand(), Stand(), CPU)  # type: ignore[arg-type]
    batch = make_batch(8)
    training.advance(batch)
    tokens = float((batch.tokens != 0).sum() / 8)
    # Captions of at most 8 tokens: the text tower computes 8 of the 12.
    assert training._sample_flops() == train_flops(config.model, config.objective, tokens, 8, 64)


def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == CPU
    with pytest.raises(ConfigError, match="no CUDA device; use auto or cpu"):
        choose_device("cuda")


def test_arithmetic_is_deterministic_inside_and_as_before_outside() -> None:
    with pytest.raises(RuntimeError, match="boom"), arithmetic(CPU, 1):
        assert torch.are_deterministic_algorithms_enabled() and torch.get_num_threads() == 1
        raise RuntimeError("boom")
    assert not torch.are_deterministic_algorithms_enabled()


def test_attempts_by_hand() -> None:
    entries = [
        {"t": 1000, "kind": "event", "name": "started"},
        {"t": 1500, "kind": "params", "values": {}},
        {"t": 3000, "kind": "metrics", "step": 1, "values": {}},
        {"t": 9000, "kind": "event", "name": "resumed"},
        {"t": 9250, "kind": "event", "name": "interrupted"},
    ]
    assert attempt_totals(entries) == AttemptTotals(attempts=2, seconds=2.25, started=1.0, configured=True)
    assert attempt_totals([]) == AttemptTotals(attempts=0, seconds=0.0, started=None, configured=False)


def test_the_first_bad_step_and_its_culprit() -> None:
    nan, inf = float("nan"), float("inf")
    watch = DivergenceWatch(("image", "text"), ("first", "second", "last"), CPU)
    watch.update(1, torch.tensor([1.0, 2.0, 0.1, 1e30, 0.0]))
    assert watch.verdict() is None
    # Gradients went bad in the second layer and spread to the first: the last layer's is sound.
    watch.update(2, torch.tensor([1.0, 2.0, inf, nan, 0.1]))
    watch.update(3, torch.tensor([nan, 2.0, nan, nan, nan]))
    assert watch.verdict() == Divergence(2, "gradient of second")
    for value in (nan, inf, 1e5):
        watch = DivergenceWatch(("image", "text"), ("first",), CPU)
        watch.update(7, torch.tensor([1.0, value, nan]))
        assert watch.verdict() == Divergence(7, "text loss")


def test_a_bad_weight_of_the_last_update() -> None:
    layer = torch.nn.Linear(2, 2)
    assert bad_parameter(layer, 3) is None
    with torch.no_grad():
        layer.bias[1] = float("nan")
    assert bad_parameter(layer, 3) == Divergence(3, "parameter bias")
