"""One training step of each objective against CLIP's: time against FLOPs, and memory against MaskCLIP's Table 1.

    python tests/benchmarks/bench_objectives.py [--rounds 4] [--batch 64] [--precision bf16] [--memory]

The step is that of training: draws, losses, teacher, gradient, AdamW, moving average. All contestants take turns in one
process and thread, and the figure is the best CPU time of a step, so that a shared machine disturbs the ratios little.
Expect time within 1.05 of the ratio of FLOPs where products dominate; SimCLR's further views are also augmented, which
FLOPs leave out. Captions have 20 tokens of 77. About two minutes. `--memory`: GiB of the tensors that are alive at once
in a step of 128 samples of ViT-B/16 (MaskCLIP's share of a GPU), added up without computing anything, with the ratio to
CLIP's and the ratio that Table 1 prints; some seconds more.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import torch
from bench_size import REAL_TOKENS, STEP, caption_length, configured, needed, prepared

from ablative.trainer.clip.models.flops import train_flops
from ablative.trainer.clip.spec.config import CodesConfig, ModelConfig, ObjectiveConfig, RunConfig, SimclrConfig
from ablative.trainer.clip.spec.recipes import RECIPES
from ablative.trainer.torch.devices import arithmetic

CPU = torch.device("cpu")
VOCAB = 8192
MODEL = ModelConfig(
    name="M", image_size=64, patch_size=8, width=192, depth=6, heads=3, text_width=128, text_depth=4, text_heads=2,
    context_length=77, vocab_size=VOCAB, embed_dim=128, pooling="gap", decoder_width=192, decoder_depth=1,
    decoder_heads=3,
)  # fmt: skip
PRINTED = {"clip": 14, "clip_simclr": 30, "clip_mae": 16, "clip_beit": 24, "maskclip": 17}
"""GiB in MaskCLIP's Table 1."""
PAPER_SHARE = 128


def objective(name: str) -> ObjectiveConfig:
    masking = "similarity" if RECIPES[name].mask_by_similarity else "random"
    simclr, codes = SimclrConfig(hidden=1024, dim=128), CodesConfig(width=32)
    return ObjectiveConfig(name=name, masking=masking, local_steps=0, simclr=simclr, codes=codes)


class Contestant:
    """A system that can take a step; remembers its best CPU time."""

    def __init__(self, config: RunConfig) -> None:
        self.update, self.batch = prepared(config, CPU)
        length = caption_length(config.model)
        self.flops = train_flops(config.model, config.objective, REAL_TOKENS, length)
        self.seconds = float("inf")

    def step(self) -> None:
        start = time.process_time()
        self.update(STEP, self.batch)
        self.seconds = min(self.seconds, time.process_time() - start)


def times(batch: int, rounds: int, precision: str, model: ModelConfig = MODEL) -> dict[str, tuple[float, float]]:
    """Objective → its time and its FLOPs, each over CLIP's."""
    base = configured("tiny", batch, 0)
    base = replace(base, model=model, schedule=replace(base.schedule, precision=precision))
    with arithmetic(CPU, 1):
        field = {name: Contestant(replace(base, objective=objective(name))) for name in RECIPES}
        for _ in range(rounds):
            for contestant in field.values():
                contestant.step()
    clip = field["clip"]
    return {name: (own.seconds / clip.seconds, own.flops / clip.flops) for name, own in field.items()}


def memory(model: str = "vit_b16_maskclip", share: int = PAPER_SHARE) -> dict[str, float]:
    """Objective → GiB of a step."""
    base = configured(model, share, 0)
    return {name: needed(replace(base, objective=ObjectiveConfig(name=name))) for name in PRINTED}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--memory", action="store_true")
    given = parser.parse_args()
    if given.rounds:
        print(f"{given.precision}, batch {given.batch}, over CLIP:")
        for name, (seconds, flops) in times(given.batch, given.rounds, given.precision).items():
            print(f"  {name:<16} time {seconds:.3f}, FLOPs {flops:.3f} ({seconds / flops:.3f} of it)")
    if given.memory:
        found = memory()
        print(f"memory of {PAPER_SHARE} samples, ViT-B/16, in one piece:")
        for name, size in found.items():
            ours, printed = size / found["clip"], PRINTED[name] / PRINTED["clip"]
            print(f"  {name:<16}{size:6.1f} GiB, {ours:.2f} of CLIP (Table 1: {PRINTED[name]} GiB, {printed:.2f})")


if __name__ == "__main__":
    main()
