"""Systems of all objectives: what they learn from, what they must not see, and that pieces equal the whole."""

import math
from typing import Any

import pytest
import torch
from small_models import VOCAB
from small_systems import contrast, embed, make_batch, make_system, reconstruct, reconstruction, total_loss
from torch import Tensor

from ablative.study.core.errors import ConfigError
from ablative.trainer.clip.models.patches import patchify
from ablative.trainer.clip.models.splits import take
from ablative.trainer.clip.objectives.system import System, no_decay
from ablative.trainer.clip.objectives.terms.contrastive import Embeddings
from ablative.trainer.clip.objectives.terms.term import Draws, Inputs
from ablative.trainer.clip.spec.config import OBJECTIVES, POOLINGS
from ablative.trainer.clip.spec.recipes import RECIPES
from ablative.trainer.clip.token_ids import PAD

CONTRASTIVE = tuple(name for name, recipe in RECIPES.items() if recipe.contrastive)
GENERATIVE = tuple(name for name, recipe in RECIPES.items() if recipe.generative)
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in OBJECTIVES),
    ("masked_clip", {"input_text_mask_ratio": 0.75}),
    ("mae_clip", {"masking": "similarity"}),
    ("mae_clip", {"masking": "similarity", "similarity_reduce": "filip_max", "similarity_select": "low"}),
    ("mae_clip", {"include_pads": True, "masking": "similarity"}),
    ("m3ae", {"include_pads": True, "normalize_pixels": False, "stem": "conv"}),
    ("clip", {"ln_after_pool": True, "pooling": "max", "text_pooling": "gap"}),
    ("mae_clip", {"ln_after_pool": True, "map_residual": True, "map_heads": 2, "stem": "conv"}),
    ("mae", {"ln_after_pool": True, "pooling": "max"}),
]
variants = pytest.mark.parametrize(("name", "changes"), VARIANTS, ids=lambda v: str(v) if v else "plain")


def draws_of(system: System, size: int, seed: int = 0) -> Draws:
    return system.draw(size, torch.Generator().manual_seed(seed))


def embedded(system: System, images: Tensor, tokens: Tensor, draws: Draws) -> Embeddings | None:
    return embed(system, images, tokens, draws) if system.contrastive else None


