"""One run on several processes of this machine: samples per second, and what they tell each other.

    python tests/benchmarks/bench_distributed.py [--sizes 1 2] [--steps 20]

MAE-CLIP of the preset `tiny` at a global batch of 64, one thread a process. On idle cores expect a little less than
as many times the samples per second as there are processes: gradients and features travel after the backward pass,
not during it. About a minute.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

from ablative.study.plan.plan import make_plan
from ablative.trainer.clip.data.pairs.batch import Batch
from ablative.trainer.clip.objectives.system import System
from ablative.trainer.clip.spec.config import RunConfig
from ablative.trainer.clip.step import TrainStep
from ablative.trainer.torch.devices import arithmetic
from ablative.trainer.torch.distributed import World
from ablative.trainer.torch.process_group import team

sys.path.insert(0, str(Path(__file__).parent))

from bench_tracking_share import make_batch

CPU = torch.device("cpu")
OVERRIDES = ("seeds=[0]", "schedule.batch_size=64", "runtime.device=cpu")
WARM = 3


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


if __name__ == "__main__":
    main()
