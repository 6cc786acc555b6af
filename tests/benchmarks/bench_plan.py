"""`ablate --help` and `ablate plan` of 10,000 and 100,000 cells: CPU seconds and their targets.

python tests/benchmarks/bench_plan.py
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

FACTORS = {
    "lr": {f"lr{i}": {"schedule.lr": 1e-4 * (i + 1)} for i in range(10)},
    "image": {f"i{i}": {"objective.w_image": 0.1 * (i + 1)} for i in range(10)},
    "text": {f"t{i}": {"objective.w_text": 0.1 * (i + 1)} for i in range(10)},
}


def study(folder: Path, pairs: int) -> None:
    """Write a study with 1000 × `pairs` cells and two protocols."""
    (folder / "study").mkdir(exist_ok=True)
    levels = {f"p{i}": {"data.pairs": 1000 + i} for i in range(pairs)}
    content = {
        "name": "big", "base": {"objective": "mae_clip"}, "factors": {**FACTORS, "pairs": levels},
        "protocols": ["zero_shot", "linear_probe"],
    }  # fmt: skip
    (folder / "study" / "big.yaml").write_text(yaml.safe_dump(content))


def command_seconds(*words: str, times: int = 5) -> float:
    """CPU seconds of one `ablate` command, the best of so many."""
    best = float("inf")
    for _ in range(times):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        program = [sys.executable, "-c", "from ablative.study.cli import main; main()", *words]
        subprocess.run(program, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return best


def main() -> None:
    print(f"ablate --help: {command_seconds('--help'):.3f} s CPU (target 0.1 s)")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ABLATE_HOME"] = str(Path(folder) / "home")
        for pairs, target in ((10, " (target 3 s)"), (100, "")):
            study(Path(folder), pairs)
            seconds = command_seconds("plan", "big", "--config-dir", folder, times=1 + 20 // pairs)
            print(f"ablate plan, {1000 * pairs:,} cells: {seconds:.1f} s CPU{target}")


if __name__ == "__main__":
    main()