@variants
def test_every_parameter_learns(name: str, changes: dict[str, Any]) -> None:
    system = make_system(name, **changes)
    total_loss(system, *make_batch()).backward()
    idle = [name for name, p in system.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle
    assert all(p.grad is not None and p.grad.isfinite().all() for p in system.parameters())


@variants
def test_bf16_autocast_is_close_and_losses_stay_fp32(name: str, changes: dict[str, Any]) -> None:
    system, (images, tokens) = make_system(name, **changes), make_batch()
    with torch.autocast("cpu", torch.bfloat16):
        narrow = total_loss(system, images, tokens)
    narrow.backward()
    assert narrow.dtype == torch.float32
    torch.testing.assert_close(narrow, total_loss(system, images, tokens), atol=0.1, rtol=0.02)


@variants
@torch.no_grad()
def test_pieces_of_a_batch_equal_the_whole(name: str, changes: dict[str, Any]) -> None:
    """Any micro-batch gives each sample the same embedding and the same losses."""
    system, (images, tokens) = make_system(name, **changes), make_batch()
    draws = draws_of(system, 5)
    whole = embedded(system, images, tokens, draws)
    for rows in (slice(0, 2), slice(2, 5)):
        piece = embedded(system, images[rows], tokens[rows], draws[rows])
        if whole is not None and piece is not None:
            torch.testing.assert_close(piece.image, whole.image[rows])
            torch.testing.assert_close(piece.text, whole.text[rows])
        if system.recipe.generative:
            expected = reconstruct(system, images, tokens, draws, whole)
            part = reconstruct(system, images[rows], tokens[rows], draws[rows], piece)
            for a, b in zip(part, expected, strict=True):
                torch.testing.assert_close(a, b[rows])


@variants
@torch.no_grad()
def test_trimmed_padding_changes_nothing(name: str, changes: dict[str, Any]) -> None:
    system, (images, tokens) = make_system(name, **changes), make_batch()
    rows = slice(2, 5)
    images, tokens, draws = images[rows], tokens[rows], draws_of(system, 5)[rows]
    shorter = tokens[:, : int((tokens != PAD).sum(1).max())]
    assert shorter.shape[1] < tokens.shape[1]
    a, b = embedded(system, images, tokens, draws), embedded(system, images, shorter, draws)
    if a is not None and b is not None:
        torch.testing.assert_close(b.text, a.text)
    if system.recipe.generative:
        short, full = reconstruct(system, images, shorter, draws, b), reconstruct(system, images, tokens, draws, a)
        for x, y in zip(short, full, strict=True):
            torch.testing.assert_close(x, y)
        counts = reconstruction(system).counts(Inputs(images, shorter, draws), {"contrastive": b})
        torch.testing.assert_close(counts, full.text_count)


@pytest.mark.parametrize("name", GENERATIVE)
@torch.no_grad()
def test_hidden_elements_never_reach_the_decoder(name: str) -> None:
    """Predictions are those of the visible elements alone: hidden pixels and words may be anything."""
    system, (images, tokens) = make_system(name, normalize_pixels=False), make_batch()
    draws = draws_of(system, 5)
    image_split, text_split = reconstruction(system).splits(tokens != PAD, draws, {"contrastive": None})

    seen: list[Tensor] = []
    system.decoder.to_pixels.register_forward_hook(lambda _, __, out: seen.append(out))
    reconstruct(system, images, tokens, draws)
    patches = patchify(images, 8).scatter(1, image_split.hidden[..., None].expand(-1, -1, 192), 9.0)
    changed = patches.reshape(5, 4, 4, 8, 8, 3).permute(0, 5, 1, 3, 2, 4).reshape_as(images)
    words = tokens
    if text_split is not None and text_split.hidden_valid is not None:
        words = tokens.scatter(
            1, text_split.hidden, tokens.gather(1, text_split.hidden).where(~text_split.hidden_valid, 4)
        )
        assert not torch.equal(words, tokens)
    reconstruct(system, changed, words, draws)
    torch.testing.assert_close(seen[1], seen[0])


@torch.no_grad()
def test_reconstruction_by_hand() -> None:
    """Losses from the decoder's own outputs: all hidden patches; hidden words, summed for each sample."""
    system, (images, tokens) = make_system("m3ae"), make_batch()
    draws, valid = draws_of(system, 5), tokens != PAD
    splits = image_split, text_split = reconstruction(system).splits(valid, draws, {"contrastive": None})
    assert text_split is not None and text_split.hidden_valid is not None
    patches = system.image(images, image_split.visible)
    words = system.text(tokens, text_split.visible_valid, text_split.visible)
    image_rows, word_rows = system.decoder.rows(patches, words, splits, valid)
    got = reconstruct(system, images, tokens, draws)

    target = take(patchify(images, 8), image_split.hidden)
    target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(got.image, ((system.decoder.to_pixels(image_rows) - target) ** 2).mean((1, 2)))
    for row in range(5):
        hidden = text_split.hidden[row][text_split.hidden_valid[row]]
        logp = system.decoder.to_tokens(word_rows[row][text_split.hidden_valid[row]]).log_softmax(-1)
        expected = -logp[torch.arange(len(hidden)), tokens[row, hidden]].sum()
        torch.testing.assert_close(got.text[row], expected)
        assert got.text_count[row] == len(hidden)


@pytest.mark.parametrize("include_pads", [False, True])
@torch.no_grad()
def test_bound_of_text_rows(include_pads: bool) -> None:
    """At least what is masked; with it, and with more than all, the losses are the same."""
    system, (images, tokens) = make_system("m3ae", include_pads=include_pads), make_batch(24)
    draws = draws_of(system, 24)
    exact = reconstruct(system, images, tokens, draws)
    limit = reconstruction(system).rows(tokens)
    assert int(exact.text_count.sum()) <= limit < 24 * 9
    for rows in (limit, 10**6):
        torch.testing.assert_close(reconstruct(system, images, tokens, draws, rows=rows).text, exact.text)


@pytest.mark.parametrize(("reduce", "select"), [("pooled", "high"), ("pooled", "low"), ("filip_max", "high")])
@torch.no_grad()
def test_similarity_masking_hides_the_right_elements(reduce: str, select: str) -> None:
    system = make_system("mae_clip", masking="similarity", similarity_reduce=reduce, similarity_select=select)
    images, tokens = make_batch()
    draws = draws_of(system, 5)
    embeddings = embed(system, images, tokens, draws)
    image_split, text_split = reconstruction(system).splits(tokens != PAD, draws, {"contrastive": embeddings})
    patches = system.patch_embeddings(images)
    words = system.text_head.elements(system.text(tokens, tokens != PAD))
    assert text_split is not None
    for row in range(5):
        length = int((tokens[row] != PAD).sum())
        if reduce == "pooled":
            of_image, of_text = patches[row] @ embeddings.text[row], words[row, :length] @ embeddings.image[row]
        else:
            both = patches[row] @ words[row, :length].T
            of_image, of_text = both.max(1).values, both.max(0).values
        hidden_words = text_split.hidden[row][text_split.hidden_valid[row]].tolist()
        for similarity, hidden in ((of_image, image_split.hidden[row].tolist()), (of_text, hidden_words)):
            order = similarity.argsort(descending=select == "high")
            assert set(hidden) == set(order[: len(hidden)].tolist())


@torch.no_grad()
def test_similarity_ties_are_broken_by_noise() -> None:
    """With all similarities equal the choice is random, not the first patches."""
    system, (images, tokens) = make_system("mae_clip", masking="similarity"), make_batch()
    system.image_head.project.weight.zero_()
    draws = draws_of(system, 5)
    found = {"contrastive": embed(system, images, tokens, draws)}
    split, _ = reconstruction(system).splits(tokens != PAD, draws, found)
    torch.testing.assert_close(split.visible, draws.image.argsort(1)[:, :4])


@torch.no_grad()
def test_masked_clip_sees_a_quarter_in_training_and_all_in_evaluation() -> None:
    system, (images, tokens) = make_system("masked_clip"), make_batch()
    draws = draws_of(system, 5)
    keep = draws.image.argsort(1)[:, :4]
    embeddings = embed(system, images, tokens, draws)
    torch.testing.assert_close(embeddings.image, system.image_head(system.image(images, keep)))
    torch.testing.assert_close(embeddings.text, system.encode_text(tokens))
    torch.testing.assert_close(system.encode_image(images), system.image_head(system.image(images)))


@pytest.mark.parametrize("pooling", POOLINGS)
@torch.no_grad()
def test_masked_clip_may_hide_captions_too(pooling: str) -> None:
    """By hand: of each caption alone, the tokens with the lowest draws, in a tower without any other."""
    system, (images, tokens) = make_system("masked_clip", input_text_mask_ratio=0.75, pooling=pooling), make_batch()
    draws = draws_of(system, 5)
    found = embed(system, images, tokens, draws).text
    for row, length in enumerate((tokens != PAD).sum(1).tolist()):
        shown = draws.text[row, :length].argsort()[: max(1, int(0.25 * length))][None]
        there = torch.ones_like(shown, dtype=torch.bool)
        words = system.text(tokens[row : row + 1], there, shown)
        torch.testing.assert_close(found[row : row + 1], system.text_head(words, there))
    plain = make_system("masked_clip", pooling=pooling)
    whole = embed(plain, images, tokens, draws_of(plain, 5))
    assert torch.equal(whole.image, embed(system, images, tokens, draws).image)
    torch.testing.assert_close(system.encode_text(tokens), plain.encode_text(tokens))
    assert draws_of(plain, 5).text.shape == (5, 0)


def test_draws_are_one_stream_for_any_slicing() -> None:
    system = make_system("mae_clip")
    a, b = draws_of(system, 6, seed=3), draws_of(system, 6, seed=3)
    assert torch.equal(a.image, b.image) and torch.equal(a.text, b.text)
    assert torch.equal(a[2:4].image, b.image[2:4])
    assert not torch.equal(a.image, draws_of(system, 6, seed=4).image)
    assert draws_of(make_system("clip"), 6).image.shape == (6, 0)


def test_same_seed_same_system_bit_for_bit() -> None:
    a, b, c = make_system("mae_clip"), make_system("mae_clip"), make_system("mae_clip", seed=1)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(a.image.stem.project.weight, c.image.stem.project.weight)


@pytest.mark.parametrize("name", CONTRASTIVE)
@torch.no_grad()
def test_features_of_joint_spaces(name: str) -> None:
    system, (images, tokens) = make_system(name), make_batch()
    assert system.image_tokens(images).shape == (5, 16, 32)
    torch.testing.assert_close(system.image_features(images, "mean"), system.image_tokens(images).mean(1))
    pooled = system.image_features(images, "pooled")
    projected = system.image_head.project(pooled)
    torch.testing.assert_close(
        system.image_features(images, "projected"), projected / projected.norm(dim=-1, keepdim=True)
    )
    torch.testing.assert_close(system.encode_text(tokens).norm(dim=-1), torch.ones(5))
    assert system.patch_embeddings(images).shape == (5, 16, 16)


@torch.no_grad()
def test_features_without_joint_space() -> None:
    images, _ = make_batch()
    mae = make_system("mae", pooling="map")
    torch.testing.assert_close(mae.image_features(images, "pooled"), mae.image_tokens(images).mean(1))
    largest = make_system("mae", pooling="max")
    torch.testing.assert_close(largest.image_features(images, "pooled"), largest.image_tokens(images).amax(1))
    with pytest.raises(ConfigError, match="'mae' trains no joint embedding"):
        mae.image_features(images, "projected")


@torch.no_grad()
def test_final_norm_precedes_pooling_unless_told() -> None:
    """MAX of normalised tokens is not itself normalised; MAX then LN is."""
    images, _ = make_batch()
    before = make_system("clip", pooling="max").image_features(images, "pooled")
    after = make_system("clip", pooling="max", ln_after_pool=True).image_features(images, "pooled")
    torch.testing.assert_close(after.mean(1), torch.zeros(5), atol=1e-5, rtol=0)
    assert (before.mean(1) > 0.5).all()


def test_logit_scale_starts_at_its_temperature_and_is_clamped() -> None:
    system = make_system("clip", temperature=0.07, max_logit_scale=100.0)
    assert contrast(system).logit_scale.item() == pytest.approx(1 / 0.07)
    with torch.no_grad():
        system.log_scale.fill_(9.0)
    assert contrast(system).logit_scale.item() == pytest.approx(100.0)
    contrast(system).logit_scale.backward()  # at the bound it can still come back
    assert system.log_scale.grad is not None and system.log_scale.grad.item() == pytest.approx(100.0)


def test_no_decay() -> None:
    """Norms, biases, positions, tokens, probes and the temperature are left alone; weights are not."""
    system = make_system("mae_clip")
    decayed = {name for name, p in system.named_parameters() if not no_decay(name, p)}
    assert all(name.endswith(".weight") for name in decayed) and "text.embedding.weight" in decayed
    exempt = {name for name, _ in system.named_parameters()} - decayed
    assert {"log_scale", "text.positions", "decoder.text_positions", "decoder.image_mask", "decoder.text_mask"} < exempt
    assert {"decoder.modality", "image_head.pool.probe", "image.norm.weight", "image.stem.project.bias"} < exempt


def test_untrained_losses_are_at_chance() -> None:
    """ln V for words, 1 for normalised pixels (the decoder starts near 0), about ln B for pairs."""
    system, (images, tokens) = make_system("m3ae"), make_batch(32)
    got = reconstruct(system, images, tokens, draws_of(system, 32))
    assert (got.text.sum() / got.text_count.sum()).item() == pytest.approx(math.log(VOCAB), rel=0.03)
    assert got.image.mean().item() == pytest.approx(1.0, rel=0.05)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # dynamo's own doing
@pytest.mark.long
def test_compiles_without_graph_break() -> None:
    """Both passes trace as one graph: nothing in them depends on the data's values.

    For each change `test_no_sync.py` stays, which traces the same passes of every objective.
    """
    system, (images, tokens) = make_system("mae_clip", masking="similarity"), make_batch()
    draws = draws_of(system, 5)
    expected = embed(system, images, tokens, draws)
    features = torch.compile(contrast(system).features, fullgraph=True, backend="aot_eager")
    losses = torch.compile(reconstruction(system).losses, fullgraph=True, backend="aot_eager")
    embeddings = features(Inputs(images, tokens, draws))
    torch.testing.assert_close(embeddings.image, expected.image)
    torch.testing.assert_close(
        losses(Inputs(images, tokens, draws, 64), {"contrastive": embeddings}).text,
        reconstruct(system, images, tokens, draws, expected).text,
    )


@torch.no_grad()
def test_no_hidden_words_is_no_text_loss() -> None:
    system, (images, tokens) = make_system("m3ae", text_mask_ratio=0.0), make_batch()
    parts = reconstruct(system, images, tokens, draws_of(system, 5))
    assert not parts.text.any() and not parts.text_count.any() and parts.image.isfinite().all()
