"""Processor time and time of a task of a user's program and of its command alone.

python tests/benchmarks/bench_program.py
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from performed import perform

from ablative.study.home.paths import Home
from ablative.study.plan.plan import make_plan

TASKS = 20
STUDY = f"""name: bench
code: .
config: {{lr: 0.1}}
stages:
  train:
    command: python train.py --lr {{lr}} --seed {{seed}} --out {{out}}
    metrics: {{loss: {{stdout: 'step (?P<step>\\d+) loss (?P<value>\\S+)'}}}}
seeds: {list(range(TASKS))}
"""
PROGRAM = "for step in range(1, 101): print('step', step, 'loss', 1 / step)\n"


def cost(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of processors, of this process and of those that it waited for, and seconds on the clock, of a task."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    used = [resource.getrusage(kind) for kind in kinds]
    begun = time.perf_counter()
    work()
    seconds = time.perf_counter() - begun
    spent = [
        now.ru_utime + now.ru_stime - before.ru_utime - before.ru_stime
        for now, before in zip(map(resource.getrusage, kinds), used, strict=True)
    ]
    return sum(spent) / TASKS, seconds / TASKS


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "mine")
        folder.mkdir()
        (folder / "study.yaml").write_text(STUDY)
        (folder / "train.py").write_text(PROGRAM)
        os.chdir(folder)
        plan = make_plan("study.yaml", home=Home(Path(place, "home")))
        assert len(plan.tasks) == TASKS
        command = [sys.executable, "train.py"]

        def alone() -> None:
            for _ in range(TASKS):
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

        by_hand = cost(alone)
        say = sys.stdout.write
        out = os.dup(1)
        with Path(os.devnull).open("w") as nothing:
            # The log of a task is the output of its process.
            os.dup2(nothing.fileno(), 1)
            as_task = cost(lambda: perform(plan))
            os.dup2(out, 1)
        for name, (cpu, seconds) in (("command", by_hand), ("task", as_task)):
            say(f"{name:<8} {cpu:.3f} s of a processor, {seconds:.3f} s\n")
        say(f"a task costs {as_task[0] - by_hand[0]:.3f} s of a processor more than its command (target: below 1)\n")


if __name__ == "__main__":
    main()
