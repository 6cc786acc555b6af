"""Training and every protocol where `runtime.device: auto` finds a GPU: each tensor is on the device that needs it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from forked import Forked
from pretended_gpu import pretended_gpu
from tiny_run import OBJECTIVES, job, make_config, make_home, write_run

from ablative.study.core.errors import Interrupted
from ablative.study.core.files import read_json, write_json
from ablative.study.core.typed import plain
from ablative.study.home.paths import Home, watched
from ablative.study.plan.plan import make_plan
from ablative.trainer.clip import checkpoint
from ablative.trainer.clip.spec.config import EvaluationConfig
from ablative.trainer.clip.tasks import execute

RUN = "aaaaaaaaaaaa"


def train(home: Home, objective: str, **changes: Any) -> dict[str, float]:
    """Metrics of three steps."""
    config = make_config(objective, **{"schedule__steps": 3, "runtime__device": "auto"} | changes)
    paths = write_run(home, config, RUN)
    execute(job(paths, home))
    record = read_json(paths.record)
    assert record is not None
    metrics: dict[str, float] = record["metrics"]
    return metrics


@pytest.fixture(scope="module")
def protocols(tmp_path_factory: pytest.TempPathFactory) -> dict[str, EvaluationConfig]:
    """Every protocol of the MAE-CLIP paper, on sets of its miniature with few samples each."""
    plan = make_plan("mae_clip_mini", home=Home(tmp_path_factory.mktemp("planned")))
    found = {}
    for task in plan.tasks:
        if isinstance(task.config, EvaluationConfig):
            protocol = replace(task.config.protocol, epochs=1)
            sets = tuple(replace(item, train=40, test=20) for item in task.config.datasets)
            found[protocol.name] = EvaluationConfig(run_id=RUN, protocol=protocol, datasets=sets)
    return found


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_run_is_that_of_the_cpu(tmp_path: Path, objective: str) -> None:
    """What differs between the devices is the number of rows that the vocabulary's head sees, and so the rounding."""
    plain_metrics = train(make_home(tmp_path / "cpu"), objective)
    with pretended_gpu() as memory:
        metrics = train(make_home(tmp_path / "gpu"), objective)
    assert memory.operations > 1000
    assert metrics["train/loss"] == pytest.approx(plain_metrics["train/loss"], rel=1e-5)
    assert metrics["cost/gpu_hours"] > 0 and metrics["cost/flops_utilisation"] > 0
    assert metrics["cost/peak_memory_gib"] == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"runtime__micro_batch": 3},
        {"runtime__memory_share": 1e-5, "schedule__batch_size": 16},
        {"runtime__workers": 1},
        {"runtime__checkpoint_activations": True},
        {"schedule__precision": "bf16"},
        {"schedule__grad_clip": 1.0},
        {"model__pooling": "max"},
        {"model__pooling": "gap"},
        {"objective__similarity_reduce": "filip_max"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_options(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pretended_gpu():
        assert train(make_home(tmp_path), "mae_clip similarity", **changes)["train/loss"] > 0


def train_on_two(home: Home, objective: str, changes: dict[str, Any]) -> dict[str, float]:
    with pretended_gpu() as memory:
        metrics = train(home, objective, runtime__processes=2, **changes)
    return metrics | {"operations": memory.operations, "waits": memory.waits}


@pytest.mark.parametrize(
    ("objective", "changes"),
    [
        ("clip", {"runtime__micro_batch": 2}),
        ("mae_clip similarity", {}),
        pytest.param("clip", {}, marks=pytest.mark.long),
        pytest.param("mae_clip similarity", {"runtime__micro_batch": 2}, marks=pytest.mark.long),
        pytest.param("m3ae", {}, marks=pytest.mark.long),
        pytest.param("m3ae", {"runtime__micro_batch": 2}, marks=pytest.mark.long),
    ],
    ids=str,
)
def test_two_gpus_train_the_run_of_one_process(tmp_path: Path, objective: str, changes: dict[str, Any]) -> None:
    """Two processes end with the numbers of one, and nothing between them waits for a step.

    For each change two of six combinations stay: one whole batch, one in micro-batches, with and without a decoder.
    """
    alone = train(make_home(tmp_path / "alone"), objective, schedule__steps=6, runtime__log_every=100)
    waits = []
    for steps in (3, 6):
        given = changes | {"schedule__steps": steps, "runtime__log_every": 100}
        metrics = Forked(train_on_two, make_home(tmp_path / str(steps)), objective, given).answer()
        waits.append(metrics["waits"])
    assert metrics["operations"] > 1000 and waits[0] == waits[1] > 0
    assert metrics["train/loss"] == pytest.approx(alone["train/loss"], rel=1e-4)


def test_stopped_and_gone_on_with(tmp_path: Path, protocols: dict[str, EvaluationConfig]) -> None:
    """With an evaluation in its midst, as of a search."""
    home = make_home(tmp_path)
    paths = write_run(home, make_config("mae_clip", schedule__steps=4, runtime__device="auto"), RUN)
    write_json(watched(paths.root), {"every": 1, "evaluation": plain(protocols["zero_shot"])})
    with pretended_gpu():
        with pytest.raises(Interrupted):
            execute(job(paths, home, lambda: True))
        state = checkpoint.load(paths.checkpoint)
        assert state is not None and state["step"] == 1 and state["random"]["cuda"] is not None
        execute(job(paths, home))
    assert read_json(paths.record) is not None


@pytest.mark.parametrize("objective", ["mae_clip", "m3ae"])
def test_protocols(tmp_path: Path, objective: str, protocols: dict[str, EvaluationConfig]) -> None:
    assert len(protocols) == 7
    home = make_home(tmp_path)
    with pretended_gpu() as memory:
        train(home, objective)
        for name, config in protocols.items():
            if objective == "m3ae" and name not in ("linear_probe", "finetune", "vqa", "panels"):
                continue
            paths = home.run(RUN).evaluation(name)
            paths.root.mkdir(parents=True)
            paths.config.write_text(yaml.safe_dump(plain(config)))
            before = memory.operations
            execute(job(paths, home))
            assert memory.operations > before + 100, name
            record = read_json(paths.record)
            assert record is not None and record["metrics"]["cost/gpu_hours"] > 0


def test_what_a_gpu_refuses() -> None:
    cpu = torch.arange(4.0)
    with pretended_gpu():
        gpu = cpu.to("cuda")
        assert (gpu.device.type, gpu[1:].device.type, gpu.cpu().device.type) == ("cuda", "cuda", "cpu")
        assert (gpu * torch.tensor(2.0)).sum().item() == 12 and gpu[torch.tensor([1])].device.type == "cuda"
        assert torch.zeros(2, device="cuda").device.type == "cuda" and torch.zeros_like(gpu).device.type == "cuda"
        for wrong in (
            lambda: gpu + cpu,
            lambda: cpu * gpu.sum(),
            lambda: cpu[gpu.long()],
            lambda: torch.stack([gpu, cpu]),
        ):
            with pytest.raises(RuntimeError, match="on the same device"):
                wrong()
        for convert in (gpu.numpy, lambda: np.asarray(gpu)):
            with pytest.raises(TypeError, match="to numpy"):
                convert()
        generator = torch.Generator()
        for draw in (
            lambda: gpu.uniform_(generator=generator),
            lambda: torch.rand(2, device="cuda", generator=generator),
        ):
            with pytest.raises(RuntimeError, match="for generator"):
                draw()


@pytest.mark.parametrize(
    ("objective", "changes"),
    [
        ("clip", {}),
        ("mae_clip similarity", {}),
        pytest.param("m3ae", {}, marks=pytest.mark.long),
        pytest.param("mae_clip similarity", {"runtime__micro_batch": 3}, marks=pytest.mark.long),
        pytest.param("mae_clip similarity", {"runtime__workers": 1}, marks=pytest.mark.long),
    ],
    ids=str,
)
def test_the_loop_waits_for_no_step(tmp_path: Path, objective: str, changes: dict[str, Any]) -> None:
    """What is waited for (the model's way to the GPU and back, the last metrics) does not depend on the steps.

    For each change one step with loader processes stays, above.
    """
    waits = []
    for number, (steps, every) in enumerate(((2, 100), (6, 100), (6, 1))):
        with pretended_gpu() as memory:
            home = make_home(tmp_path / str(number))
            train(home, objective, schedule__steps=steps, runtime__log_every=every, **changes)
        waits.append(memory.waits)
    assert 0 < waits[0] == waits[1] < waits[2]


def test_what_makes_the_cpu_wait() -> None:
    cpu = torch.arange(4.0)
    with pretended_gpu() as memory:
        gpu = cpu.pin_memory().to("cuda", non_blocking=True)
        mask = gpu > 1
        gpu[mask.long()].mul_(2).cumsum(0)
        assert memory.waits == 0
        for wait in (
            gpu[0].item,
            gpu.tolist,
            gpu.cpu,
            lambda: gpu[mask],
            lambda: gpu[torch.tensor([1])],
            lambda: bool(mask.any()),
            lambda: cpu.to("cuda"),
        ):
            before = memory.waits
            wait()
            assert memory.waits > before
