"""One optimiser step: micro-batches change nothing, the local phase is the mean over groups."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from small_systems import embed
from tiny_run import CANCELLED, MODEL, OBJECTIVES, make_batch, make_config

from ablative.trainer.clip.data.pairs.batch import to_pixels
from ablative.trainer.clip.micro_batches import by_length
from ablative.trainer.clip.models.blocks import Block
from ablative.trainer.clip.models.towers import trim_padding
from ablative.trainer.clip.objectives.losses import contrastive_loss
from ablative.trainer.clip.objectives.system import System
from ablative.trainer.clip.optim import learning_rate, make_optimizer
from ablative.trainer.clip.spec.config import DistillConfig, RunConfig, ScheduleConfig, SimclrConfig
from ablative.trainer.clip.step import FirstPass, Gradients, TrainStep, in_order

CPU = torch.device("cpu")


def gradients(config: RunConfig, step: int = 100) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    torch.manual_seed(1)
    system = System(config.model, config.objective, MODEL.vocab_size)
    batch = make_batch(config.schedule.batch_size)
    draws = system.draw(len(batch), torch.Generator().manual_seed(2))
    losses = Gradients(system, config, CPU)(step, batch, draws)
    return losses, {name: parameter.grad for name, parameter in system.named_parameters()}


@pytest.mark.parametrize("step", [0, 100])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_micro_batches_give_the_gradient_of_the_whole_batch(objective: str, step: int) -> None:
    losses, expected = gradients(make_config(objective), step)
    for micro_batch in (1, 3, 8):
        found_losses, found = gradients(make_config(objective, runtime__micro_batch=micro_batch), step)
        torch.testing.assert_close(found_losses, losses, rtol=1e-5, atol=1e-6)
        for name in expected.keys() - {*CANCELLED}:
            gradient = expected[name]
            scale = float(gradient.abs().max())
            torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-5 * scale + 1e-8, msg=name)


def test_pieces_hold_captions_of_like_length() -> None:
    """One caption of 20 tokens among seven of 3: alone it is padded to 20, the others to 8."""
    tokens = torch.zeros(8, 20, dtype=torch.int64)
    tokens[:, :3] = 5
    tokens[2] = 5
    places = by_length(tokens, 4)
    assert [piece.tolist() for piece in places] == [[0, 1, 3, 4], [5, 6, 7, 2]]
    assert [trim_padding(tokens[piece]).shape[1] for piece in places] == [8, 20]
    assert by_length(tokens, 8) == [slice(None)], "one piece stays in its order"
    first_passes = [FirstPass({}, {}, piece) for piece in places]
    assert in_order([piece * 10 for piece in places], first_passes).tolist() == [10 * i for i in range(8)]


@pytest.mark.parametrize("objective", ["clip", "m3ae", "mae_clip similarity"])
def test_pieces_of_unlike_lengths_give_the_gradient_of_the_whole_batch(
    objective: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trimmed to multiples of 2, so that the pieces of these short captions differ in length; in the local phase, order
    decides who is compared with whom."""
    monkeypatch.setattr("ablative.trainer.clip.step.trim_padding", lambda tokens: trim_padding(tokens, 2))
    losses, expected = gradients(make_config(objective), step=0)
    found_losses, found = gradients(make_config(objective, runtime__micro_batch=3), step=0)
    torch.testing.assert_close(found_losses, losses, rtol=1e-5, atol=1e-6)
    for name, gradient in expected.items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-5 * scale + 1e-8, msg=name)


def test_pieces_without_the_batch_would_be_noticed() -> None:
    """The tolerance above is not so wide that losses per piece (fewer negatives) would pass."""
    _, expected = gradients(make_config("clip"))
    _, local = gradients(make_config("clip", objective__local_batch=4), step=0)
    error = float((local["image_head.project.weight"] - expected["image_head.project.weight"]).norm())
    assert error > 0.1 * float(expected["image_head.project.weight"].norm())


