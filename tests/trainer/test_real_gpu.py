"""Training on a GPU that is there: numbers of the CPU within rounding, compiled or not, and runs that go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_run import CANCELLED, MODEL, OBJECTIVES, job, make_batch, make_config, make_home, write_run

from ablative.study.core.errors import Interrupted
from ablative.study.core.files import read_json
from ablative.trainer.clip.objectives.system import System
from ablative.trainer.clip.step import TrainStep
from ablative.trainer.clip.tasks import execute

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


def first_step(objective: str, device: str, **changes: Any) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """Metrics, and gradients of each parameter."""
    config = make_config(objective, model__init_std=0.25, **changes)
    torch.manual_seed(1)
    system = System(config.model, config.objective, MODEL.vocab_size).to(device)
    update = TrainStep(system, config, torch.device(device))
    update(4, make_batch(8))
    gradients = {name: p.grad.cpu() for name, p in system.named_parameters() if p.grad is not None}
    shares = [found for _, found in update.shares.taken()]
    return {**update.metrics(), **(shares[0] if shares else {})}, gradients


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_step_is_that_of_the_cpu(objective: str) -> None:
    expected, slopes = first_step(objective, "cpu")
    for changes in ({}, {"runtime__micro_batch": 3}):
        found, own = first_step(objective, "cuda", **changes)
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-5)
        for name in slopes.keys() - {*CANCELLED}:
            scale = float(slopes[name].abs().max())
            torch.testing.assert_close(own[name], slopes[name], rtol=1e-2, atol=1e-3 * scale + 1e-7, msg=name)


@pytest.mark.parametrize("objective", ["mae_clip similarity", "maskclip", "clip_simclr"])
def test_compiled_in_bf16(objective: str) -> None:
    expected, _ = first_step(objective, "cuda", schedule__precision="bf16")
    found, _ = first_step(objective, "cuda", schedule__precision="bf16", runtime__compile=True)
    assert found["train/loss"] == pytest.approx(expected["train/loss"], rel=2e-2)


@pytest.mark.parametrize("objective", ["maskclip", "clip_simclr"])
def test_stopped_and_gone_on_with(objective: str, tmp_path: Path) -> None:
    """Within rounding: kernels add in another order from time to time."""
    losses = []
    for name, stops in (("whole", 0), ("broken", 2)):
        home = make_home(tmp_path / name)
        paths = write_run(home, make_config(objective, schedule__steps=6, runtime__device="cuda"))
        for _ in range(stops):
            with pytest.raises(Interrupted):
                execute(job(paths, home, lambda: True))
        execute(job(paths, home))
        record = read_json(paths.record)
        assert record is not None and record["metrics"]["cost/gpu_hours"] > 0
        losses.append(record["metrics"]["train/loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
