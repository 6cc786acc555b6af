"""Whole runs on several processes: the loss curve, the checkpoints and the costs are those of one run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import Forked
from tiny_run import job, make_config, make_home, write_run

from ablative.study.core.errors import Interrupted
from ablative.study.core.files import read_json
from ablative.study.home.attempt_times import MET, WAITING
from ablative.study.home.journal import metric_rows, read
from ablative.study.home.paths import Home
from ablative.trainer.clip import checkpoint
from ablative.trainer.clip.spec.config import RunConfig
from ablative.trainer.clip.tasks import execute
from ablative.trainer.torch.distributed import World
from ablative.trainer.torch.meter import ElapsedCost, Meter

CPU = torch.device("cpu")
RUN = "aaaaaaaaaaaa"


def never() -> bool:
    return False


def train(home: Home, config: RunConfig, stop: Callable[[], bool] = never) -> bool:
    """Train the run in `home`, starting or going on with this configuration; whether it came to its end."""
    paths = home.run(RUN)
    if paths.root.exists():
        paths.config.unlink()
        paths.root.rename(paths.root.with_name("before"))
        write_run(home, config)
        for file in paths.root.with_name("before").iterdir():
            file.rename(paths.root / file.name)
        paths.root.with_name("before").rmdir()
    else:
        write_run(home, config)
    try:
        execute(job(paths, home, stop))
    except Interrupted:
        return False
    return True


def train_until(home: Home, config: RunConfig, steps: int) -> bool:
    """`train`, where only the last process is ever told to stop, after `steps` steps."""
    first, asked = os.getpid(), iter(range(1, 1000))

    def stop() -> bool:
        return next(asked) == steps and (os.getpid() != first or config.runtime.processes == 1)

    return train(home, config, stop)


def curve(home: Home) -> dict[tuple[str, int], float]:
    entries, _ = read(home.run(RUN).journal)
    rows = [(name, step, value) for name, step, value, _ in metric_rows(entries) if name.startswith("train/")]
    found = {(name, step): value for name, step, value in rows}
    assert len(found) == len(rows), "a step was reported twice"
    return found


def weights(home: Home) -> dict[str, torch.Tensor]:
    state = checkpoint.load(home.run(RUN).model)
    assert state is not None
    return state["model"]


def assert_close(home: Home, other: Home) -> None:
    """The same run, up to the order in which numbers were added."""
    found, expected = curve(home), curve(other)
    assert list(found) == list(expected)
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=1e-4, abs=1e-6), key
    for name, tensor in weights(other).items():
        torch.testing.assert_close(weights(home)[name], tensor, rtol=1e-3, atol=1e-5, msg=name)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The run that all are compared with, on one process."""
    home = make_home(tmp_path_factory.mktemp("alone"))
    assert train(home, make_config("mae_clip similarity", runtime__micro_batch=2))
    return home


@pytest.mark.parametrize("size", [2, 4])
def test_the_loss_curve_is_that_of_one_process(size: int, alone: Home, tmp_path: Path) -> None:
    home, config = make_home(tmp_path), make_config("mae_clip similarity", runtime__processes=size)
    assert Forked(train, home, config).answer()
    assert_close(home, alone)
    record = read_json(home.run(RUN).record)
    assert record["environment"]["processes"] == size
    assert record["cost"]["cpu_hours"] > 0 and not home.run(RUN).checkpoint.exists()
    names = [entry["name"] for entry in read(home.run(RUN).journal)[0] if entry["kind"] == "event"]
    assert names == ["started", WAITING, MET, "completed"], "another process than the first has written"


def test_resumed_on_other_numbers_of_processes(alone: Home, tmp_path: Path) -> None:
    home = make_home(tmp_path)
    for size, steps in ((2, 3), (1, 2), (4, 2)):
        config = make_config("mae_clip similarity", runtime__processes=size)
        assert not Forked(train_until, home, config, steps).answer()
        state = checkpoint.load(home.run(RUN).checkpoint)
        assert state is not None
    assert state["step"] == 7
    assert Forked(train, home, make_config("mae_clip similarity", runtime__processes=2)).answer()
    assert_close(home, alone)


def test_stopped_and_resumed_on_two_is_bit_identical(tmp_path: Path) -> None:
    config = make_config("mae_clip", runtime__processes=2)
    whole, broken = make_home(tmp_path / "whole"), make_home(tmp_path / "broken")
    assert Forked(train, whole, config).answer()
    assert not Forked(train_until, broken, config, 3).answer()
    assert Forked(train, broken, config).answer()
    assert curve(whole) == curve(broken)
    assert all(torch.equal(tensor, weights(broken)[name]) for name, tensor in weights(whole).items())


@pytest.mark.long
def test_a_moving_average_is_that_of_one_process(tmp_path: Path) -> None:
    """Of the student's weights after each step; a run that was stopped and resumed on two has it bit for bit."""
    alone, two, broken = (make_home(tmp_path / name) for name in ("alone", "two", "broken"))
    one, both = (make_config("maskclip", runtime__processes=size) for size in (1, 2))

    def teacher(home: Home) -> dict[str, torch.Tensor]:
        state = checkpoint.load(home.run(RUN).checkpoint)
        assert state is not None and state["step"] == 5
        return state["teacher"]

    for home, config, stops in ((alone, one, (5,)), (two, both, (5,)), (broken, both, (2, 3))):
        assert not any(Forked(train_until, home, config, steps).answer() for steps in stops)
    student = checkpoint.load(two.run(RUN).checkpoint)
    assert student is not None
    for name, weight in teacher(two).items():
        torch.testing.assert_close(weight, teacher(alone)[name], rtol=1e-3, atol=1e-5, msg=name)
        assert torch.equal(weight, teacher(broken)[name]), name
        assert not torch.equal(weight, student["model"][f"image.{name}"]), name
    assert all(Forked(train, home, config).answer() for home, config in ((alone, one), (two, both), (broken, both)))
    assert_close(two, alone)
    assert curve(two) == curve(broken)
    assert all(torch.equal(tensor, weights(broken)[name]) for name, tensor in weights(two).items())


def test_divergence_ends_the_run_in_all_processes(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    assert Forked(train, home, make_config("mae", schedule__steps=50, schedule__lr=1e6, runtime__processes=2)).answer()
    record = read_json(home.run(RUN).record)
    assert (record["state"], record["diverged"]) == ("diverged", {"step": 2, "culprit": "image loss"})
    assert not home.run(RUN).model.exists()


# ---- cost


def test_all_gpus_and_all_processors_are_paid_for() -> None:
    class Four(World):
        def collect(self, value: Any) -> list[Any]:
            return [value, 1.0, 2.0, 3.0]

    meter = Meter(ElapsedCost(100.0, 50.0, 300.0), torch.device("cuda"), Four(0, 4))
    spent = meter.elapsed()
    assert spent.gpu_seconds == pytest.approx(300.0 + 4 * (spent.seconds - 100.0))
    assert 56.0 <= spent.cpu_seconds < 57.0
    assert Meter(ElapsedCost(), CPU).elapsed().gpu_seconds == 0.0
