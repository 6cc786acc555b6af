"""Blocks, positions, stems and towers, alone."""

import numpy as np
import pytest
import torch
from oracles import oracle
from small_models import MODEL, VOCAB
from small_systems import make_batch
from torch import nn

from ablative.trainer.clip.models.blocks import Block, LayerNorm, Transformer, initialise
from ablative.trainer.clip.models.patches import ConvStem, LinearStem, patchify
from ablative.trainer.clip.models.positions import sincos_2d
from ablative.trainer.clip.models.sizes import conv_widths
from ablative.trainer.clip.models.towers import ImageTower, TextTower, trim_padding


def mae_positions(width: int, side: int) -> np.ndarray:
    """facebookresearch/mae util/pos_embed.py, condensed."""

    def line(width: int, places: np.ndarray) -> np.ndarray:
        omega = 1.0 / 10000 ** (np.arange(width // 2, dtype=float) / (width / 2.0))
        out = np.einsum("m,d->md", places.reshape(-1), omega)
        return np.concatenate([np.sin(out), np.cos(out)], axis=1)

    grid = np.stack(np.meshgrid(np.arange(side, dtype=np.float32), np.arange(side, dtype=np.float32)), axis=0)
    return np.concatenate([line(width // 2, grid[0]), line(width // 2, grid[1])], axis=1)


@pytest.mark.parametrize(("width", "side"), [(768, 14), (512, 14), (8, 3)])
def test_positions_are_those_of_mae(width: int, side: int) -> None:
    np.testing.assert_allclose(sincos_2d(width, side).numpy(), mae_positions(width, side), atol=1e-6)


def test_positions_agree_with_timm() -> None:
    """timm has [sin row, sin column, cos row, cos column], MAE [sin column, cos column, sin row, cos row]."""
    theirs = oracle("timm.layers").build_sincos2d_pos_embed([14, 14], dim=768)
    by_axis = theirs.unflatten(1, (2, 2, 192)).transpose(1, 2).flip(1).flatten(1)
    torch.testing.assert_close(sincos_2d(768, 14), by_axis, rtol=0, atol=2e-6)


def test_positions_by_hand() -> None:
    """Width 4: [sin column, cos column, sin row, cos row], so patch 1 of a 2 × 2 grid is column 1, row 0."""
    expected = torch.tensor([np.sin(1.0), np.cos(1.0), 0.0, 1.0], dtype=torch.float32)
    torch.testing.assert_close(sincos_2d(4, 2)[1], expected)


def test_patchify_order() -> None:
    """Patches row by row; inside one, rows, then columns, then channels."""
    images = torch.arange(2 * 3 * 4 * 4, dtype=torch.float32).reshape(2, 3, 4, 4)
    patches = patchify(images, 2)
    assert patches.shape == (2, 4, 12)
    torch.testing.assert_close(patches[1, 2], images[1, :, 2:4, 0:2].permute(1, 2, 0).flatten())


def reference_layer(block: Block, width: int, heads: int) -> nn.TransformerEncoderLayer:
    """torch's own layer with the block's weights."""
    layer = nn.TransformerEncoderLayer(
        width, heads, 4 * width, dropout=0.0, activation="gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
    )
    names = {
        "self_attn.in_proj_weight": block.attention.qkv.weight,
        "self_attn.in_proj_bias": block.attention.qkv.bias,
        "self_attn.out_proj": block.attention.out,
        "linear1": block.mlp.up,
        "linear2": block.mlp.out,
        "norm1": block.norm1,
        "norm2": block.norm2,
    }
    state = {}
    for name, value in names.items():
        parts = {"": value} if isinstance(value, nn.Parameter) else {f".{k}": v for k, v in value.state_dict().items()}
        state |= {name + suffix: tensor for suffix, tensor in parts.items()}
    layer.load_state_dict(state)
    return layer


def test_block_agrees_with_torch() -> None:
    torch.manual_seed(0)
    block = Block(32, 4, 4.0)
    nn.init.normal_(block.attention.qkv.bias)
    x = torch.randn(3, 7, 32)
    valid = torch.arange(7) < torch.tensor([7, 4, 1])[:, None]
    expected = reference_layer(block, 32, 4)(x, src_key_padding_mask=~valid)
    actual = block(x, valid[:, None, None, :])
    torch.testing.assert_close(actual[valid], expected[valid], atol=1e-5, rtol=1e-5)


def test_initialisation_is_gpt2s() -> None:
    torch.manual_seed(0)
    stack = Transformer(128, 8, 4, 4.0)
    initialise(stack, 0.02)
    for block in stack.blocks:
        assert block.attention.qkv.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert block.mlp.up.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert block.attention.out.weight.std().item() == pytest.approx(0.02 / 4, rel=0.05)  # √(2 · 8 layers) = 4
        assert block.mlp.out.weight.std().item() == pytest.approx(0.02 / 4, rel=0.05)
        assert not block.attention.qkv.bias.any() and not block.mlp.out.bias.any()


def test_narrow_norm_is_the_wide_one_rounded() -> None:
    norm = LayerNorm(64)
    x = torch.randn(5, 64).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        narrow = norm(x)
    assert narrow.dtype == torch.bfloat16
    torch.testing.assert_close(narrow.float(), norm(x.float()), atol=0.02, rtol=0.02)


def test_image_tower_encodes_kept_patches_alone() -> None:
    """All patches in another order give the same tokens in that order; fewer do not see the rest."""
    torch.manual_seed(0)
    tower, (images, _) = ImageTower(MODEL), make_batch()
    order = torch.stack([torch.randperm(16) for _ in images])
    shuffled = tower(images, order)
    torch.testing.assert_close(shuffled, tower(images).gather(1, order[..., None].expand(-1, -1, 32)))
    changed = images.clone()
    changed[:, :, 8:] = 9.0  # everything below the first row of patches
    first = torch.arange(4).expand(len(images), -1)
    torch.testing.assert_close(tower(changed, first), tower(images, first))


def test_text_tower_ignores_padding_and_its_width() -> None:
    torch.manual_seed(0)
    tower, (_, tokens) = TextTower(MODEL, VOCAB), make_batch()
    valid = tokens != 0
    out = tower(tokens, valid)
    junk = torch.where(valid, tokens, 7)
    torch.testing.assert_close(tower(junk, valid)[valid], out[valid])
    torch.testing.assert_close(tower(tokens[2:3, :11], valid[2:3, :11])[:, :2], out[2:3, :2])


def test_text_tower_is_bidirectional() -> None:
    torch.manual_seed(0)
    tower, tokens = TextTower(MODEL, VOCAB), torch.arange(3, 9)[None]
    changed = tokens.clone()
    changed[0, -1] = 20
    valid = tokens != 0
    assert not torch.equal(tower(tokens, valid)[:, 0], tower(changed, valid)[:, 0])


def test_text_tower_keeps_the_places_of_kept_tokens() -> None:
    """Kept tokens carry their own positions: keeping all of them, in any order, changes nothing."""
    torch.manual_seed(0)
    tower, tokens = TextTower(MODEL, VOCAB), torch.arange(3, 15)[None]
    order = torch.randperm(12)[None]
    valid = tokens != 0
    torch.testing.assert_close(tower(tokens, valid, order), tower(tokens, valid)[:, order[0]])


def test_trimming_cuts_only_padding() -> None:
    tokens = torch.zeros(3, 32, dtype=torch.int64)
    tokens[1, :9] = 5
    assert trim_padding(tokens).shape == (3, 16)
    assert trim_padding(tokens, multiple=3).shape == (3, 9)
    assert trim_padding(torch.ones(2, 12, dtype=torch.int64)).shape == (2, 12)


def test_conv_widths_follow_the_paper() -> None:
    """Xiao et al. 2021: ViT-C-4GF (width 384, 16-pixel patches) has 48, 96, 192, 384 channels."""
    assert conv_widths(16, 384) == [48, 96, 192, 384]
    assert conv_widths(8, 64) == [16, 32, 64]


@pytest.mark.parametrize("stem", [LinearStem(8, 32), ConvStem(8, 32)], ids=["linear", "conv"])
def test_stems_never_see_hidden_patches(stem: nn.Module) -> None:
    images, keep = torch.randn(2, 3, 32, 32), torch.tensor([[5, 0], [15, 6]])
    assert stem(images).shape == (2, 16, 32)
    seen = patchify(torch.ones_like(images), 8).zero_().scatter(1, keep[..., None].expand(-1, -1, 192), 1.0)
    hidden = seen.reshape(2, 4, 4, 8, 8, 3).permute(0, 5, 1, 3, 2, 4).reshape_as(images) == 0
    torch.testing.assert_close(stem(images.masked_fill(hidden, 50.0), keep), stem(images, keep))
