"""Runs that start from the final weights of another (`from:` in a level)."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_run import job, make_config, make_home, write_run

from ablative.study.core.errors import DataError, Interrupted
from ablative.study.core.files import read_json
from ablative.study.home.journal import metric_rows, read
from ablative.study.home.paths import Home, RunPaths
from ablative.trainer.clip import checkpoint
from ablative.trainer.clip.tasks import execute

PARENT, CHILD = "aaaaaaaaaaaa", "bbbbbbbbbbbb"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """With a finished run of CLIP."""
    home = make_home(tmp_path_factory.mktemp("parent"))
    execute(job(write_run(home, make_config("clip", schedule__steps=2), PARENT), home))
    return home


def start(home: Home, name: str = CHILD, objective: str = "mae_clip", **changes: Any) -> RunPaths:
    config = dataclasses.replace(make_config(objective, **{"schedule__steps": 3, **changes}), parent=PARENT)
    return write_run(home, config, name)


def weights(paths: RunPaths) -> dict[str, torch.Tensor]:
    state = checkpoint.load(paths.model)
    assert state is not None
    return state["model"]


def test_it_has_the_parents_weights_and_random_ones_where_there_are_none(
    home: Home, capfd: pytest.CaptureFixture[str]
) -> None:
    fresh = make_config("mae_clip", schedule__steps=0, schedule__warmup_steps=0)
    alone = write_run(home, fresh, "cccccccccccc")
    child = start(home, "dddddddddddd", schedule__steps=0, schedule__warmup_steps=0)
    execute(job(alone, home))
    execute(job(child, home, parent=home.run(PARENT)))
    own, theirs, random = weights(child), weights(home.run(PARENT)), weights(alone)
    assert len(own) > len(theirs) > 20
    for name, weight in own.items():
        assert torch.equal(weight, theirs[name] if name in theirs else random[name]), name
    event = next(entry for entry in read(child.journal)[0] if entry.get("name") == "started from")
    assert event["run"] == PARENT and event["left"] == []
    assert event["random"] == [name for name in own if name.startswith("decoder.")]
    assert f"random: decoder ({len(event['random'])}); left: nothing" in capfd.readouterr().out
    assert read_json(child.record)["needs"] == [PARENT]


def test_a_moving_average_begins_as_its_student_does(home: Home) -> None:
    """MaskCLIP from CLIP: the student has the parent's weights, and after one step the teacher has moved from these."""
    child = start(home, "888888888888", "maskclip", schedule__steps=3)
    with pytest.raises(Interrupted):
        execute(job(child, home, lambda: True, parent=home.run(PARENT)))
    state, theirs = checkpoint.load(child.checkpoint), weights(home.run(PARENT))
    assert state is not None and state["step"] == 1
    for name, weight in state["teacher"].items():
        torch.testing.assert_close(weight, torch.lerp(theirs[f"image.{name}"], state["model"][f"image.{name}"], 0.5))
    assert not torch.equal(state["teacher"]["norm.weight"], theirs["image.norm.weight"])


def test_stopped_and_resumed_it_does_not_start_from_the_parent_again(home: Home) -> None:
    whole, broken = start(home, "eeeeeeeeeeee"), start(home, "ffffffffffff")
    execute(job(whole, home, parent=home.run(PARENT)))
    for _ in range(2):
        with pytest.raises(Interrupted):
            execute(job(broken, home, lambda: True, parent=home.run(PARENT)))
    execute(job(broken, home, parent=home.run(PARENT)))
    assert all(torch.equal(weight, weights(whole)[name]) for name, weight in weights(broken).items())
    losses = [
        [(name, step, value) for name, step, value, _ in metric_rows(read(paths.journal)[0]) if "train/" in name]
        for paths in (whole, broken)
    ]
    assert losses[0] == losses[1] and len(losses[0]) > 8


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (
            "111111111111",
            {"model__embed_dim": 4},
            r"has image_head.project.weight of shape \(8, 16\); this run's is \(4, 16\)",
        ),
        ("222222222222", {"data__seed": 1}, "has learned other tokens .* have both fitted on the same text"),
    ],
)
def test_weights_that_do_not_fit(home: Home, name: str, changes: dict[str, Any], message: str) -> None:
    child = start(home, name, **changes)
    with pytest.raises(DataError, match=f"run {PARENT}, from which this one starts, {message}"):
        execute(job(child, home, parent=home.run(PARENT)))


def test_without_text_the_tokens_do_not_matter(home: Home) -> None:
    child = start(home, "999999999999", "mae", data__seed=1, schedule__steps=2)
    execute(job(child, home, parent=home.run(PARENT)))
    assert read_json(child.record)["state"] == "completed"


@pytest.mark.parametrize("objective", ["mae_clip", "two_stage"])
def test_the_child_of_a_run_that_diverged_has_diverged(
    objective: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    home = make_home(tmp_path)
    execute(job(write_run(home, make_config("mae_clip", schedule__lr=1e38), PARENT), home))
    child = start(home, objective=objective)
    execute(job(child, home, parent=home.run(PARENT)))
    found = read_json(child.record)
    assert f"the run from which this one starts ({PARENT}) has diverged, so that nothing is" in capfd.readouterr().out
    assert (found["state"], found["diverged"]) == ("diverged", read_json(home.run(PARENT).record)["diverged"])
    assert not child.model.exists()
