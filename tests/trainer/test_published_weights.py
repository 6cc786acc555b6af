"""Runs that start from published weights: timm's models give the same features, and what does not fit is named."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from oracles import oracle
from safetensors.torch import save_file
from tiny_run import job, make_config, make_home, write_run
from torch import Tensor, nn

from ablative.study.cli import main
from ablative.study.core.errors import ConfigError, DataError
from ablative.study.core.identity import content
from ablative.study.home.journal import read
from ablative.study.home.paths import Home
from ablative.trainer.clip.checkpoint import load_system
from ablative.trainer.clip.data.fingerprints import fingerprint
from ablative.trainer.clip.published_weights import read_weights, tower_weights
from ablative.trainer.clip.spec.checks import check_run, check_start
from ablative.trainer.clip.spec.config import RunConfig
from ablative.trainer.clip.spec.fingerprints import Fingerprints
from ablative.trainer.clip.spec.start_config import StartConfig
from ablative.trainer.clip.tasks import execute

MEAN, DEVIATION = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def make_theirs(**changes: Any) -> nn.Module:
    """timm's transformer of the size of a test's tower, with random weights everywhere."""
    torch.manual_seed(3)
    sizes = {"img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 5}
    theirs: nn.Module = oracle("timm.models.vision_transformer").VisionTransformer(**(sizes | changes))
    for weight in theirs.parameters():
        nn.init.normal_(weight, std=0.3)
    return theirs.eval()


def started(path: Path, **changes: Any) -> RunConfig:
    start = StartConfig(path=str(path), **{key: changes.pop(key) for key in ("pixels",) if key in changes})
    own = {"class_token": True, "positions": "learned", "depth": 2, "start": start}
    model = {f"model__{key}": value for key, value in (own | changes).items()}
    return make_config("mae", schedule__steps=0, schedule__warmup_steps=0, **model)


def trained(home: Home, config: RunConfig, name: str = "a") -> Any:
    paths = write_run(home, config, name * 12)
    execute(job(paths, home))
    return load_system(paths)[0]


@torch.no_grad()
def test_published_weights_give_timms_features(tmp_path: Path) -> None:
    """Of whole images, with the class token in front, from both kinds of files; pixels are normalised as theirs were.
    MAE's decoder and heads are left."""
    theirs, home = make_theirs(), make_home(tmp_path)
    state = theirs.state_dict()
    save_file(state, tmp_path / "plain.safetensors")
    rest = {"module.text.weight": torch.zeros(2), "module.visual.decoder_embed.weight": torch.zeros(2)}
    torch.save({"model": {f"module.visual.{key}": value for key, value in state.items()} | rest}, tmp_path / "slip.pth")
    shown = torch.rand(5, 3, 16, 16)
    cases: list[tuple[str, str, Tensor]] = [
        ("plain.safetensors", "imagenet", (shown - MEAN[:, None, None]) / DEVIATION[:, None, None]),
        ("slip.pth", "half", (shown - 0.5) / 0.5),
    ]
    for name, (file, pixels, normalised) in zip("ab", cases, strict=True):
        config = started(tmp_path / file, pixels=pixels, pooling="cls" if name == "a" else "gap")
        system = trained(home, config, name)
        expected = theirs.forward_features(normalised)
        torch.testing.assert_close(system.image(2 * shown - 1), expected, rtol=1e-4, atol=1e-5)
        pooled = expected[:, 0] if name == "a" else expected[:, 1:].mean(1)
        torch.testing.assert_close(system.image_features(2 * shown - 1, "pooled"), pooled, rtol=1e-4, atol=1e-5)
    entries = read(home.run("b" * 12).journal)[0]
    [event] = [entry for entry in entries if entry.get("name") == "started from file"]
    assert set(event["left"]) == {*rest, "module.visual.head.weight", "module.visual.head.bias"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"init_values": 1.0},
            "blocks.0.ls1.gamma, blocks.0.ls2.gamma, blocks.1.ls1.gamma and 1 more of the published",
        ),
        ({"global_pool": "avg", "fc_norm": True}, "fc_norm.weight, fc_norm.bias of the published"),
        ({"depth": 1}, r"lack image.trunk.blocks.1.norm1.weight, .* and 9 more; give the model their depth"),
        ({"depth": 3}, r"have image.trunk.blocks.2.norm1.weight, .*, which this run's has not"),
        ({"class_token": False, "global_pool": "avg", "fc_norm": False}, "lack image.class_token"),
        ({"img_size": 32}, r"image.positions has the shape \(64, 16\), this run's is \(16, 16\)"),
    ],
)
def test_weights_of_another_tower_are_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    torch.save(make_theirs(**changes).state_dict(), tmp_path / "w.pth")
    home = make_home(tmp_path)
    with pytest.raises(DataError, match=message):
        trained(home, started(tmp_path / "w.pth"))


