"""What the journal costs of a training step, on one CPU thread: under 1 % is the target.

python tests/benchmarks/bench_tracking_share.py

Times the loop's own calls (read the metrics back, append them to the journal) in the demo's runs, the smallest
that anybody trains; a larger model only lowers the share. CPU time, so that other programs do not count.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import torch

from ablative.study.home.journal import Journal
from ablative.study.plan.plan import make_plan
from ablative.trainer.clip.data.pairs.batch import Batch
from ablative.trainer.clip.objectives.system import System
from ablative.trainer.clip.spec.config import RunConfig
from ablative.trainer.clip.step import TrainStep
from ablative.trainer.clip.token_ids import BOS, EOS
from ablative.trainer.torch.devices import arithmetic

WARM, STEPS = 5, 60


def make_batch(config: RunConfig) -> Batch:
    """Random images, and captions of half the context length."""
    size, length = config.schedule.batch_size, config.model.context_length
    tokens = torch.zeros(size, length, dtype=torch.int64)
    tokens[:, : length // 2] = torch.randint(4, config.model.vocab_size, (size, length // 2))
    tokens[:, 0], tokens[:, length // 2 - 1] = BOS, EOS
    side = config.model.image_size
    return Batch(torch.randint(256, (size, side, side, 3), dtype=torch.uint8), tokens)


def measure(config: RunConfig) -> tuple[float, float]:
    """CPU seconds of one step, and of reporting one step."""
    device = torch.device("cpu")
    with arithmetic(device, 1), tempfile.TemporaryDirectory() as folder:
        system = System(config.model, config.objective, config.model.vocab_size).train()
        update, batch, journal = TrainStep(system, config, device), make_batch(config), Journal(Path(folder) / "j")
        stepping = reporting = 0.0
        for step in range(WARM + STEPS):
            begin = time.process_time()
            update(step, batch)
            between = time.process_time()
            journal.metrics(step + 1, update.metrics() | {"cost/samples_per_second": 1.0})
            update.watch.verdict()
            end = time.process_time()
            if step >= WARM:
                stepping, reporting = stepping + between - begin, reporting + end - between
        journal.close()
    return stepping / STEPS, reporting / STEPS


def main() -> None:
    configs: dict[str, RunConfig] = {}
    for task in make_plan("demo").tasks:
        if isinstance(task.config, RunConfig) and task.config.schedule.steps:
            configs.setdefault(task.config.objective.name, task.config)
    every = next(iter(configs.values())).runtime.log_every
    print(f"{'objective':12} {'step':>9} {'report':>9} {'every step':>11} {f'every {every}':>9}   samples/s")
    for name, config in configs.items():
        step, report = measure(config)
        shares = [100 * report / (count * step + report) for count in (1, every)]
        rate = config.schedule.batch_size / step
        print(
            f"{name:12} {1e3 * step:6.1f} ms {1e3 * report:6.2f} ms {shares[0]:9.2f} % {shares[1]:7.3f} % {rate:11.0f}"
        )


if __name__ == "__main__":
    main()
