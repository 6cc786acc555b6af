"""Graphs are kept as far as memory allows, and then nothing is computed twice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_run import MODEL, make_batch, make_config

from ablative.trainer.clip.micro_batches import Division
from ablative.trainer.clip.models.blocks import Block
from ablative.trainer.clip.objectives.system import System
from ablative.trainer.clip.spec.config import RunConfig
from ablative.trainer.clip.step import Gradients
from ablative.trainer.clip.step_memory import Line, StepMemory, divide, make_division, step_memory
from ablative.trainer.torch.distributed import ALONE, World
from ablative.trainer.torch.memory import LiveTensors

CPU = torch.device("cpu")
GIB = 2**30


def gradients(config: RunConfig, division: Division) -> tuple[torch.Tensor, list[torch.Tensor], float]:
    """Losses, gradients, and the most bytes of tensors that the step had at once besides weights and gradients."""
    torch.manual_seed(1)
    system = System(config.model, config.objective, MODEL.vocab_size)
    batch, side = make_batch(config.schedule.batch_size), config.model.image_size
    if side != MODEL.image_size:
        images, *views = torch.randint(256, (3, len(batch), side, side, 3), dtype=torch.uint8)
        batch = replace(batch, images=images, views=torch.stack(views))
    draws = system.draw(len(batch), torch.Generator().manual_seed(2))
    for parameter in system.parameters():
        parameter.grad = torch.zeros_like(parameter)
    with LiveTensors() as alive:
        losses = Gradients(system, config, CPU, division=division)(100, batch, draws)
    return losses, [parameter.grad for parameter in system.parameters() if parameter.grad is not None], alive.peak


@pytest.mark.parametrize(
    ("objective", "precision"),
    [
        *((objective, "fp32") for objective in ("clip", "maskclip", "clip_simclr", "mae")),
        *(("mae_clip similarity", precision) for precision in ("fp32", "bf16")),
    ],
)
def test_a_kept_graph_spares_a_pass_and_changes_no_bit(
    objective: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each kept graph of four pieces spares the passes whose outcome depends on the whole batch."""
    config = make_config(objective, schedule__precision=precision)
    calls: list[int] = []
    forward = Block.forward
    monkeypatch.setattr(Block, "forward", lambda *args: calls.append(1) or forward(*args))
    losses, expected, _ = gradients(config, Division(2, 0))
    most = len(calls)
    passes = {"clip": 2, "mae_clip similarity": 2, "maskclip": 2, "clip_simclr": 3, "mae": 0}[objective]
    for kept in (1, 2, 4):
        calls.clear()
        found_losses, found, _ = gradients(config, Division(2, kept))
        assert most - len(calls) == passes * kept
        assert torch.equal(found_losses, losses)
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("objective", ["clip", "mae_clip", "maskclip"])
def test_a_step_takes_the_memory_of_the_estimate(objective: str) -> None:
    """Whatever the division, and with 16 samples, where pieces of four and eight were tried. Never more: what a piece
    takes is a straight line, and captions are of full length."""
    config = make_config(objective, schedule__batch_size=16, schedule__precision="bf16")
    config = replace(config, model=replace(config.model, width=48, depth=3, image_size=32))
    memory = step_memory(config, MODEL.vocab_size, ALONE)
    estimates, peaks = [], []
    for division in (Division(16), Division(8, 1), Division(8, 2), Division(4, 1), Division(4, 3)):
        _, _, peak = gradients(config, division)
        estimates.append(memory.peak(division) + memory.batch)
        peaks.append(peak)
    print(objective, [f"{peak / estimate:.2f}" for peak, estimate in zip(peaks, estimates, strict=True)])
    assert all(0.5 * estimate < peak <= estimate for peak, estimate in zip(peaks, estimates, strict=True))


def test_divisions_by_hand() -> None:
    """A graph of 1 GiB and 10 MiB for each sample, 2 GiB besides for a pass: 1,024 rows in one piece take 13 GiB."""
    memory = StepMemory(Line(GIB, 10 * 2**20), Line(2 * GIB, 0), batch=0)
    assert memory.peak(Division(1024)) == 13 * GIB
    for room, expected in (
        (13, Division(1024, 1)),  # the whole batch
        (
            12.9,
            Division(256, 3),
        ),  # one graph of 512 samples with 6 GiB, three of 256 with 3.5, or four of 128 with 2.25
        (8, Division(512, 1)),
        (7.9, Division(256, 1)),
        (3.1, Division(8, 1)),
        (1, Division(1, 1)),  # tried all the same
    ):
        assert divide(1024, 1024, memory, room * GIB) == expected, room
    # Where only a pass grows, many small graphs are as good as a large one.
    passes = StepMemory(Line(0, 10 * 2**20), Line(0, 10 * 2**20), batch=0)
    assert divide(1024, 1024, passes, 15 * GIB) == Division(512, 2)
    assert divide(1024, 1024, passes, 12 * GIB) == Division(128, 8)
    assert divide(1024, 1024, passes, 11.2 * GIB) == Division(128, 7)
    assert divide(1024, 100, passes, 15 * GIB) == Division(100, 11), "never more than it is given"


def test_pieces_follow_the_memory_of_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The less there is, the more is computed again; halved with each failure (`memory_share`); a CPU is not asked."""

    def division(free: float, **changes: Any) -> Division:
        monkeypatch.setattr("ablative.trainer.clip.step_memory.free_bytes", lambda device: free)
        config = make_config("clip", schedule__batch_size=2048, **changes)
        return make_division(config, MODEL.vocab_size, torch.device("cuda"), World(0, 2))

    needed = step_memory(make_config("clip", schedule__batch_size=2048), MODEL.vocab_size, World(0, 2))
    whole = needed.batch + needed.peak(Division(1024, 1)) / 0.9
    assert division(whole + 1) == Division(1024, 1)
    assert division(whole + 1, runtime__micro_batch=512) == Division(512, 2)
    less = division(whole + 1, runtime__memory_share=0.45)
    assert less.size * less.kept < 1024
    least = division(whole + 1, runtime__memory_share=0.9 / 64)
    assert least.size < less.size and least.kept == 1
    monkeypatch.undo()
    assert make_division(make_config("clip"), MODEL.vocab_size, CPU, ALONE) == Division(0, 1)
