"""The papers' ViT-B/16 at size: how a step fits into memory everywhere, and on a GPU its speed.

    python tests/benchmarks/bench_size.py [--device cuda] [--model vit_b16] [--batch 2048] [--steps 5]

Nothing is computed for the first part: on 1, 8 and 64 GPUs with 80 or 141 GiB, the pieces into which the papers' batch
of 16,384 is divided, how many of their graphs are kept, the memory that this takes, and by how much recomputing the
others raises the FLOPs of a step (of CLIP at most a third). On a GPU a global batch of `--batch` is measured, which is
what each of eight has of the papers': samples per second, utilisation of the peak by the model's FLOPs (MFU) and by all
that are done (HFU), and memory, compiled, for CLIP, MAE-CLIP with decoders of 8 and 12 layers, and MaskCLIP, whose time
should be within 1.05 of the ratio of their FLOPs. Captions have 20 tokens of 77, and memory is reckoned for 77.
Without a GPU about a minute.

Version 0.1.0 (c61c1ad) took pieces of 512 everywhere and kept no graph where there were two: FLOPs × 1.333 for CLIP on
fewer than 32 GPUs. Now 1.188 on 8 of 80 GiB, 1.062 on 8 of 141 GiB.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from dataclasses import replace

import torch

from ablative.study.costs.devices import find
from ablative.study.plan.plan import make_plan
from ablative.trainer.clip.data.pairs.batch import Batch
from ablative.trainer.clip.micro_batches import Division
from ablative.trainer.clip.models.flops import train_flops
from ablative.trainer.clip.models.towers import trim_padding
from ablative.trainer.clip.objectives.system import System
from ablative.trainer.clip.spec.config import ModelConfig, ObjectiveConfig, RunConfig
from ablative.trainer.clip.spec.recipes import recipe_of
from ablative.trainer.clip.step import TrainStep
from ablative.trainer.clip.step_memory import divide, make_division, step_memory
from ablative.trainer.torch.devices import arithmetic
from ablative.trainer.torch.distributed import ALONE, World

PAPER_BATCH = 16_384
REAL_TOKENS = 20
GPUS, ROOMS = (1, 8, 64), (80, 141)
"""Numbers of GPUs, and what each has in GiB."""
STEP = 20_000
"""Past the local phase of mae_clip_cc, whose schedule all have; losses' shares are measured at other steps."""


def contestants(model: str, batch: int, micro: int) -> dict[str, RunConfig]:
    """CLIP, MAE-CLIP with both decoders, and MaskCLIP, at a global batch in pieces of `micro`."""
    base, maskclip = (configured(name, batch, micro) for name in (model, f"{model}_maskclip"))
    both = ObjectiveConfig(name="mae_clip", masking="similarity")
    shallow, deep = (replace(base.model, decoder_depth=depth) for depth in (8, 12))
    return {
        "clip": replace(base, objective=ObjectiveConfig(name="clip")),
        "mae_clip, 8 layers": replace(base, objective=both, model=shallow),
        "mae_clip, 12 layers": replace(base, objective=both, model=deep),
        "maskclip": replace(maskclip, objective=ObjectiveConfig(name="maskclip")),
    }


def configured(model: str, batch: int, micro: int) -> RunConfig:
    """A run of mae_clip_cc with another model, at a global batch in pieces of `micro`."""
    words = (
        f"model={model}",
        f"schedule.batch_size={batch}",
        f"runtime.micro_batch={micro}",
        "objective.local_batch=2",
    )
    runs = make_plan("mae_clip_cc", words, without_data=True).runs
    return next(task.config for task in runs if isinstance(task.config, RunConfig))


def recomputed(config: RunConfig, division: Division, rows: int) -> float:
    """Share of a step's FLOPs that is done once more, of pieces whose graph is not kept."""
    model, length = config.model, caption_length(config.model)
    whole, clip = (
        train_flops(model, objective, min(REAL_TOKENS, length), length)
        for objective in (config.objective, ObjectiveConfig(name="clip"))
    )
    pieces = math.ceil(rows / division.size) if division.size else 1
    # A forward pass is a third of a step with its backward pass; what is decoded is computed once.
    return max(0, pieces - max(1, division.kept)) / pieces * clip / 3 / whole


