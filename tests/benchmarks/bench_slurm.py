"""Submitting 1,000 tasks to a real SLURM of its own (all held, so that none starts) and asking for their states."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ablative.study.home.paths import Home
from ablative.study.plan.plan import make_plan
from ablative.sweeps.queue import manifest
from ablative.sweeps.slurm import squeue
from ablative.sweeps.status.task_states import survey
from ablative.sweeps.submission.submit import Code, submit

ROOT = Path(__file__).parents[2]
OVERRIDES = (
    "cluster=slurm",
    "cluster.memory_gib=0.5",
    "cluster.extra.hold=true",
    f"seeds={list(range(40))}".replace(" ", ""),
    "drop=[{method: random_init}, {scale: small}]",
    "protocols=[retrieval,zero_shot]",
    "tables={}",
    "figures={}",
    "claims={}",
    "effects={}",
)


def timed(name: str, function: Callable[[], object]) -> None:
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    print(f"{name:45} {time.perf_counter() - wall:6.2f} s wall {time.process_time() - cpu:6.2f} s CPU")


def main() -> None:
    # The root first: `tests/study` is no package of ours.
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "sweeps")]
    from slurm_world import scheduler, slurm

    with tempfile.TemporaryDirectory() as folder, scheduler(Path(folder) / "slurm"):
        home = Home(Path(folder) / "home")
        plan = make_plan("demo", OVERRIDES, home=home)
        timed("configurations of the tasks, written", plan.write)
        timed(
            f"submit {len(plan.tasks)} tasks",
            lambda: submit(plan, code=Code("ablative.trainer.clip.tasks:execute", "")),
        )
        found = next(found for _, found in manifest.submissions(home))
        elements = sum(bool(element) for array in found.arrays for element in array.elements)
        print(f"{len(found.arrays)} sbatch calls, {elements} array elements")
        squeue.invalidate_cache()
        timed("states of all of them, with one squeue", lambda: survey(plan))
        assert survey(plan).counts == {"submitted": len(plan.tasks)}
        slurm("scancel", "--quiet", *(array.job_id for array in found.arrays))


if __name__ == "__main__":
    main()
