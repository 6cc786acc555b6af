"""Runs that a search evaluates while they train: what is measured, and that the training never notices."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path

import pytest
import torch
from tiny_run import make_config, make_home, write_run

from ablative.study.core.errors import Interrupted
from ablative.study.core.files import write_json
from ablative.study.core.typed import plain
from ablative.study.home.journal import Journal, metric_rows, read
from ablative.study.home.paths import Home, watched
from ablative.trainer.clip import checkpoint
from ablative.trainer.clip.protocols import represent, score
from ablative.trainer.clip.spec.config import DatasetConfig, EvaluationConfig, ProtocolConfig
from ablative.trainer.clip.train import pretrain

RUN = "aaaaaaaaaaaa"
SHAPES = DatasetConfig(name="shapes_shape", kind="shapes", task="shape", train=40, test=20, split="validation")
DIGITS = DatasetConfig(name="digits", kind="digits", split="validation", train=60, test=30)
ZERO_SHOT = EvaluationConfig(run_id="", protocol=ProtocolConfig(name="zero_shot", kind="zero_shot"), datasets=(SHAPES,))
PROBE = EvaluationConfig(
    run_id="", protocol=ProtocolConfig(name="linear_probe", kind="linear_probe", epochs=1), datasets=(DIGITS,)
)


def trained(folder: Path, evaluation: EvaluationConfig | None, stop_at: int = 0) -> Home:
    """A run of nine steps, evaluated after every third where something is to be evaluated; or its first steps."""
    home = make_home(folder)
    config = make_config("mae_clip", schedule__steps=9)
    paths = write_run(home, config, RUN)
    if evaluation is not None:
        write_json(watched(paths.root), {"every": 3, "evaluation": plain(evaluation)})
    asked = itertools.count(1)
    journal = Journal(paths.journal)
    with contextlib.suppress(Interrupted), contextlib.closing(journal):
        pretrain(paths, config, home, journal, lambda: next(asked) == stop_at)
    return home


def measured(home: Home) -> list[tuple[str, int, float]]:
    entries, _ = read(home.run(RUN).journal)
    return [(name, step, value) for name, step, value, _ in metric_rows(entries) if name.startswith("validation/")]


@pytest.mark.parametrize("evaluation", [ZERO_SHOT, PROBE], ids=["zero_shot", "linear_probe"])
def test_a_watched_run_ends_bit_for_bit_as_one_that_nobody_watches(
    tmp_path: Path, evaluation: EvaluationConfig
) -> None:
    alone, seen = trained(tmp_path / "alone", None), trained(tmp_path / "seen", evaluation)
    left, right = (checkpoint.load(home.run(RUN).model) for home in (alone, seen))
    assert left is not None and right is not None
    assert all(torch.equal(left["model"][name], right["model"][name]) for name in left["model"])
    name = f"validation/{evaluation.protocol.name}/{evaluation.datasets[0].name}/top1"
    assert [step for found, step, _ in measured(seen) if found == name] == [3, 6], "and not after the last"
    assert not measured(alone) and not list(seen.run(RUN).features.glob("*"))


def test_what_is_measured_is_what_the_protocol_yields_of_that_model(tmp_path: Path) -> None:
    seen = measured(trained(tmp_path, ZERO_SHOT))
    home = trained(tmp_path / "again", None, stop_at=6)
    paths = home.run(RUN)
    state = checkpoint.load(paths.checkpoint)
    assert state is not None and state["step"] == 6
    checkpoint.save(paths.model, {"model": state["model"], "step": 6})
    expected = {
        f"validation/{name}": value
        for name, value in score(represent(paths, ZERO_SHOT, torch.device("cpu")), ZERO_SHOT, home)
    }
    assert {name: value for name, step, value in seen if step == 6} == expected and len(expected) >= 4
