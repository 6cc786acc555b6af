"""What the image tower of a ViT has besides patches, and CLIP's text tower, against timm's and open_clip's."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from oracles import oracle
from small_models import MODEL, VOCAB
from small_systems import make_batch, make_system
from test_step import gradients
from tiny_run import CANCELLED, make_config
from torch import Tensor, nn

from ablative.study.core.errors import ConfigError
from ablative.trainer.clip.models.blocks import Transformer
from ablative.trainer.clip.models.pooling import LastPool
from ablative.trainer.clip.models.positions import resampling
from ablative.trainer.clip.models.splits import MaskSplit
from ablative.trainer.clip.models.towers import ImageTower, TextTower
from ablative.trainer.clip.spec.checks import check_evaluation, check_protocol, check_run, check_start
from ablative.trainer.clip.spec.config import ModelConfig, ProtocolConfig

TRUNK = dataclasses.replace(MODEL, class_token=True, positions="learned", pooling="cls", text_pooling="eos")


def tower(seed: int = 0, mask_token: bool = False, **changes: Any) -> ImageTower:
    """With weights and biases that are all of some size."""
    torch.manual_seed(seed)
    found = ImageTower(dataclasses.replace(TRUNK, **changes), mask_token=mask_token)
    for parameter in found.parameters():
        nn.init.normal_(parameter, std=0.2)
    return found.eval()


def timms(own: ImageTower) -> nn.Module:
    """timm's ViT with the weights of a tower; its class token has a position, here 0."""
    theirs = oracle("timm.models.vision_transformer").VisionTransformer(
        img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=4, num_classes=0, global_pool="token"
    )
    state = own.state_dict()
    renamed = {
        "cls_token": state["class_token"][None, None],
        "pos_embed": torch.cat([torch.zeros(1, 32), state["positions"]])[None],
        # Ours: inside a patch rows, columns, channels; a convolution's kernel: channels first.
        "patch_embed.proj.weight": state["stem.project.weight"].unflatten(1, (8, 8, 3)).permute(0, 3, 1, 2),
        "patch_embed.proj.bias": state["stem.project.bias"],
    }
    words = {
        "trunk.": "",
        "attention.qkv": "attn.qkv",
        "attention.out": "attn.proj",
        "mlp.up": "mlp.fc1",
        "mlp.out": "mlp.fc2",
    }
    for name, value in state.items():
        if name.startswith(("trunk", "norm")):
            for ours, its in words.items():
                name = name.replace(ours, its)
            renamed[name] = value
    theirs.load_state_dict(renamed)
    return theirs.eval()


