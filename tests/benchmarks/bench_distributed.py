"""One run on several processes of this machine: samples per second, and what they tell each other.

    python tests/benchmarks/bench_distributed.py [--sizes 1 2] [--steps 20]

MAE-CLIP of the preset `tiny` at a global batch of 64, one thread a process. On idle cores expect a little less than
as many times the samples per second as there are processes: features travel before the backward pass, gradients during
it. About a minute.

The last lines are arithmetic, not measured: what the papers' CLIP of ViT-B/16 at a batch of 16,384 saves on H100s, with
half of their peak, by sending gradients during the backward pass. A ring moves 2 · (N − 1) / N times the gradients
through each GPU, over NVLink (400 GB/s) among 8 and over a network of 400 Gb/s a GPU (45 GB/s) among 64. What remains
is the last bucket. That holds as far as gradients become ready one after the other: where a pass is compiled as one
graph, they do so when it ends, and then it is no more than the passes before the last one that hide anything.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from ablative.study.plan.plan import make_plan
from ablative.trainer.clip.data.pairs.batch import Batch
from ablative.trainer.clip.models.flops import train_flops
from ablative.trainer.clip.objectives.system import System
from ablative.trainer.clip.spec.config import ObjectiveConfig, RunConfig
from ablative.trainer.clip.step import TrainStep
from ablative.trainer.torch.devices import arithmetic
from ablative.trainer.torch.distributed import BUCKET, World
from ablative.trainer.torch.process_group import team

sys.path.insert(0, str(Path(__file__).parent))

from bench_tracking_share import make_batch

CPU = torch.device("cpu")
OVERRIDES = ("seeds=[0]", "schedule.batch_size=64", "runtime.device=cpu")
WARM = 3
PEAK = 989e12
"""FLOP/s of an H100 in bf16."""


def seconds_per_step(config: RunConfig, steps: int, world: World) -> float:
    """Mean over `steps` steps that all processes take together."""
    with arithmetic(CPU, 1):
        torch.manual_seed(0)
        update = TrainStep(System(config.model, config.objective, config.model.vocab_size), config, CPU, world)
        whole = make_batch(config)
        batch = Batch(whole.images[update.rows], whole.tokens[update.rows])
        for step in range(WARM + steps):
            if step == WARM:
                world.wait()
                begin = time.perf_counter()
            update(step, batch)
        return (time.perf_counter() - begin) / steps


def measure(size: int, steps: int) -> tuple[float, int]:
    """Seconds of a step on `size` processes, and parameters of the model."""
    runs = make_plan("demo", (*OVERRIDES, f"runtime.processes={size}")).runs
    configs = [task.config for task in runs if isinstance(task.config, RunConfig)]
    config = next(config for config in configs if config.objective.name == "mae_clip")

    def follow(world: World) -> None:
        seconds_per_step(config, steps, world)

    with team(config.runtime, follow) as world:
        seconds = seconds_per_step(config, steps, world)
    system = System(config.model, config.objective, config.model.vocab_size)
    return seconds, sum(parameter.numel() for parameter in system.parameters())


def modelled(gpus: int, gigabytes_per_second: float, bytes_each: int) -> str:
    """Time of a step on so many GPUs, with gradients sent after the backward pass and during it."""
    run = make_plan("mae_clip_cc", ("model=vit_b16", "schedule.batch_size=16384"), without_data=True).runs[0].config
    assert isinstance(run, RunConfig)
    model, objective = run.model, ObjectiveConfig(name="clip")
    with FakeTensorMode():
        system = System(model, objective, model.vocab_size)
        elements = sum(parameter.numel() for parameter in system.parameters())
    computing = 16_384 / gpus * train_flops(model, objective, 20, 24) / (0.5 * PEAK)
    sending = 2 * (gpus - 1) / gpus * bytes_each * elements / (gigabytes_per_second * 1e9)
    after = computing + sending
    during = max(computing, sending) + sending * min(1.0, BUCKET / elements)
    times = f"{1000 * computing:.1f} ms of arithmetic, {1000 * sending:.1f} ms of sums"
    both = f"{1000 * after:.1f} ms one after the other, {1000 * during:.1f} ms at once"
    return f"{gpus:3} GPUs, {bytes_each} bytes a gradient: {times}; {both}: {1 - during / after:.1%} less"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--steps", type=int, default=20)
    given = parser.parse_args()
    for size in given.sizes:
        # A process that has computed gradients cannot fork others that will.
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            seconds, parameters = pool.submit(measure, size, given.steps).result()
        print(
            f"{size} processes: {1000 * seconds:7.1f} ms a step, {64 / seconds:7.0f} samples/s; "
            f"{4 * parameters / 2**20:.1f} MiB of gradients a step"
        )
    for gpus, speed in ((8, 400.0), (64, 45.0)):
        for bytes_each in (4, 2):
            print(modelled(gpus, speed, bytes_each))


if __name__ == "__main__":
    main()
