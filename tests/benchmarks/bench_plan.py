"""Planning 10,000 cells, `ablate --help` and planning the demo: CPU seconds beside DESIGN's targets.

python tests/benchmarks/bench_plan.py
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from ablative.study.home.paths import Home
from ablative.study.plan.plan import make_plan

FACTORS = {
    "lr": {f"lr{i}": {"schedule.lr": 1e-4 * (i + 1)} for i in range(10)},
    "image": {f"i{i}": {"objective.w_image": 0.1 * i} for i in range(10)},
    "text": {f"t{i}": {"objective.w_text": 0.1 * i} for i in range(10)},
    "pairs": {f"p{i}": {"data.pairs": 1000 + i} for i in range(10)},
}


def plan_seconds(folder: Path) -> tuple[float, int]:
    """CPU seconds of planning 10,000 cells with two protocols, and the number of tasks."""
    (folder / "study").mkdir()
    content = {"name": "big", "factors": FACTORS, "protocols": ["zero_shot", "linear_probe"]}
    (folder / "study" / "big.yaml").write_text(yaml.safe_dump(content))
    start = time.process_time()
    plan = make_plan("big", config_dir=str(folder), home=Home(folder / "home"))
    return time.process_time() - start, len(plan.tasks)


def command_seconds(*words: str) -> float:
    """CPU seconds of one `ablate` command, the best of five."""
    best = float("inf")
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        program = [sys.executable, "-c", "from ablative.study.cli import main; main()", *words]
        subprocess.run(program, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return best


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        seconds, tasks = plan_seconds(Path(folder))
    print(f"plan of 10,000 cells ({tasks:,} tasks): {seconds:.2f} s CPU (target 2 s)")
    print(f"ablate --help: {command_seconds('--help'):.3f} s CPU (target 0.15 s)")


if __name__ == "__main__":
    main()