def divisions(config: RunConfig) -> Iterator[str]:
    """How the papers' global batch is divided on GPUs, and the work that recomputing adds."""
    batch = config.schedule.batch_size
    for gpus in GPUS:
        memory = step_memory(config, config.model.vocab_size, World(0, gpus))
        for room in ROOMS:
            found = divide(batch // gpus, batch // gpus, memory, 0.9 * (room * 2**30 - memory.batch))
            more = recomputed(config, found, batch // gpus)
            kept = min(found.kept, math.ceil(batch / gpus / found.size))
            yield (
                f"{gpus:3} × {room} GiB: {math.ceil(batch / gpus / found.size):3} pieces of {found.size:5}, "
                f"{kept:3} kept, {(memory.peak(found) + memory.batch) / 2**30:6.1f} GiB, FLOPs × {1 + more:.3f}"
            )


def needed(config: RunConfig) -> float:
    """GiB of a step in one piece, with captions of full length."""
    memory = step_memory(config, config.model.vocab_size, ALONE)
    return (memory.peak(Division(config.schedule.batch_size)) + memory.batch) / 2**30


def caption_length(model: ModelConfig) -> int:
    """Of captions of `REAL_TOKENS`, trimmed."""
    return int(trim_padding(captions(model, 1)).shape[1])


def captions(model: ModelConfig, batch: int) -> torch.Tensor:
    tokens = torch.zeros(batch, model.context_length, dtype=torch.int64)
    real = min(REAL_TOKENS, model.context_length)
    tokens[:, :real] = torch.randint(4, model.vocab_size, (batch, real))
    return tokens


def prepared(config: RunConfig, device: torch.device) -> tuple[TrainStep, Batch]:
    """A system that can take steps on the device, and a batch for it."""
    size, model = config.schedule.batch_size, config.model
    torch.manual_seed(0)
    system = System(model, config.objective, model.vocab_size).to(device)
    update = TrainStep(system, config, device, division=make_division(config, model.vocab_size, device, ALONE))
    count = 1 + recipe_of(config.objective).views
    images, *views = torch.randint(256, (count, size, model.image_size, model.image_size, 3), dtype=torch.uint8)
    return update, Batch(images, captions(model, size), torch.stack(views) if views else None)


def measured(config: RunConfig, device: torch.device, steps: int) -> tuple[float, float, float]:
    """Samples per second, compiled; GiB at most; and the share of the FLOPs that is done once more."""
    size = config.schedule.batch_size
    with arithmetic(device, 0):
        update, batch = prepared(replace(config, runtime=replace(config.runtime, compile=True)), device)
        for _ in range(3):
            update(STEP, batch)
        update.metrics()
        begin = time.perf_counter()
        for _ in range(steps):
            update(STEP, batch)
        update.metrics()
        seconds = (time.perf_counter() - begin) / steps
    memory = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else float("nan")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    return size / seconds, memory, recomputed(config, update.gradients.division, size)


def speeds(configs: dict[str, RunConfig], device: torch.device, steps: int) -> None:
    """Print samples/s, utilisation, memory and the ratios to CLIP."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    known, first = find(name), 0.0
    print(f"measured on {name}:")
    for label, config in configs.items():
        rate, memory, more = measured(config, device, steps)
        length = caption_length(config.model)
        pace = rate * train_flops(config.model, config.objective, min(REAL_TOKENS, length), length)
        first = first or pace
        used = pace / known.peak("bf16") if known else 0.0
        share = f"MFU {used:.1%}, HFU {used * (1 + more):.1%}" if known else f"{pace / 1e12:.2f} TFLOP/s"
        beside = f"{first / pace:.3f} of the time that its FLOPs take CLIP"
        print(f"  {label:<20}{rate:9,.0f} samples/s, {share}, {memory:.1f} GiB; {beside}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "", help="none: memory alone")
    parser.add_argument("--model", default="vit_b16")
    parser.add_argument("--batch", type=int, default=2048, help="global batch that one GPU is measured with")
    parser.add_argument("--steps", type=int, default=5)
    given = parser.parse_args()
    for label, config in contestants(given.model, PAPER_BATCH, 0).items():
        print(f"{label}, {PAPER_BATCH:,} samples a step")
        for line in divisions(config):
            print(f"  {line}")
    if given.device:
        speeds(contestants(given.model, given.batch, 0), torch.device(given.device), given.steps)


if __name__ == "__main__":
    main()
