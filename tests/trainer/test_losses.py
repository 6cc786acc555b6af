"""Losses against hand-computed values and reference implementations."""

import math
from collections.abc import Callable

import pytest
import torch
from oracles import oracle
from torch.nn.functional import cross_entropy, linear, normalize

from ablative.trainer.clip.objectives.losses import (
    contrastive_loss,
    has_local_negatives,
    local_contrastive_loss,
    loss_weights,
    normalize_patches,
    pixel_loss,
    token_loss,
    token_weights,
)
from ablative.trainer.clip.spec.config import ObjectiveConfig


def make_features(size: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    image, text = torch.randn(2, size, 8, generator=generator)
    return normalize(image, dim=-1), normalize(text, dim=-1)


def test_contrastive_loss_by_hand() -> None:
    """Cosines [[1, .6], [0, .8]] at scale 2: rows and columns of logits [[2, 1.2], [0, 1.6]]."""
    image, text = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    i2t = -(math.log(math.e**2 / (math.e**2 + math.e**1.2)) + math.log(math.e**1.6 / (math.e**0 + math.e**1.6))) / 2
    t2i = -(math.log(math.e**2 / (math.e**2 + math.e**0)) + math.log(math.e**1.6 / (math.e**1.2 + math.e**1.6))) / 2
    assert contrastive_loss(image, text, 2.0).item() == pytest.approx((i2t + t2i) / 2, rel=1e-6)


def test_contrastive_loss_agrees_with_open_clip() -> None:
    image, text = (x.requires_grad_() for x in make_features())
    scale = torch.tensor(14.0, requires_grad=True)
    ours = torch.autograd.grad(contrastive_loss(image, text, scale), (image, text, scale))
    theirs = torch.autograd.grad(oracle("open_clip").ClipLoss()(image, text, scale), (image, text, scale))
    torch.testing.assert_close(contrastive_loss(image, text, scale), oracle("open_clip").ClipLoss()(image, text, scale))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_contrastive_gradients_keep_every_bit() -> None:
    """Finished runs are compared with new ones of the same id, so the order in which gradients are summed is fixed."""
    features = torch.randn(2, 33, 16, generator=torch.Generator().manual_seed(0))

    def gradient(loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> torch.Tensor:
        given = features.clone().requires_grad_()
        unit = normalize(given, dim=-1)
        loss(unit[0], unit[1]).backward()
        assert given.grad is not None
        return given.grad

    def reference(image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        logits = 14.3 * (image[None] @ text[None].transpose(1, 2))
        paired = logits.diagonal(dim1=1, dim2=2)
        return ((logits.logsumexp(2) + logits.logsumexp(1)) / 2 - paired).mean()

    assert torch.equal(gradient(lambda image, text: contrastive_loss(image, text, 14.3)), gradient(reference))


def test_contrastive_loss_keeps_fp32_under_autocast() -> None:
    image, text = make_features()
    with torch.autocast("cpu", torch.bfloat16):
        narrow = contrastive_loss(image, text, 100.0)
    torch.testing.assert_close(narrow, contrastive_loss(image, text, 100.0))


def test_local_loss_is_the_mean_over_groups() -> None:
    image, text = make_features(12)
    groups = [contrastive_loss(image[i : i + 4], text[i : i + 4], 5.0) for i in (0, 4, 8)]
    torch.testing.assert_close(local_contrastive_loss(image, text, 5.0, 4), torch.stack(groups).mean())
    torch.testing.assert_close(local_contrastive_loss(image, text, 5.0, 12), contrastive_loss(image, text, 5.0))
    torch.testing.assert_close(local_contrastive_loss(image, text, 5.0, 99), contrastive_loss(image, text, 5.0))


def test_local_loss_weighs_a_smaller_last_group_by_its_samples() -> None:
    image, text = make_features(12)
    expected = (
        contrastive_loss(image[:5], text[:5], 5.0) * 5
        + contrastive_loss(image[5:10], text[5:10], 5.0) * 5
        + contrastive_loss(image[10:], text[10:], 5.0) * 2
    ) / 12
    torch.testing.assert_close(local_contrastive_loss(image, text, 5.0, 5), expected)


def test_patches_are_normalised_by_unbiased_variance() -> None:
    """(1, 2, 3, 6): mean 3, unbiased variance 14/3 (biased 3.5)."""
    expected = torch.tensor([-2.0, -1.0, 0.0, 3.0]) / math.sqrt(14 / 3 + 1e-6)
    torch.testing.assert_close(normalize_patches(torch.tensor([1.0, 2.0, 3.0, 6.0])), expected)
    assert not normalize_patches(torch.full((4,), 7.0)).any()  # a flat patch is zeros, not a division by zero


def test_pixel_loss_by_hand() -> None:
    predicted = torch.tensor([[[1.0, 2.0], [0.0, 0.0]], [[1.0, 1.0], [1.0, 1.0]]])
    target = torch.tensor([[[0.0, 0.0], [0.0, 1.0]], [[1.0, 1.0], [1.0, 3.0]]])
    assert pixel_loss(predicted, target).tolist() == [(1 + 4 + 0 + 1) / 4, 4 / 4]


def test_token_loss_by_hand() -> None:
    """Logits (0, ln 3) and (0, 0)."""
    rows, weight, bias = torch.tensor([[math.log(3.0)], [0.0]]), torch.tensor([[0.0], [1.0]]), torch.zeros(2)
    expected = torch.tensor([-math.log(0.75), math.log(2.0)])
    torch.testing.assert_close(token_loss(rows, weight, bias, torch.tensor([1, 0])), expected)


@pytest.mark.parametrize("count", [0, 1, 256, 700])
def test_token_loss_and_gradients_agree_with_torch(count: int) -> None:
    """One head and cross-entropy for all, whatever the number of chunks, unequal weights of the rows included."""
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(*shape, generator=generator).requires_grad_() for shape in ((count, 6), (40, 6), (40,))]
    targets = torch.randint(0, 40, (count,), generator=generator)
    weights = torch.rand(count, generator=generator)
    ours = token_loss(*inputs, targets)
    theirs = cross_entropy(linear(*inputs), targets, reduction="none")
    torch.testing.assert_close(ours, theirs)
    got = torch.autograd.grad((ours * weights).sum(), inputs, retain_graph=True)
    for a, b in zip(got, torch.autograd.grad((theirs * weights).sum(), inputs), strict=True):
        torch.testing.assert_close(a, b)
    again = torch.autograd.grad((ours * weights).sum(), inputs)
    assert all(torch.equal(a, b) for a, b in zip(got, again, strict=True))


def test_token_loss_stores_one_matrix_of_logits() -> None:
    """Neither logits nor a gradient of the stored one: at 49,408 words each is the largest tensor of a step."""
    inputs = [torch.randn(*shape).requires_grad_() for shape in ((300, 6), (400, 6), (400,))]
    targets = torch.randint(0, 400, (300,))
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profiler:
        token_loss(*inputs, targets).sum().backward()
    taken = [event.self_cpu_memory_usage for event in profiler.events() or ()]
    assert sum(size >= 4 * 300 * 400 for size in taken) == 1


def test_token_loss_under_autocast_is_near_and_fp32() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(*shape, generator=generator) for shape in ((50, 6), (40, 6), (40,))]
    targets = torch.randint(0, 40, (50,), generator=generator)
    with torch.autocast("cpu", torch.bfloat16):
        narrow = token_loss(*inputs, targets)
    assert narrow.dtype == torch.float32
    torch.testing.assert_close(narrow, token_loss(*inputs, targets), atol=0.1, rtol=0.02)


def test_token_weights_average_as_named() -> None:
    """Sums 6, 4, 0 over 3, 1, 0 tokens: per sample (2 + 4 + 0) / 3, per token 10 / 4."""
    counts, sums = torch.tensor([3, 1, 0]), torch.tensor([6.0, 4.0, 0.0])
    assert (token_weights(counts, "sample") * sums).sum().item() == pytest.approx(2.0)
    assert (token_weights(counts, "token") * sums).sum().item() == pytest.approx(2.5)
    assert not (token_weights(torch.zeros(2), "token") * torch.zeros(2)).any()


@pytest.mark.parametrize(
    ("name", "step", "expected"),
    [
        ("clip", 0, {"contrastive": 1}),
        ("mae_clip", 499, {"contrastive": 1, "image": 1, "text": 1}),
        ("mae_clip", 500, {"contrastive": 1, "image": 0.1, "text": 0.05}),
        ("mae", 0, {"image": 1}),
        ("m3ae", 900, {"image": 1, "text": 0.5}),
    ],
)
def test_loss_weights(name: str, step: int, expected: dict[str, float]) -> None:
    """The paper's: 500 local, unweighted steps; then w_i = .1, w_t = .05."""
    assert loss_weights(ObjectiveConfig(name=name), step) == expected


@pytest.mark.parametrize(("name", "step", "local"), [("clip", 499, True), ("clip", 500, False), ("m3ae", 0, False)])
def test_local_negatives(name: str, step: int, local: bool) -> None:
    assert has_local_negatives(ObjectiveConfig(name=name), step) == local


def test_m3ae_of_text_alone() -> None:
    assert loss_weights(ObjectiveConfig(name="m3ae", w_image=0.0), 0) == {"image": 0, "text": 1}
    assert loss_weights(ObjectiveConfig(name="m3ae", w_image=0.0, w_text=0.0), 0) == {"image": 0, "text": 1}
    assert loss_weights(ObjectiveConfig(name="mae", w_image=0.0), 0) == {"image": 1}
