"""BEiT's codes of masked patches, and the tokenizers that give them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from oracles import oracle
from safetensors.torch import save_file
from small_systems import make_batch, make_system
from test_train import stop_after
from tiny_run import CODES, job, make_config, make_home, write_run
from torch import nn

from ablative.study.cli import main
from ablative.study.core.errors import AbsentDataError, DataError, Interrupted
from ablative.study.core.identity import content
from ablative.study.home.journal import Journal
from ablative.trainer.clip import checkpoint
from ablative.trainer.clip.data.fingerprints import fingerprint
from ablative.trainer.clip.data.world.shapes import ShapePairs
from ablative.trainer.clip.models.codes import Tokenizer, numbered, rounded
from ablative.trainer.clip.objectives.system import System
from ablative.trainer.clip.objectives.teacher import CodeTeacher, make_teacher
from ablative.trainer.clip.objectives.terms.codes import Codes
from ablative.trainer.clip.objectives.terms.quantization import Quantization
from ablative.trainer.clip.objectives.terms.term import TEACHER, Inputs
from ablative.trainer.clip.published_weights import codes_from_file
from ablative.trainer.clip.spec.config import ObjectiveConfig, RunConfig
from ablative.trainer.clip.spec.fingerprints import Fingerprints
from ablative.trainer.clip.spec.loss_options import CodesConfig, MaskConfig
from ablative.trainer.clip.tasks import execute


def make_tokenizer(grid: int = 2, **changes: Any) -> Tokenizer:
    torch.manual_seed(0)
    return Tokenizer(CodesConfig(**{"levels": (5, 4), "stride": 2, "width": 8, "blocks": 1} | changes), grid)


def papers_numbers(z: np.ndarray, levels: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Finite scalar quantization as appendix A.1 of its paper has it: digits in [-1,1], and numbers of codes."""
    count, basis = np.array(levels), np.cumprod([1, *levels[:-1]])
    half, offset = (count - 1) * (1 - 1e-3) / 2, np.where(count % 2 == 1, 0.0, 0.5)
    digits = np.round(np.tanh(z + np.tan(offset / half)) * half - offset) / (count // 2)
    return digits, ((digits * (count // 2) + count // 2) * basis).sum(-1)


@pytest.mark.parametrize("levels", [(8, 8, 8, 4, 4), (8, 6, 5), (2, 3), (7,)])
def test_codes_are_those_of_finite_scalar_quantization(levels: tuple[int, ...]) -> None:
    """By the paper's formula; each channel takes as many values as it has levels."""
    z = torch.randn(40_000, len(levels), dtype=torch.float64) * 2
    digits, numbers = papers_numbers(z.numpy(), levels)
    found = rounded(z, torch.tensor(levels))
    np.testing.assert_allclose(found.numpy() / (np.array(levels) // 2), digits, atol=1e-12)
    codes = numbered(found, levels)
    assert np.array_equal(codes.numpy(), numbers)
    for level in levels:
        each = torch.linspace(-9, 9, 2001, dtype=torch.float64)[:, None]
        assert numbered(rounded(each, torch.tensor([level])), (level,)).unique().tolist() == list(range(level))


def test_the_gradient_passes_the_rounding_as_if_it_were_none() -> None:
    z = torch.tensor([[0.3, -1.2], [2.0, 0.0]], dtype=torch.float64, requires_grad=True)
    rounded(z, torch.tensor([5, 5])).sum().backward()
    assert z.grad is not None
    torch.testing.assert_close(z.grad, 1.998 * (1 - z.detach().tanh() ** 2))


def test_each_patch_has_the_code_of_its_place() -> None:
    """Row by row, whatever the size of the image, which is resized first: a red quarter has a code of its own."""
    tokenizer = make_tokenizer(grid=4, levels=())
    images = torch.zeros(1, 3, 32, 32)
    images[:, 0, 16:, :16] = 1.0
    codes = tokenizer(images).view(4, 4)
    assert codes[3, 0] not in codes[:2, 2:].flatten().tolist()
    small = F.interpolate(images, size=8, mode="area")
    assert torch.equal(tokenizer(small).view(4, 4)[3], codes[3])


def test_the_encoder_is_dalles() -> None:
    """Its published code's parameters by name, and what a block of it computes, written out."""
    tokenizer = make_tokenizer(levels=(), stride=8, width=64, blocks=2)
    shapes = {name: tuple(weight.shape) for name, weight in tokenizer.state_dict().items()}
    assert shapes["blocks.input.w"] == (64, 3, 7, 7) and shapes["blocks.output.conv.w"] == (8192, 512, 1, 1)
    assert (
        shapes["blocks.group_2.block_1.id_path.w"] == (128, 64, 1, 1)
        and "blocks.group_1.block_1.id_path.w" not in shapes
    )
    assert shapes["blocks.group_4.block_2.res_path.conv_3.w"] == (128, 128, 3, 3)
    assert shapes["blocks.group_3.block_1.res_path.conv_1.w"] == (64, 128, 3, 3)
    assert len(shapes) == 2 * (1 + 8 * 4 + 3 + 1)
    block, x = tokenizer.blocks.group_2.block_1, torch.randn(2, 64, 4, 4)  # type: ignore[union-attr]
    own = {name: weight for name, weight in block.named_parameters()}
    inner = x
    for i, padding in enumerate((1, 1, 1, 0), 1):
        inner = F.conv2d(inner.relu(), own[f"res_path.conv_{i}.w"], own[f"res_path.conv_{i}.b"], padding=padding)
    expected = F.conv2d(x, own["id_path.w"], own["id_path.b"]) + inner / (4 * 2) ** 2
    torch.testing.assert_close(block(x), expected)
    images = torch.tensor([-1.0, 0.0, 1.0]).view(1, 3, 1, 1).expand(1, 3, 16, 16)
    torch.testing.assert_close(tokenizer.pixels(images)[0, :, 0, 0], torch.tensor([0.1, 0.5, 0.9]))


BLOCK = {
    "norm1": "layernorm_before",
    "attention.out": "attention.o_proj",
    "norm2": "layernorm_after",
    "mlp.up": "mlp.fc1",
    "mlp.out": "mlp.fc2",
}
"""Part of a block → its name in transformers' BEiT."""


def as_beit(system: System, head: nn.Linear) -> nn.Module:
    """The image tower of a system and its head as transformers' BEiT, without what CLIP+BEiT leaves out."""
    transformers, tower, model = oracle("transformers"), system.image, system.model
    config = transformers.BeitConfig(
        vocab_size=head.out_features, hidden_size=model.width, num_hidden_layers=model.depth,
        num_attention_heads=model.heads, intermediate_size=int(model.width * model.mlp_ratio),
        image_size=model.image_size, patch_size=model.patch_size, use_mask_token=True,
        use_absolute_position_embeddings=True, layer_scale_init_value=0.0, drop_path_rate=0.0,
        layer_norm_eps=tower.norm.eps, attn_implementation="eager",
    )  # fmt: skip
    beit = transformers.BeitForMaskedImageModeling(config).eval()
    own, patch = tower.state_dict(), model.patch_size
    assert tower.class_token is not None and tower.mask_token is not None
    state = {
        "beit.embeddings.cls_token": own["class_token"].view(1, 1, -1),
        "beit.embeddings.mask_token": own["mask_token"].view(1, 1, -1),
        "beit.embeddings.position_embeddings": F.pad(own["positions"], (0, 0, 1, 0))[None],
        "beit.embeddings.patch_embeddings.projection.weight": own["stem.project.weight"]
        .unflatten(1, (patch, patch, 3))
        .permute(0, 3, 1, 2),
        "beit.embeddings.patch_embeddings.projection.bias": own["stem.project.bias"],
        **{f"layernorm.{kind}": own[f"norm.{kind}"] for kind in ("weight", "bias")},
        **{f"lm_head.{kind}": weight.detach() for kind, weight in head.named_parameters()},
    }
    for i in range(model.depth):
        theirs, ours = f"beit.layers.{i}", f"trunk.blocks.{i}"
        for kind in ("weight", "bias"):
            state |= {f"{theirs}.{its}.{kind}": own[f"{ours}.{part}.{kind}"] for part, its in BLOCK.items()}
            parts = own[f"{ours}.attention.qkv.{kind}"].chunk(3)
            for name, part in zip("qkv", parts, strict=True):
                state[f"{theirs}.attention.{name}_proj.{kind}"] = part
        assert not state.pop(f"{theirs}.attention.k_proj.bias").any(), "BEiT's keys have no bias"
    beit.load_state_dict(state)
    return beit  # type: ignore[no-any-return]


@pytest.mark.parametrize("shape", ["blocks", "patches"])
def test_the_loss_is_beits(shape: str) -> None:
    """With copied weights: mask tokens in the tower's input, a linear head, and the cross-entropy of all hidden patches
    of the batch, each of which counts alike."""
    mask = MaskConfig(shape=shape, min_patches=6)
    system = make_system(
        "clip_beit", class_token=True, positions="learned", mask=mask, mask_ratio=0.5, pooling="gap", text_pooling="eos"
    )
    images, tokens = make_batch(24)
    term = next(term for term in system.terms if isinstance(term, Codes))
    draws = system.draw(24, torch.Generator().manual_seed(1))
    teacher = make_teacher(system)
    assert teacher is not None
    codes = teacher.features(images)
    inputs = Inputs(images, tokens, draws)
    outcome = term.losses(inputs, {TEACHER: (codes,)})
    [loss] = term.values(outcome, 24, None).values()
    hidden = draws.image >= 1 if shape == "blocks" else draws.image >= draws.image.sort(1).values[:, 8:9]
    theirs = as_beit(system, term.head)(images, bool_masked_pos=hidden, labels=codes[hidden])
    torch.testing.assert_close(loss, theirs.loss)
    assert outcome.hidden.tolist() == hidden.sum(1).tolist() == term.counts(inputs, {}).tolist()
    if shape == "blocks":
        assert len(set(outcome.hidden.tolist())) > 1, "the numbers differ, so that their weights count"


def with_codes(config: RunConfig, **changes: Any) -> RunConfig:
    codes = dataclasses.replace(CODES, **changes)
    return dataclasses.replace(config, objective=dataclasses.replace(config.objective, codes=codes))


def test_a_tokenizer_learns_and_its_codes_are_predicted(tmp_path: Path) -> None:
    """A run with the objective fsq, then one that needs it: pixels are restored better, with codes in use, and the
    child's codes are its parent's, from the run and from its file, stopped and resumed or not."""
    home, names = make_home(tmp_path), [name * 12 for name in "abcde"]
    parent = write_run(home, make_config("fsq", schedule__steps=30, schedule__lr=1e-2), names[0])
    execute(job(parent, home))
    model = checkpoint.load(parent.model)
    assert model is not None and {name.partition(".")[0] for name in model["model"]} == {"code_encoder", "code_decoder"}
    lines = [yaml.safe_load(line)["values"] for line in parent.journal.read_text().splitlines() if "train/fsq" in line]
    assert lines[-1]["train/fsq"] < 0.5 * lines[0]["train/fsq"] and lines[-1]["train/code_perplexity"] > 1
    child = make_config("clip_beit", schedule__steps=2)
    found = []
    for name, path, steps in ((names[1], "", None), (names[2], str(parent.model), None), (names[3], "", 1)):
        config = dataclasses.replace(with_codes(child, path=path), parent="" if path else names[0])
        run = write_run(home, config, name)
        if steps:
            with pytest.raises(Interrupted):
                execute(job(run, home, stop_after(steps), parent=parent))
        execute(job(run, home, parent=None if path else parent))
        state = checkpoint.load(run.model)
        assert state is not None and not any(name.startswith("code_encoder") for name in state["model"])
        found.append(state["model"])
    for other in found[1:]:
        assert all(torch.equal(weight, other[name]) for name, weight in found[0].items())
    run = write_run(home, with_codes(child, path=str(parent.model), levels=(5, 4, 3)), names[4])
    with pytest.raises(DataError, match=r"another shape, with blocks.output.conv.w of shape .*; this run's is .3, 16"):
        execute(job(run, home))


def test_a_file_gives_the_codes_of_its_encoder_or_is_refused(tmp_path: Path) -> None:
    """DALL-E's, by its names; the first three that do not map are named."""
    home, teacher = make_home(tmp_path), make_teacher(make_system("clip_beit", codes=replaced(levels=())))
    assert isinstance(teacher, CodeTeacher)
    published, images, path = make_tokenizer(grid=4, levels=()), torch.rand(2, 3, 16, 16), tmp_path / "encoder.pt"
    state = published.state_dict()
    torch.save(state, path)
    objective = ObjectiveConfig(name="clip_beit", codes=replaced(levels=(), path=str(path)))
    codes_from_file(teacher, objective, home, Journal(tmp_path / "journal"))
    assert torch.equal(teacher.features(images), published(images))
    renamed = {name.replace("blocks.", "net."): weight for name, weight in state.items()}
    less = {name: weight for name, weight in state.items() if "group_2" not in name}
    for weights, message in (
        (renamed, r"net\.input\.w, net\.input\.b, net\.group_1\S+ and 19 more have no place in this run's tokenizer"),
        (less, r"blocks\.group_2.block_1.id_path.w, \S+, \S+ and 7 more are lacking there"),
    ):
        torch.save(weights, path)
        with pytest.raises(DataError, match=message):
            codes_from_file(teacher, objective, home, Journal(tmp_path / "journal"))


def test_the_content_of_a_tokenizers_file_is_part_of_the_id(tmp_path: Path) -> None:
    """Wherever it lies; one that has changed since the plan is refused, and one that is not there is named."""
    home, teacher = make_home(tmp_path), make_teacher(make_system("clip_beit", codes=replaced(levels=())))
    assert isinstance(teacher, CodeTeacher)
    paths, known = [tmp_path / name for name in ("a.safetensors", "b.safetensors", "c.safetensors")], []
    for path, levels in zip(paths, ((), (), (5, 4)), strict=True):
        save_file(make_tokenizer(grid=4, levels=levels).state_dict(), path)
        objective = ObjectiveConfig(name="clip_beit", codes=replaced(levels=(), path=str(path)))
        known.append(Fingerprints(home, fingerprint, False).coded(objective))
    one, same, other = (content(objective) for objective in known)
    assert one == same != other
    paths[0].write_bytes(paths[2].read_bytes())
    with pytest.raises(DataError, match=r"objective codes\.path has changed"):
        codes_from_file(teacher, known[0], home, Journal(tmp_path / "journal"))
    paths[0].unlink()
    with pytest.raises(AbsentDataError, match=r"codes\.path.*a\.safetensors"):
        Fingerprints(home, fingerprint, False).coded(dataclasses.replace(known[0], codes=replaced(path=str(paths[0]))))


def replaced(**changes: Any) -> CodesConfig:
    return dataclasses.replace(CODES, **changes)


@pytest.mark.long
def test_hundreds_of_codes_are_in_use_after_hundreds_of_steps(tmp_path: Path) -> None:
    """With DALL-E's number of codes on the procedural world; a codebook of vectors ended with one code there."""
    home = make_home(tmp_path)
    config = make_config("fsq", schedule__steps=240, schedule__batch_size=32, schedule__lr=1.5e-3, data__pairs=2000)
    config = with_codes(config, levels=(8, 8, 8, 4, 4), stride=8, width=16)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, image_size=32, patch_size=8))
    run = write_run(home, config, "a" * 12)
    execute(job(run, home))
    state = checkpoint.load(run.model)
    assert state is not None
    tokenizer = Tokenizer(config.objective.codes, 4)
    tokenizer.load_state_dict(
        {k.removeprefix("code_encoder."): w for k, w in state["model"].items() if k.startswith("code_encoder")}
    )
    pairs = ShapePairs(config.data, 32)
    images = torch.from_numpy(np.stack([pairs.image(i) for i in range(512)])).permute(0, 3, 1, 2)
    codes = tokenizer(images / 127.5 - 1)
    used = len(codes.unique())
    print(f"{used} codes in {codes.numel()} patches")
    assert used > 400


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"b": {"objective": "clip_beit"}}, "predicts the codes of a tokenizer, and no level says of which"),
        ({"b": {"objective": "clip_beit", "from": {"method": "clip"}}}, "'clip', which trains none; choose one with"),
        (
            {
                "fsq": {"objective": "fsq", "objective.codes.levels": [8, 6, 5]},
                "b": {"objective": "clip_beit", "from": {"method": "fsq"}},
            },
            "objective.codes.levels: (8, 8, 8, 4, 4), and the run whose codes this one predicts has (8, 6, 5)",
        ),
        (
            {"fsq": {"objective": "fsq", "objective.codes.levels": []}},
            "objective.codes.levels: empty, and a tokenizer that is trained",
        ),
        ({"fsq": {"objective": "fsq", "objective.codes.levels": [8, 0]}}, "levels: 0 is no number of values"),
        (
            {
                "fsq": {"objective": "fsq"},
                "b": {"objective": "clip_beit", "model.image_size": 64, "from": {"method": "fsq"}},
            },
            "model.image_size: 64, and the run whose codes this one predicts has 32",
        ),
        ({"fsq": {"objective": "fsq"}, "c": {"objective": "clip", "from": {"method": "fsq"}}}, "trains no image tower"),
    ],
)
def test_impossible_studies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], methods: dict[str, Any], message: str
) -> None:
    study = {
        "name": "mine",
        "base": {"model": "tiny", "data": "shapes", "schedule": "demo"},
        "seeds": [0],
        "factors": {"method": {"clip": {"objective": "clip"}, **methods}},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    words = ["objective.mask.min_patches=3"] if "b" in methods else []
    assert main(["plan", str(tmp_path / "mine.yaml"), *words], standalone=False) == 2
    error = capsys.readouterr().err
    assert message in " ".join(error.split()), error


def test_loss_of_a_tokenizer_by_hand() -> None:
    system = make_system("fsq")
    [term] = system.terms
    assert isinstance(term, Quantization)
    images, tokens = make_batch(4)
    images = images.clamp(-1, 1)
    outcome = term.losses(Inputs(images, tokens, system.draw(4, torch.Generator())), {})
    pixels = term.tokenizer.pixels(images)
    digits, numbers = papers_numbers(term.tokenizer.blocks(pixels).flatten(2).mT.detach().double().numpy(), (5, 4))
    side = int(digits.shape[1] ** 0.5)
    error = term.decoder.blocks(torch.from_numpy(digits).float().mT.unflatten(2, (side, side))) - pixels
    torch.testing.assert_close(outcome.loss, error.square().mean((1, 2, 3)))
    assert np.array_equal(term.tokenizer(images).numpy(), numbers)
    shares = np.unique(numbers, return_counts=True)[1] / numbers.size
    assert term.metrics()["code_perplexity"] == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))
