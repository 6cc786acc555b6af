"""The parts of `check.sh`; see there."""

from __future__ import annotations

import argparse
import json
import math
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ablative.study.costs.devices import find
from ablative.trainer.clip.models.flops import train_flops
from ablative.trainer.clip.spec.config import ObjectiveConfig, RunConfig
from ablative.trainer.clip.spec.recipes import RECIPES
from ablative.trainer.torch.devices import arithmetic

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from bench_size import REAL_TOKENS, STEP, caption_length, configured, contestants, measured, prepared

TESTS = Path(__file__).parents[1] / "trainer" / "test_real_gpu.py"
SHARES = {"tests": 0.25, "steps": 0.5}
"""Part of the time by which each part ends; speeds have the rest."""


class Report:
    """What was found so far, in a file."""

    def __init__(self, path: Path, limit: float) -> None:
        self._path, self._limit, self._start = path, limit, time.monotonic()
        self.found: dict[str, Any] = {}

    def left(self, share: float = 1.0) -> float:
        """Seconds until this share of the time is over."""
        return self._limit * share - (time.monotonic() - self._start)

    def add(self, name: str, value: Any) -> None:
        self.found[name] = value
        self.found["seconds"] = round(time.monotonic() - self._start, 1)
        self._path.write_text(json.dumps(self.found, indent=1))
        print(f"{name}: {json.dumps(value)}", flush=True)


def run_tests(seconds: float) -> dict[str, Any]:
    """Outcomes of `TESTS`, by kind; `output` where one failed or they took too long."""
    words = [sys.executable, "-m", "pytest", "--maxfail=3", "-p", "no:cacheprovider", str(TESTS)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return {"cut short after": round(seconds)}
    counts: dict[str, Any] = {
        kind: int(n) for n, kind in re.findall(r"(\d+) (passed|failed|skipped|error)", done.stdout)
    }
    return counts if done.returncode in (0, 5) else {**counts, "output": (done.stdout + done.stderr)[-3000:]}


def one_step(config: RunConfig, device: torch.device) -> dict[str, float]:
    """Losses of a second step, and the seconds that it took, not compiled."""
    with arithmetic(device, 0):
        update, batch = prepared(config, device)
        update(STEP, batch)
        update.metrics()
        begin = time.perf_counter()
        update(STEP + 1, batch)
        values = update.metrics()
    return {**{name: round(value, 5) for name, value in values.items()}, "seconds": time.perf_counter() - begin}


def speed(config: RunConfig, device: torch.device, steps: int) -> dict[str, float | None]:
    """Samples per second, share of the device's peak by the model's FLOPs and by all that are done (None: not known),
    GiB at most; compiled on a GPU."""
    rate, memory, more = measured(config, device, steps)
    length = caption_length(config.model)
    flops = rate * train_flops(config.model, config.objective, min(REAL_TOKENS, length), length)
    known = find(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
    used = flops / known.peak("bf16") if known else None
    gib = None if math.isnan(memory) else round(memory, 2)
    return {
        "samples/s": round(rate, 1),
        "TFLOP/s": flops / 1e12,
        "utilisation": used,
        "hardware": used and used * (1 + more),
        "GiB": gib,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--model", default="vit_b16")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--limit", type=float, default=480.0)
    given = parser.parse_args()
    device, report = torch.device(given.device), Report(given.out, given.limit)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    report.add("machine", {"device": name, "torch": torch.__version__, "model": given.model, "batch": given.batch})
    report.add("tests", run_tests(report.left(SHARES["tests"])))
    base = configured(f"{given.model}_maskclip", min(given.batch, 64), 0)
    steps = {}
    for objective in RECIPES:
        if report.left(SHARES["steps"]) > 0:
            masking = "similarity" if RECIPES[objective].mask_by_similarity else "random"
            config = replace(base, objective=ObjectiveConfig(name=objective, masking=masking))
            steps[objective] = one_step(config, device)
        else:
            steps[objective] = {}
        report.add("steps", steps)
    speeds: dict[str, Any] = {}
    for label, config in contestants(given.model, given.batch, 0).items():
        speeds[label] = speed(config, device, given.steps) if report.left() > 0 else None
        report.add("speeds", speeds)


if __name__ == "__main__":
    main()
