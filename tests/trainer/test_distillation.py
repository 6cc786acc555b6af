"""Distillation of a teacher's features: the loss, the moving average, whose features they are, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml
from small_systems import make_batch, make_system, total_loss
from test_train import assert_same, events, never, stop_after, train
from tiny_run import job, make_config, make_home, write_run
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ablative.study.cli import main
from ablative.study.core.errors import DataError, Interrupted
from ablative.trainer.clip import checkpoint
from ablative.trainer.clip.models.towers import ImageTower
from ablative.trainer.clip.objectives.losses import feature_loss
from ablative.trainer.clip.objectives.teacher import make_teacher
from ablative.trainer.clip.tasks import execute


def test_feature_loss_by_hand() -> None:
    """With β = 2: a difference of 1 costs 1²/2β = .25, one of 4 costs 4 − β/2 = 3."""
    predicted, target = torch.tensor([[[1.0, 4.0]], [[0.0, 0.0]]]), torch.zeros(2, 1, 2)
    assert feature_loss(predicted, target, 2.0, "mean").tolist() == [1.625, 0.0]
    assert feature_loss(predicted, target, 2.0, "sum").tolist() == [3.25, 0.0]
    x, y = torch.randn(3, 5, 7), torch.randn(3, 5, 7)
    torch.testing.assert_close(feature_loss(x, y, 0.5, "mean").mean(), F.smooth_l1_loss(x, y, beta=0.5))


def test_the_teacher_is_the_moving_average_of_the_student() -> None:
    """torch's own, with the share of each step; the first teacher is the first student."""
    system = make_system("maskclip")
    teacher = make_teacher(system)
    assert teacher is not None
    assert [teacher.momentum(step, 10) for step in (0, 5, 10)] == pytest.approx([0.999, 0.99945, 0.9999])
    theirs = AveragedModel(system.image)
    theirs.n_averaged.fill_(1)  # a copy of the first weights is the first average
    for step in range(3):
        theirs.multi_avg_fn = get_ema_multi_avg_fn(teacher.momentum(step, 3))
        with torch.no_grad():
            for weight in system.image.parameters():
                weight.add_(torch.randn_like(weight))
        theirs.update_parameters(system.image)
        teacher.follow(system.image, step, 3)
    for own, their in zip(teacher.tower.parameters(), theirs.module.parameters(), strict=True):
        torch.testing.assert_close(own, their)
    assert not any(name.startswith("teacher") for name, _ in system.named_parameters())


@pytest.mark.parametrize(("objective", "passes"), [("maskclip", 3), ("maskclip_no_ema", 2)])
def test_the_student_as_its_own_teacher_costs_no_pass(
    objective: str, passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    forward = ImageTower.forward
    monkeypatch.setattr(ImageTower, "forward", lambda *args, **given: calls.append(1) or forward(*args, **given))
    total_loss(make_system(objective), *make_batch())
    assert len(calls) == passes


def test_stopped_and_resumed_with_its_teacher(tmp_path: Path) -> None:
    """The checkpoint has the teacher, and the final model has not; every state is that of an uninterrupted run."""
    config = make_config("maskclip", schedule__steps=6)
    whole, broken = make_home(tmp_path / "whole"), make_home(tmp_path / "broken")
    with pytest.raises(Interrupted):
        train(whole, config, stop_after(5))
    for _ in range(5):
        with pytest.raises(Interrupted):
            train(broken, config, stop_after(1))
    left, right = (checkpoint.load(home.run("aaaaaaaaaaaa").checkpoint) for home in (whole, broken))
    assert left is not None and right is not None
    del left["spent"], right["spent"]
    assert_same(left, right)
    assert set(left["teacher"]) == {name[6:] for name in left["model"] if name.startswith("image.")}
    assert not torch.equal(left["teacher"]["norm.weight"], left["model"]["image.norm.weight"])
    train(broken, config, never)
    model = checkpoint.load(broken.run("aaaaaaaaaaaa").model)
    assert model is not None and set(model["model"]) == set(left["model"])
    assert not [event for event in events(broken) if event["name"] == "checkpoint corrupt"]


def test_two_stage_learns_the_features_of_its_parent(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    parent, child, narrow = (name * 12 for name in "abc")
    execute(job(write_run(home, make_config("clip", schedule__steps=2), parent), home))
    for name, changes in ((child, {}), (narrow, {"model__width": 8})):
        config = make_config("two_stage", schedule__steps=3, **changes)
        write_run(home, config.__class__(**{**vars(config), "parent": parent}), name)
    execute(job(home.run(child), home, parent=home.run(parent)))
    own, theirs = (checkpoint.load(home.run(name).model) for name in (child, parent))
    assert own is not None and theirs is not None
    assert not torch.equal(own["model"]["image.norm.weight"], theirs["model"]["image.norm.weight"])
    assert "text.positions" not in own["model"]
    with pytest.raises(DataError, match=r"whose features this one learns, has the shape \(48, 16\)|\(16, 48\)"):
        execute(job(home.run(narrow), home, parent=home.run(parent)))


@pytest.mark.parametrize(
    ("methods", "words", "message"),
    [
        ({"two": {"objective": "two_stage"}}, (), "learns the features of another run, and no level says of which"),
        (
            {"two": {"objective": "two_stage", "model.patch_size": 16, "from": {"method": "clip"}}},
            (),
            "model.patch_size: 16, and the run whose features this one learns has 8",
        ),
        ({"same": {"objective.distill.weight": 2.0}}, (), "changes nothing, it sets objective.distill.weight"),
        ({}, ("objective.distill.bta=1",), "did you mean 'beta'"),
    ],
)
def test_impossible_studies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], methods: dict[str, Any], words: tuple[str, ...], message: str
) -> None:
    study = {
        "name": "mine",
        "base": {"model": "tiny", "data": "shapes", "schedule": "demo"},
        "seeds": [0],
        "factors": {"method": {"clip": {"objective": "clip"}, "mask": {"objective": "masked_clip"}, **methods}},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    assert main(["plan", str(tmp_path / "mine.yaml"), *words], standalone=False) == 2
    error = capsys.readouterr().err
    assert message in " ".join(error.split()), error