@pytest.mark.parametrize("micro_batch", [0, 3])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_recomputed_activations_give_the_same_gradient(
    precision: str, micro_batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last bit, and every block is computed once more for each pass that has a gradient."""
    calls: list[int] = []
    forward = Block.forward
    monkeypatch.setattr(Block, "forward", lambda *args: calls.append(1) or forward(*args))
    changes = {"schedule__precision": precision, "runtime__micro_batch": micro_batch}
    losses, expected = gradients(make_config("mae_clip similarity", **changes))
    once = len(calls)
    again = make_config("mae_clip similarity", **changes, runtime__checkpoint_activations=True)
    found_losses, found = gradients(again)
    assert torch.equal(found_losses, losses)
    assert all(torch.equal(found[name], gradient) for name, gradient in expected.items())
    # Two towers see each piece twice, the decoder once. Of three pieces, two have a first pass without a graph before.
    assert (once, len(calls) - once) == ((5, 10) if not micro_batch else (3 * 5 + 2 * 2, 3 * 10 + 2 * 2))


def test_bf16_micro_batches_agree_within_its_rounding() -> None:
    losses, expected = gradients(make_config("mae_clip", schedule__precision="bf16"))
    found_losses, found = gradients(make_config("mae_clip", schedule__precision="bf16", runtime__micro_batch=3))
    torch.testing.assert_close(found_losses, losses, rtol=2e-2, atol=1e-3)
    error = sum(float((found[name] - gradient).square().sum()) for name, gradient in expected.items())
    norm = sum(float(gradient.square().sum()) for gradient in expected.values())
    assert error**0.5 <= 0.05 * norm**0.5
    fp32, _ = gradients(make_config("mae_clip"))
    assert not torch.equal(fp32, losses), "bf16 was not used"


@pytest.mark.parametrize("objective", [name for name in OBJECTIVES if "clip" in name or "two" in name or "sim" in name])
def test_a_bf16_step_agrees_with_fp32_within_its_rounding(objective: str) -> None:
    """bf16 keeps 8 bits, 0.4 % a rounding: losses agree to 3 %, the gradient of the image tower points the same way."""
    fp32, expected = gradients(make_config(objective))
    bf16, found = gradients(make_config(objective, schedule__precision="bf16"))
    torch.testing.assert_close(bf16, fp32, rtol=3e-2, atol=1e-3)
    assert not torch.equal(bf16, fp32), "bf16 was not used"
    tower = [name for name in expected if name.startswith("image.")]
    left, right = (torch.cat([grads[name].flatten() for name in tower]) for grads in (expected, found))
    assert float(torch.cosine_similarity(left, right, dim=0)) > 0.99
    assert float(right.norm()) == pytest.approx(float(left.norm()), rel=0.05)


def test_local_phase_is_the_unweighted_sum_with_the_mean_over_groups() -> None:
    config = make_config("mae_clip", objective__w_image=0.1, objective__w_text=0.05)
    system = System(config.model, config.objective, MODEL.vocab_size)
    update = TrainStep(system, config, CPU)
    batch = make_batch(8)
    draws = system.draw(8, torch.Generator())
    with torch.no_grad():
        features = embed(system, to_pixels(batch.images), batch.tokens, draws)
        groups = [
            contrastive_loss(features.image[rows], features.text[rows], 1 / 0.07) for rows in (slice(0, 4), slice(4, 8))
        ]
        whole = contrastive_loss(features.image, features.text, 1 / 0.07)
    update(3, batch)
    local = update.metrics()
    assert local["train/contrastive"] == pytest.approx(float(sum(groups)) / 2, rel=1e-5)
    parts = [local[f"train/{name}"] for name in ("contrastive", "image", "text")]
    assert local["train/loss"] == pytest.approx(sum(parts), rel=1e-6)
    assert float(whole) != pytest.approx(float(sum(groups)) / 2, rel=1e-2)
    update(4, batch)
    after = update.metrics()
    contrastive, image, text = (after[f"train/{name}"] for name in ("contrastive", "image", "text"))
    assert after["train/loss"] == pytest.approx(contrastive + 0.1 * image + 0.05 * text, rel=1e-6)


@pytest.mark.parametrize(
    ("objective", "without"),
    [
        ("clip_mae", {"objective__w_image": 0.0}),
        ("mae_clip similarity", {"objective__w_image": 0.0, "objective__w_text": 0.0}),
        ("maskclip", {"objective__distill": DistillConfig(weight=0.0)}),
        ("maskclip_no_ema", {"objective__distill": DistillConfig(weight=0.0)}),
        ("clip_simclr", {"objective__simclr": SimclrConfig(hidden=32, dim=8, weight=0.0)}),
    ],
)
def test_each_loss_moves_the_tower(objective: str, without: dict[str, Any]) -> None:
    """Shares of its gradient, as training reports them: the contrastive loss has what is left without the others.
    Nothing else notices that they were measured, in one piece or in several."""

    def updated(micro_batch: int, **changes: Any) -> TrainStep:
        torch.manual_seed(1)
        config = make_config(objective, **changes, runtime__micro_batch=micro_batch, model__init_std=0.25)
        update = TrainStep(System(config.model, config.objective, MODEL.vocab_size), config, CPU)
        update(4, make_batch(8))
        return update

    def gradient(update: TrainStep) -> torch.Tensor:
        return torch.cat([p.grad.flatten() for p in update.system.image.parameters() if p.grad is not None])

    def taken(update: TrainStep) -> dict[str, float]:
        [(steps, found)] = update.shares.taken()
        assert steps == 5 and found == update.shares.latest and not list(update.shares.taken())
        return found

    whole, pieces = updated(0), updated(3)
    shares = taken(whole)
    print({name: f"{share:.2f} %" for name, share in shares.items()})
    assert sum(shares.values()) == pytest.approx(100) and min(shares.values()) > 0.1
    assert taken(pieces) == pytest.approx(shares, rel=1e-3)
    plain = updated(0, runtime__measure_shares=0)
    assert not list(plain.shares.taken())
    for (name, weight), other in zip(whole.parameters.items(), plain.parameters.values(), strict=True):
        assert torch.equal(weight, other), name
    alone = updated(0, **without)
    assert taken(alone)["train/share/contrastive"] == pytest.approx(100)
    if len(shares) == 2:
        own, others = gradient(alone).norm(), (gradient(whole) - gradient(alone)).norm()
        assert shares["train/share/contrastive"] == pytest.approx(float(100 * own / (own + others)), rel=1e-3)


def test_learning_rate_by_hand() -> None:
    schedule = ScheduleConfig(name="t", steps=12, batch_size=2, lr=8.0, lr_floor=2.0, warmup_steps=4)
    found = [learning_rate(schedule, step) for step in (0, 1, 3, 4, 8, 10)]
    # Half of the cosine's eight steps: (1 + cos π/2)/2 = 1/2; three quarters: (1 − √½)/2.
    expected = [2.0, 4.0, 8.0, 8.0, 2 + 6 / 2, 2 + 6 * (1 - math.sqrt(0.5)) / 2]
    assert found == pytest.approx(expected)
    assert learning_rate(ScheduleConfig(name="t", steps=3, batch_size=2, lr=1.0, warmup_steps=0), 0) == 1.0


def test_decay_spares_one_dimensional_parameters_and_takes_every_parameter_once() -> None:
    system = System(MODEL, make_config("mae_clip").objective, MODEL.vocab_size)
    optimizer = make_optimizer(system, make_config().schedule, CPU)
    decayed, spared = optimizer.param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    assert all(parameter.ndim > 1 for parameter in decayed["params"])
    assert any(parameter is system.log_scale for parameter in spared["params"])
    count = len(decayed["params"]) + len(spared["params"])
    assert count == len(list(system.parameters()))


def test_logit_scale_is_held_at_its_maximum() -> None:
    config = make_config("clip", objective__temperature=0.001, objective__max_logit_scale=100.0)
    system = System(config.model, config.objective, MODEL.vocab_size)
    update = TrainStep(system, config, CPU)
    update(0, make_batch(8))
    assert update.metrics()["train/logit_scale"] <= 100.0 * (1 + 1e-6)


def test_clipping_bounds_the_update_and_reports_the_norm_before_it() -> None:
    def one_step(clip: float) -> tuple[TrainStep, float]:
        torch.manual_seed(0)
        config = make_config("clip", schedule__grad_clip=clip)
        update = TrainStep(System(config.model, config.objective, MODEL.vocab_size), config, CPU)
        update(0, make_batch(8))
        return update, update.metrics()["train/grad_norm"]

    free, norm = one_step(0.0)
    clipped, reported = one_step(norm / 4)
    assert reported == pytest.approx(norm)
    total = torch.nn.utils.get_total_norm([p.grad for p in clipped.system.parameters()])
    assert float(total) == pytest.approx(norm / 4, rel=1e-4)
    assert float(torch.nn.utils.get_total_norm([p.grad for p in free.system.parameters()])) == pytest.approx(norm)


def test_draws_depend_on_seed_and_step_alone() -> None:
    def losses(seed: int, step: int) -> list[float]:
        torch.manual_seed(0)
        config = make_config("mae", seed=seed)
        update = TrainStep(System(config.model, config.objective, MODEL.vocab_size), config, CPU)
        update(step, make_batch(8))
        return update._losses.tolist()

    assert losses(0, 5) == losses(0, 5)
    assert losses(0, 5) != losses(0, 6)
    assert losses(0, 5) != losses(1, 5)
