"""The papers' ViT-B/16 at size: the memory of a step everywhere, and on a GPU its speed.

    python tests/benchmarks/bench_size.py [--device cuda] [--model vit_b16] [--batch 512] [--steps 10]

Memory is that of the tensors that are alive at once in a step with bf16 products, added up without computing anything:
a batch of `--batch` in one pass, and the papers' 16,384 in pieces of `--batch` on one device. On a GPU it is measured
too, with samples per second and utilisation of the peak (MFU), compiled, for CLIP, MAE-CLIP with decoders of 8 and
12 layers, and MaskCLIP, whose time should be within 1.05 of the ratio of their FLOPs. Captions have 20 tokens of 77.
Without a GPU about five minutes.
"""

from __future__ import annotations

import argparse
import sys
import time
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ablative.study.costs.devices import find
from ablative.study.plan.plan import make_plan
from ablative.trainer.clip.data.pairs.batch import Batch
from ablative.trainer.clip.models.flops import train_flops
from ablative.trainer.clip.models.towers import trim_padding
from ablative.trainer.clip.objectives.system import System
from ablative.trainer.clip.objectives.terms.reconstruction import ROWS_MULTIPLE
from ablative.trainer.clip.spec.config import ModelConfig, ObjectiveConfig, RunConfig
from ablative.trainer.clip.spec.recipes import TEXT, recipe_of
from ablative.trainer.clip.step import TrainStep
from ablative.trainer.torch.devices import arithmetic

sys.path.insert(0, str(Path(__file__).parents[1]))

from fake_step import step_without_values

PAPER_BATCH = 16_384
REAL_TOKENS = 20
STEP = 20_000
"""Past the local phase of mae_clip_cc, whose schedule all have; losses' shares are measured at other steps."""


class Alive(TorchDispatchMode):
    """Bytes of all tensors that are alive, and the most there were at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: set[int] = set()

    def note(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self._seen:
            self._seen.add(key)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._freed, key, size)

    def _freed(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.now -= size

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        for value in tree_leaves(found):
            if isinstance(value, torch.Tensor):
                self.note(value)
        return found


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


def needed(config: RunConfig, length: int = 0) -> float:
    """GiB of the tensors of a step; `length`: of the captions, by default as they are trimmed."""
    size, recipe = config.runtime.micro_batch or config.schedule.batch_size, recipe_of(config.objective)
    hidden = REAL_TOKENS - int(REAL_TOKENS * (1 - config.objective.text_mask_ratio))
    rows = -(-size * hidden // ROWS_MULTIPLE) * ROWS_MULTIPLE if TEXT in recipe.terms else None
    with step_without_values(config, rows, length or caption_length(config.model)) as (update, batch):
        with Alive() as alive:
            for parameter in update.system.parameters():
                alive.note(parameter)
            update(STEP, batch)
        # Moments that the first update made were not there before it: they count from its beginning.
        return alive.peak / 2**30


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
    update = TrainStep(System(model, config.objective, model.vocab_size).to(device), config, device)
    count = 1 + recipe_of(config.objective).views
    images, *views = torch.randint(256, (count, size, model.image_size, model.image_size, 3), dtype=torch.uint8)
    return update, Batch(images, captions(model, size), torch.stack(views) if views else None)


def measured(config: RunConfig, device: torch.device, steps: int) -> tuple[float, float]:
    """Samples per second, compiled, and GiB at most."""
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
    return size / seconds, memory


def speeds(configs: dict[str, RunConfig], device: torch.device, steps: int) -> None:
    """Print samples/s, utilisation, memory and the ratios to CLIP."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    known, first = find(name), 0.0
    print(f"measured on {name}:")
    for label, config in configs.items():
        rate, memory = measured(config, device, steps)
        length = caption_length(config.model)
        pace = rate * train_flops(config.model, config.objective, min(REAL_TOKENS, length), length)
        first = first or pace
        share = f"{pace / known.peak('bf16'):.1%} of the peak" if known else f"{pace / 1e12:.2f} TFLOP/s"
        beside = f"{first / pace:.3f} of the time that its FLOPs take CLIP"
        print(f"  {label:<20}{rate:9,.0f} samples/s, {share}, {memory:.1f} GiB; {beside}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "", help="none: memory alone")
    parser.add_argument("--model", default="vit_b16")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--steps", type=int, default=10)
    given = parser.parse_args()
    for total in (given.batch, PAPER_BATCH):
        for label, config in contestants(given.model, total, given.batch).items():
            print(f"{label:<20}{total:7,} samples in pieces of {given.batch}: {needed(config):6.1f} GiB")
    if given.device:
        speeds(contestants(given.model, given.batch, 0), torch.device(given.device), given.steps)


if __name__ == "__main__":
    main()
