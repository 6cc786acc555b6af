"""Small run configurations for the tests of the training loop: a model of a few thousand weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml

from ablative.study.core.typed import plain
from ablative.study.home.paths import Home, RunPaths, TaskPaths
from ablative.study.trainers import JobTask
from ablative.trainer.clip.data.pairs.batch import Batch
from ablative.trainer.clip.spec.config import (
    ClipRuntimeConfig,
    DataConfig,
    ModelConfig,
    ObjectiveConfig,
    RunConfig,
    ScheduleConfig,
)
from ablative.trainer.clip.spec.loss_options import CodesConfig, DistillConfig, MaskConfig, SimclrConfig
from ablative.trainer.clip.token_ids import BOS, EOS

CODES = CodesConfig(levels=(5, 4), stride=2, width=8, blocks=1)
OBJECTIVES: dict[str, dict[str, Any]] = {
    "clip": {"name": "clip"},
    "masked_clip": {"name": "masked_clip", "input_mask_ratio": 0.5},
    "masked_clip text": {"name": "masked_clip", "input_text_mask_ratio": 0.5},
    "mae": {"name": "mae"},
    "mae blocks": {"name": "mae", "mask": MaskConfig(shape="blocks", min_patches=4)},
    "m3ae": {"name": "m3ae", "text_loss_norm": "token"},
    "mae_clip": {"name": "mae_clip"},
    "mae_clip similarity": {"name": "mae_clip", "masking": "similarity", "text_loss_norm": "token"},
    "mae_clip pads": {"name": "mae_clip", "include_pads": True},
    "clip_mae": {"name": "clip_mae"},
    "maskclip": {"name": "maskclip", "distill": DistillConfig(ema_start=0.5, ema_end=0.9)},
    "maskclip_no_ema": {"name": "maskclip_no_ema"},
    "two_stage": {"name": "two_stage"},
    "simclr": {"name": "simclr", "simclr": SimclrConfig(hidden=32, dim=8)},
    "clip_beit": {
        "name": "clip_beit",
        "codes": CODES,
        "mask_ratio": 0.4,
        "mask": MaskConfig(shape="blocks", min_patches=4),
    },
    "fsq": {"name": "fsq", "codes": CODES},
    "clip_simclr": {"name": "clip_simclr", "simclr": SimclrConfig(hidden=32, dim=8)},
}
"""Every objective, and the options that reach into the step."""
CANCELLED = ("image_pool.mlp.out.bias",)
"""What adds the same to all samples before a BatchNorm takes it out again: its gradient is rounding alone."""

MODEL = ModelConfig(
    name="test", image_size=16, patch_size=4, width=16, depth=1, heads=2, text_width=16, text_depth=1,
    text_heads=2, context_length=12, vocab_size=64, embed_dim=8, decoder_width=16, decoder_depth=1, decoder_heads=2,
)  # fmt: skip


def make_config(objective: str = "mae_clip", seed: int = 0, **changes: Any) -> RunConfig:
    """A run on 64 shapes; `changes` are dotted keys with "__" for the dot: `schedule__steps=3`."""
    config = RunConfig(
        # BatchNorm of samples that are nearly alike would enlarge rounding.
        model=replace(MODEL, init_std=0.25) if "simclr" in objective else MODEL,
        objective=ObjectiveConfig(**{"local_steps": 4, "local_batch": 4, **OBJECTIVES[objective]}),
        schedule=ScheduleConfig(name="test", steps=8, batch_size=8, warmup_steps=2, lr=1e-3),
        data=DataConfig(name="shapes", kind="shapes", pairs=64),
        seed=seed,
        runtime=ClipRuntimeConfig(device="cpu", log_every=1, checkpoint_seconds=3600.0),
    )
    for key, value in changes.items():
        section, name = key.split("__")
        config = replace(config, **{section: replace(getattr(config, section), **{name: value})})
    return config


def write_run(home: Home, config: RunConfig, run_id: str = "aaaaaaaaaaaa") -> RunPaths:
    """The directory of a run that is to be trained."""
    paths = home.run(run_id)
    paths.root.mkdir(parents=True)
    paths.config.write_text(yaml.safe_dump(plain(config)))
    return paths


def job(
    paths: TaskPaths, home: Home, stop: Callable[[], bool] = lambda: False, parent: RunPaths | None = None
) -> JobTask:
    """The task in this directory, as a worker hands it to its trainer."""
    opens = paths.root.parent == home.runs
    needs: dict[str, TaskPaths] = {} if opens else {"train": RunPaths(paths.root.parents[1])}
    needs |= {"from": parent} if parent else {}
    stage = "train" if opens else "protocol"
    return JobTask(paths.root.name, stage, 0, paths, home, needs, "clip", stop, opens)


def make_home(folder: Path) -> Home:
    return Home(folder / "home")


def make_batch(size: int, seed: int = 0) -> Batch:
    """Random images (B,16,16,3) with two further views, and captions of 2 to 8 tokens (B,12)."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.zeros(size, MODEL.context_length, dtype=torch.int64)
    for row in tokens:
        length = int(torch.randint(2, 9, (), generator=generator))
        row[:length] = torch.randint(4, MODEL.vocab_size, (length,), generator=generator)
        row[0], row[length - 1] = BOS, EOS
    images, *views = (torch.randint(256, (size, 16, 16, 3), dtype=torch.uint8, generator=generator) for _ in range(3))
    return Batch(images, tokens, torch.stack(views))