def test_class_token_learned_positions_and_taps_agree_with_timm() -> None:
    own, (images, _) = tower(), make_batch()
    theirs = timms(own)
    torch.testing.assert_close(own(images), theirs.forward_features(images), atol=1e-4, rtol=1e-4)
    taps = theirs.get_intermediate_layers(images, n=[0, 1], norm=False)
    for found, expected in zip(own.taps(images, (1, 2)), taps, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert len(own.taps(images, (1,))) == 1


def test_mask_tokens_are_in_the_places_of_hidden_patches_as_in_beit() -> None:
    """BEiT `forward_features`: the mask token is in the place of hidden patches, then positions are added."""
    own, (images, _) = tower(mask_token=True), make_batch()
    theirs, hidden = timms(own), torch.stack([torch.randperm(16)[:12] for _ in images])
    masked = torch.zeros(len(images), 16, 1).scatter(1, hidden[..., None], 1.0)
    assert own.mask_token is not None
    x = theirs.patch_embed(images) * (1 - masked) + own.mask_token * masked
    expected = theirs.norm(theirs.blocks(theirs._pos_embed(x)))
    torch.testing.assert_close(own(images, hidden=hidden), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("stem", ["linear", "conv"])
def test_nothing_of_a_hidden_patch_is_seen(stem: str) -> None:
    """A convolution's receptive field reaches into neighbours."""
    own, (images, _) = tower(mask_token=True, stem=stem), make_batch()
    split = MaskSplit(torch.arange(4).expand(5, -1), torch.arange(4, 16).expand(5, -1))
    changed = images.clone()
    changed[:, :, 8:] = 9.0  # everything below the first row of patches
    torch.testing.assert_close(own.masked(changed, split), own.masked(images, split))
    assert own.masked(images, split).shape == (5, 17, 32)


def test_the_value_path_is_attention_of_every_element_to_itself() -> None:
    own, (images, _) = tower(), make_batch()
    first, last = own.trunk.blocks
    itself = torch.eye(17, dtype=torch.bool)[None, None]
    expected = own.norm(last(first(own._embedded(images)), itself))[:, 1:]
    torch.testing.assert_close(own.values(images), expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(own.values(images), own.patches(own(images)), atol=1e-2)


def test_resampled_positions_agree_with_timm() -> None:
    layers = oracle("timm.layers")
    for side, to in ((14, 24), (4, 3)):
        values = torch.randn(side * side, 8)
        expected = layers.resample_abs_pos_embed(values[None], [to, to], [side, side], num_prefix_tokens=0)[0]
        torch.testing.assert_close(resampling(side, to, to) @ values, expected, atol=1e-5, rtol=1e-5)
    smaller, larger = (
        tower(positions="sincos", class_token=False),
        tower(positions="sincos", image_size=64, position_grid=4),
    )
    assert larger.positions.shape == (64, 32), "fixed ones are resampled once"
    torch.testing.assert_close(larger.positions, resampling(4, 8, 8) @ smaller.positions)


def test_stochastic_depth_agrees_with_timm() -> None:
    """The last block is left out of samples as often as it says, and the others' branches are as much larger."""
    drop_path = oracle("timm.layers").drop_path
    torch.manual_seed(0)
    stack, x = Transformer(8, 3, 2, 4.0, drop_path=0.4), torch.ones(4, 3, 8)
    assert stack.rates == pytest.approx([0.0, 0.2, 0.4])
    kept = drop_path(torch.ones(4000, 1, 1), 0.4, training=True)
    shares = stack._shares(torch.rand(4000, 6), 2)
    torch.testing.assert_close(shares.unique(), kept.unique())
    assert shares.mean(0).tolist() == pytest.approx([1.0, 1.0], abs=0.05)
    torch.testing.assert_close(stack(x, paths=torch.zeros(4, 6)), next(stack.outputs(x)), msg="blocks 2, 3 left out")
    torch.testing.assert_close(stack(x, paths=None), Transformer.forward(stack, x))


@pytest.mark.parametrize("objective", ["mae_clip similarity", "maskclip_no_ema", "clip_simclr"])
def test_stochastic_depth_is_the_same_in_pieces_and_when_it_is_computed_again(objective: str) -> None:
    changes: dict[str, Any] = {"model__depth": 2, "model__drop_path": 0.5, "model__class_token": True}
    losses, expected = gradients(make_config(objective, **changes))
    assert not torch.equal(losses, gradients(make_config(objective, **changes | {"model__drop_path": 0.0}))[0])
    for runtime in (
        {"runtime__checkpoint_activations": True},
        {"runtime__micro_batch": 3, "runtime__checkpoint_activations": True},
    ):
        found_losses, found = gradients(make_config(objective, **changes, **runtime))
        torch.testing.assert_close(found_losses, losses, rtol=1e-5, atol=1e-6)
        for name in expected.keys() - {*CANCELLED}:
            scale = float(expected[name].abs().max())
            torch.testing.assert_close(found[name], expected[name], rtol=1e-3, atol=1e-5 * scale + 1e-8, msg=name)


def text_tower() -> TextTower:
    torch.manual_seed(0)
    found = TextTower(dataclasses.replace(MODEL, text_causal=True), VOCAB)
    for parameter in found.parameters():
        nn.init.normal_(parameter, std=0.2)
    return found.eval()


def test_causal_text_with_its_end_marker_agrees_with_open_clip() -> None:
    """CLIP takes the place of the largest token, which the end marker is there."""
    own, (_, tokens) = text_tower(), make_batch()
    valid = tokens != 0
    tokens = tokens.clamp(max=VOCAB - 2).scatter(1, valid.sum(1, keepdim=True) - 1, VOCAB - 1)
    theirs = oracle("open_clip.transformer").TextTransformer(
        context_length=12,
        vocab_size=VOCAB,
        width=24,
        heads=2,
        layers=2,
        output_dim=24,
        pool_type="argmax",
        proj_bias=False,
    )
    words = {
        "trunk.blocks": "transformer.resblocks", "attention.qkv.": "attn.in_proj_", "attention.out": "attn.out_proj",
        "mlp.up": "mlp.c_fc", "mlp.out": "mlp.c_proj", "norm1": "ln_1", "norm2": "ln_2", "embedding": "token_embedding",
        "positions": "positional_embedding",
    }  # fmt: skip
    state = {"text_projection": torch.eye(24), "attn_mask": torch.full((12, 12), -torch.inf).triu(1)}
    for name, value in own.state_dict().items():
        for ours, its in words.items():
            name = name.replace(ours, its)
        state["ln_final." + name.removeprefix("norm.") if name.startswith("norm.") else name] = value
    theirs.load_state_dict({name: value for name, value in state.items() if name in theirs.state_dict()})
    for norm in (module for module in theirs.modules() if isinstance(module, nn.LayerNorm)):
        norm.eps = 1e-6
    torch.testing.assert_close(LastPool()(own(tokens, valid), valid), theirs(tokens), atol=1e-4, rtol=1e-4)


def test_causal_text_without_some_tokens_is_in_the_order_of_the_places() -> None:
    """The rest of a caption, in any order of the slots, is what a caption without those places is."""
    own, (_, tokens) = text_tower(), make_batch()
    places = torch.tensor([[5, 0, 3, 8]])
    valid = torch.tensor([[True, True, True, False]])
    found = own(tokens[1:2], valid, places)
    for slot, seen in ((0, [0, 1, 2]), (1, [1]), (2, [1, 2])):
        alone = TextTower.forward(own, tokens[1:2], torch.ones(1, len(seen), dtype=torch.bool), places[:, seen])
        torch.testing.assert_close(found[:, slot], alone[:, seen.index(slot)], atol=1e-5, rtol=1e-5)
    own.zero_grad()
    found[valid].sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in own.parameters())


@pytest.mark.parametrize("pooling", ["cls", "map", "gap"])
def test_poolings_other_than_the_class_token_see_patches_alone(pooling: str) -> None:
    system, (images, _) = make_system("clip", class_token=True, pooling=pooling, text_pooling="eos"), make_batch()
    whole: Tensor = system.image(images)
    other = whole.clone()
    other[:, 0] += 1.0
    same = torch.equal(system.image_head(whole), system.image_head(other))
    assert same == (pooling != "cls")
    assert system.patch_embeddings(images).shape == system.patch_embeddings(images, "values").shape == (5, 16, 16)
    assert system.image_features(images, "mean").shape == system.image_features(images, "mean", tap=1).shape


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__pooling": "cls"}, "model.pooling: cls pools the class token, and the model has none"),
        (
            {"model__pooling": "cls", "model__class_token": True},
            "captions have no class token; choose map, gap, max, eos",
        ),
        ({"objective__input_text_mask_ratio": 0.5, "model__text_pooling": "eos"}, "may drop the end marker"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_run(make_config("masked_clip", **changes))
    check_run(make_config("mae", **changes | {"model__class_token": True}))


@pytest.mark.parametrize(
    ("objective", "changes", "message"),
    [
        ("clip", {"model__image_size": 32}, "positions for 4 × 4 patches; choose the same, or model.position_grid=4"),
        ("clip", {"model__image_size": 32, "model__position_grid": 3}, "model.position_grid=4"),
        ("clip", {"model__image_size": 32, "model__position_grid": 4}, ""),
        ("clip", {"model__patch_size": 8}, "model.patch_size: 8, and the run that this one starts from has 4"),
        (
            "two_stage",
            {"model__image_size": 32, "model__position_grid": 4},
            "model.image_size: 32, and the run whose features",
        ),
        (
            "two_stage",
            {"model__class_token": True},
            "model.class_token: True, and the run whose features this one learns",
        ),
    ],
)
def test_a_parent_with_other_patches_is_refused_or_its_positions_are_resampled(
    objective: str, changes: dict[str, Any], message: str
) -> None:
    if not message:
        return check_start(make_config(objective, **changes), make_config("clip"))
    with pytest.raises(ConfigError, match=message.replace(".", r"\.")):
        check_start(make_config(objective, **changes), make_config("clip"))
    return None


def test_features_of_a_block_are_refused_where_there_is_none() -> None:
    with pytest.raises(ConfigError, match=r"protocol\.probe\.tap: 3, and the image tower has 2 blocks"):
        check_evaluation(ProtocolConfig(name="probe", kind="linear_probe", features="mean", tap=3), (), MODEL)
    with pytest.raises(ConfigError, match=r"set p\.features=mean, or tap=0"):
        check_protocol(ProtocolConfig(name="probe", kind="linear_probe", tap=1), "p")


def test_defaults_are_the_towers_as_they_were() -> None:
    plain: ModelConfig = MODEL
    own = ImageTower(plain)
    assert own.class_token is None and own.mask_token is None and own.extra == 0
    assert {name.split(".")[0] for name in own.state_dict()} == {"stem", "trunk", "norm"}
