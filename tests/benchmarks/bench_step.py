"""One training step (forward, backward, AdamW): CLIP against open_clip, and MAE-CLIP against CLIP.

    python tests/benchmarks/bench_step.py [--rounds 8] [--sizes S M]

All contestants take turns in one process and thread, and the figure is the best CPU time of a step, so
that a shared machine disturbs the ratios little. A quarter of each context is real tokens, as in web
captions (20 of 77), and nothing is trimmed. Expect ours / open_clip < 1, and MAE-CLIP / CLIP within
1.05 × the ratio of their FLOPs where products dominate. About two minutes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ablative.trainer.clip.objectives.losses import contrastive_loss, token_weights
from ablative.trainer.clip.objectives.system import System, no_decay
from ablative.trainer.clip.spec.config import ModelConfig, ObjectiveConfig

sys.path.insert(0, str(Path(__file__).parents[1]))

from oracles import oracle
from small_systems import contrast, embed, reconstruct

VOCAB = 8192
BATCHES = {"S": 128, "M": 64}
MODELS = {
    "S": ModelConfig(
        name="S", image_size=32, patch_size=8, width=128, depth=4, heads=2,
        text_width=64, text_depth=4, text_heads=1, context_length=32,
        vocab_size=VOCAB, embed_dim=64, pooling="gap", decoder_width=64, decoder_depth=4, decoder_heads=1,
    ),
    "M": ModelConfig(
        name="M", image_size=64, patch_size=8, width=192, depth=6, heads=3,
        text_width=128, text_depth=4, text_heads=2, context_length=77,
        vocab_size=VOCAB, embed_dim=128, pooling="gap", decoder_width=128, decoder_depth=4, decoder_heads=2,
    ),
}  # fmt: skip
Loss = Callable[[], Tensor]


def ours(model: ModelConfig, objective: str, images: Tensor, tokens: Tensor) -> tuple[nn.Module, Loss]:
    """A system with its loss, as the loop computes it for a whole batch."""
    system = System(model, ObjectiveConfig(name=objective), VOCAB)
    draws = system.draw(len(images), torch.Generator().manual_seed(0))

    def loss() -> Tensor:
        embeddings = embed(system, images, tokens, draws)
        total = contrastive_loss(embeddings.image, embeddings.text, contrast(system).logit_scale)
        if system.recipe.generative:
            parts = reconstruct(system, images, tokens, draws, embeddings)
            total = total + 0.1 * parts.image.mean()
            total = total + 0.05 * (token_weights(parts.text_count, "sample") * parts.text).sum()
        return total

    return system, loss


def theirs(model: ModelConfig, images: Tensor, tokens: Tensor) -> tuple[nn.Module, Loss]:
    """open_clip's CLIP of the same sizes, with its class token and causal text, and its loss."""
    open_clip = oracle("open_clip")
    vision = {
        "image_size": model.image_size,
        "patch_size": model.patch_size,
        "width": model.width,
        "layers": model.depth,
        "head_width": model.width // model.heads,
    }
    text = {
        "context_length": model.context_length,
        "vocab_size": VOCAB,
        "width": model.text_width,
        "heads": model.text_heads,
        "layers": model.text_depth,
    }
    clip = open_clip.CLIP(model.embed_dim, vision, text, output_dict=False)
    criterion = open_clip.ClipLoss()
    return clip, lambda: criterion(*clip(images, tokens))


class Contestant:
    """A model that can take a step; remembers its best CPU time."""

    def __init__(self, model: nn.Module, loss: Loss, fused: bool, bf16: bool) -> None:
        self.loss, self.bf16 = loss, bf16
        named = list(model.named_parameters())
        groups = [
            {"params": [p for n, p in named if not no_decay(n, p)], "weight_decay": 0.1},
            {"params": [p for n, p in named if no_decay(n, p)], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=5e-4, fused=fused)
        self.seconds = float("inf")

    def step(self) -> None:
        start = time.process_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            loss = self.loss()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.seconds = min(self.seconds, time.process_time() - start)

    def flops(self) -> int:
        """Of a forward and backward pass, by torch's counter."""
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            self.loss().backward()
        return counter.get_total_flops()


def compare(size: str, bf16: bool, rounds: int) -> None:
    """Print the ratios of one size and precision."""
    model, batch = MODELS[size], BATCHES[size]
    images = torch.randn(batch, 3, model.image_size, model.image_size)
    tokens = torch.randint(3, VOCAB, (batch, model.context_length))
    tokens[:, round(0.26 * model.context_length) :] = 0
    field = {
        "clip": Contestant(*ours(model, "clip", images, tokens), fused=True, bf16=bf16),
        "mae_clip": Contestant(*ours(model, "mae_clip", images, tokens), fused=True, bf16=bf16),
        "open_clip": Contestant(*theirs(model, images, tokens), fused=False, bf16=bf16),
        "open_clip, fused AdamW": Contestant(*theirs(model, images, tokens), fused=True, bf16=bf16),
    }
    flops = {name: contestant.flops() for name, contestant in field.items()}
    for _ in range(rounds):
        for contestant in field.values():
            contestant.step()
    best = {name: contestant.seconds for name, contestant in field.items()}
    print(f"{size} {'bf16' if bf16 else 'fp32'}, batch {batch}: CLIP {batch / best['clip']:.0f} samples per CPU second")
    for name, other in (("clip", "open_clip"), ("clip", "open_clip, fused AdamW"), ("mae_clip", "clip")):
        time_ratio, flop_ratio = best[name] / best[other], flops[name] / flops[other]
        share = f"{time_ratio / flop_ratio:.3f} of it"
        print(f"  {name} / {other}: time {time_ratio:.3f}, FLOPs {flop_ratio:.3f} ({share})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--sizes", nargs="+", default=list(MODELS), choices=list(MODELS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for size in arguments.sizes:
        for bf16 in (False, True):
            compare(size, bf16, arguments.rounds)


if __name__ == "__main__":
    main()