def test_what_is_no_tower_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("no weights at all")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save(nn.Linear(2, 2), tmp_path / "module.pth")
    for name, message in (("text.safetensors", "read safely"), ("list.pth", "by name"), ("module.pth", "read safely")):
        with pytest.raises(DataError, match=message):
            read_weights(tmp_path / name)
    with pytest.raises(DataError, match="of one vision transformer under timm's names, found weight, bias"):
        tower_weights(nn.Linear(2, 2).state_dict(), "half", "file")
    twice = {f"{name}.patch_embed.proj.weight": torch.zeros(1) for name in ("base", "momentum")}
    with pytest.raises(DataError, match=r"found 2 of them \(base.patch_embed.proj.weight, momentum"):
        tower_weights(twice, "half", "file")


def test_the_content_of_the_file_is_part_of_the_id(tmp_path: Path) -> None:
    """Wherever the file lies; and a file that has changed since the plan is refused."""
    home = make_home(tmp_path)
    paths = [tmp_path / name for name in ("a.pth", "b.pth", "c.pth")]
    for path, seed in zip(paths, (0, 0, 1), strict=True):
        save_file({"patch_embed.proj.weight": torch.full((2, 3, 4, 4), float(seed))}, path)
    models = [Fingerprints(home, fingerprint, False).started(started(path).model) for path in paths]
    one, same, other = (content(model) for model in models)
    assert one == same != other
    assert one != content(started(paths[0]).model)
    config = dataclasses.replace(started(paths[0]), model=models[0])
    paths[0].write_bytes(paths[2].read_bytes())
    with pytest.raises(DataError, match=r"model test: start\.path has changed"):
        trained(home, config)


def test_what_published_weights_cannot_be_combined_with(tmp_path: Path) -> None:
    config = started(tmp_path / "w.pth")
    check_run(config)
    with pytest.raises(ConfigError, match=r"set model\.stem=linear and model\.positions=learned"):
        check_run(started(tmp_path / "w.pth", positions="sincos"))
    with pytest.raises(ConfigError, match="a run starts from one of the two"):
        check_start(config, config)


def test_a_study_without_the_file_is_planned_by_the_place_where_it_would_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = {"objective": "mae", "model.start.path": "deit.safetensors", "schedule.steps": 0}
    study = {
        "name": "mine",
        "base": {"model": "tiny_maskclip", "data": "shapes", "schedule": "demo"},
        "seeds": [0],
        "factors": {
            "method": {
                "clip": {"objective": "clip"},
                "deit": weights,
                "mae": weights | {"model.start.path": "mae.safetensors"},
            }
        },
        "protocols": ["linear_probe"],
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    assert main(["plan", str(tmp_path / "mine.yaml")], standalone=False) == 0
    shown = capsys.readouterr()
    text = " ".join((shown.out + shown.err).split())
    assert "deit.safetensors does not exist" in text and "start.path (mae.safetensors)" in text
    assert "3 cells, 3 runs" in text
