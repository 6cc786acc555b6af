"""CPU seconds of the pure parts of the protocols on one thread: `python tests/benchmarks/bench_protocols.py`."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from ablative.trainer.clip.protocols.linear_probe import fit
from ablative.trainer.clip.protocols.retrieval import retrieval_ranks
from ablative.trainer.clip.protocols.zero_shot import nearest_ranks
from ablative.trainer.clip.spec.config import ProtocolConfig

ADAMW = ProtocolConfig(name="probe", kind="linear_probe", lr=0.01, epochs=20, batch_size=256, standardize=True)
LARS = ProtocolConfig(
    name="probe", kind="linear_probe", optimizer="lars", lr=3.0, epochs=90, warmup_epochs=10, batch_size=256,
    batch_norm=True,
)  # fmt: skip


def measure(name: str, function: Callable[[], object]) -> None:
    function()
    begin = time.process_time()
    function()
    print(f"{name:<58}{time.process_time() - begin:8.2f} s")


def unit(rows: int, width: int) -> np.ndarray:
    vectors = np.random.default_rng(rows).normal(size=(rows, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def probe(protocol: ProtocolConfig, samples: int, width: int, classes: int) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(samples, width, generator=generator)
    labels = torch.randint(0, classes, (samples,), generator=generator)
    name = f"{protocol.optimizer} probe, {protocol.epochs} epochs, {samples} × {width}, {classes} classes"
    measure(name, lambda: fit(features, labels, classes, protocol))


def main() -> None:
    torch.set_num_threads(1)
    for samples, width, classes in ((2000, 64, 8), (4000, 64, 10), (10000, 192, 276)):
        for protocol in (ADAMW, LARS):
            probe(protocol, samples, width, classes)
    images, texts = unit(5000, 512), unit(25000, 512)
    pairs = np.stack([np.arange(25000) // 5, np.arange(25000)], 1)
    measure("image to text ranks, COCO's 5,000 × 25,000, width 512", lambda: retrieval_ranks(images, texts, pairs))
    labels = np.arange(50000) % 1000
    measure(
        "zero-shot ranks, ImageNet's 50,000 × 1,000, width 512",
        lambda: nearest_ranks(unit(50000, 512), unit(1000, 512), labels),
    )


if __name__ == "__main__":
    main()
