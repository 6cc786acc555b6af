"""Poolings against hand-computed values, timm, and padding."""

import dataclasses
import functools

import pytest
import torch
from oracles import oracle
from small_models import MODEL
from torch import nn

from ablative.study.core.errors import ConfigError
from ablative.trainer.clip.models.pooling import AttentionPool, Head, MaxPool, MeanPool, image_pool, make_pool
from ablative.trainer.clip.spec.checks import check_model

TOKENS = torch.tensor([[[1.0, -5.0], [3.0, -1.0], [8.0, -9.0]]])
VALID = torch.tensor([[True, True, False]])


def test_mean_by_hand() -> None:
    torch.testing.assert_close(MeanPool()(TOKENS), torch.tensor([[4.0, -5.0]]))
    torch.testing.assert_close(MeanPool()(TOKENS, VALID), torch.tensor([[2.0, -3.0]]))


def test_max_by_hand() -> None:
    """With padding as zeros, a plain maximum would give 0 for the all-negative channel."""
    torch.testing.assert_close(MaxPool()(TOKENS), torch.tensor([[8.0, -1.0]]))
    padded = TOKENS.masked_fill(~VALID[..., None], 0)
    torch.testing.assert_close(MaxPool()(padded, VALID), torch.tensor([[3.0, -1.0]]))


@pytest.mark.parametrize(("whole", "expected"), [(False, [5.5, -5.0]), (True, [4.0, -5.0])])
def test_the_mean_may_take_the_class_token_in(whole: bool, expected: list[float]) -> None:
    """It is the first token: the mean of (3, 8) and (−1, −9), or of all three."""
    model = dataclasses.replace(MODEL, class_token=True, pooling="gap", pool_class_token=whole)
    torch.testing.assert_close(image_pool(model)(TOKENS), torch.tensor([expected]))
    for changes in ({"class_token": False}, {"pooling": "cls"}):
        with pytest.raises(ConfigError, match=r"model\.pool_class_token: true, and"):
            check_model(dataclasses.replace(model, pool_class_token=True, **changes))


def make_attention_pool(residual: bool = False) -> AttentionPool:
    torch.manual_seed(0)
    pool = AttentionPool(32, 4, 4.0, residual)
    for parameter in pool.parameters():  # biases too, which start at zero elsewhere
        nn.init.normal_(parameter, std=0.3)
    return pool


def test_attention_pool_agrees_with_timm() -> None:
    pool = make_attention_pool()
    timm_pool = oracle("timm.layers").AttentionPoolLatent(
        32, num_heads=4, mlp_ratio=4.0, norm_layer=functools.partial(nn.LayerNorm, eps=1e-6)
    )
    renamed = {"key_value.": "kv.", "query.": "q.", "out.": "proj.", "mlp.up.": "mlp.fc1.", "mlp.proj.": "mlp.fc2."}
    state = {}
    for name, value in pool.state_dict().items():
        for ours, theirs in renamed.items():
            name = name.replace(ours, theirs)
        state[name] = value
    state["latent"] = state.pop("probe")[None]
    timm_pool.load_state_dict(state)
    tokens = torch.randn(3, 7, 32)
    torch.testing.assert_close(pool(tokens), timm_pool(tokens), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("residual", [False, True])
def test_attention_pool_by_hand(residual: bool) -> None:
    """softmax(qKᵀ/√d)V head by head, the probe added back where `residual`, then x + MLP(LN x)."""
    pool, tokens = make_attention_pool(residual), torch.randn(1, 3, 32)
    probe = pool.probe_norm(pool.probe) if residual else pool.probe
    q, (k, v) = pool.query(probe), pool.key_value(tokens[0]).chunk(2, dim=-1)
    heads = []
    for start in range(0, 32, 8):
        part = slice(start, start + 8)
        heads.append((q[:, part] @ k[:, part].T / 8**0.5).softmax(-1) @ v[:, part])
    x = pool.out(torch.cat(heads, dim=-1)) + (pool.probe if residual else 0)
    expected = x + pool.mlp(pool.norm(x))
    torch.testing.assert_close(pool(tokens), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["map", "gap", "max"])
def test_padding_never_matters(kind: str) -> None:
    """Neither its content nor its amount: three valid elements pool alike alone and among junk."""
    torch.manual_seed(0)
    pool, tokens = make_pool(kind, 32, 4, 4.0), torch.randn(2, 6, 32)
    valid = torch.arange(6) < torch.tensor([[3], [6]])
    junk = tokens.masked_fill(~valid[..., None], 1e4)
    torch.testing.assert_close(pool(junk, valid), pool(tokens, valid))
    torch.testing.assert_close(pool(tokens, valid)[:1], pool(tokens[:1, :3]))


def test_head_order_of_norm_and_pooling() -> None:
    """`norm_here` normalises the pooled vector; otherwise the head leaves it as it comes."""
    tokens = torch.randn(2, 5, 8)
    after, before = Head(MaxPool(), 8, 4, norm_here=True), Head(MaxPool(), 8, 4, norm_here=False)
    torch.testing.assert_close(before.pooled(tokens), tokens.amax(1))
    torch.testing.assert_close(
        after.pooled(tokens), nn.functional.layer_norm(tokens.amax(1), (8,), eps=1e-6), atol=1e-5, rtol=1e-5
    )


def test_head_gives_unit_vectors() -> None:
    torch.manual_seed(0)
    head, tokens = Head(MeanPool(), 8, 4, norm_here=False), torch.randn(2, 5, 8)
    torch.testing.assert_close(head(tokens).norm(dim=-1), torch.ones(2))
    expected = tokens @ head.project.weight.T
    torch.testing.assert_close(head.elements(tokens), expected / expected.norm(dim=-1, keepdim=True))


def test_unknown_pooling_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown pooling 'gpa'; did you mean 'gap'"):
        make_pool("gpa", 32, 4, 4.0)
