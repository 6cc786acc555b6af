"""`ablate status` and submission of 1,000 tasks: seconds beside DESIGN's targets.

python tests/benchmarks/bench_status.py
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

import yaml

from ablative.study.core.files import write_json
from ablative.study.home.paths import Home
from ablative.study.plan.plan import Plan, make_plan
from ablative.sweeps.queue import leases, manifest
from ablative.sweeps.queue.executors import live_jobs
from ablative.sweeps.status.task_states import survey
from ablative.sweeps.submission import local
from ablative.sweeps.submission.submit import Code, submit

RUNS = 250
"""With three evaluations each: 1,000 tasks."""
SOURCE = Path(__file__).parents[2]


def make(folder: Path) -> Plan:
    """A study of 1,000 tasks."""
    (folder / "config" / "study").mkdir(parents=True)
    levels = {f"lr{index}": {"schedule.lr": 1e-4 * (index + 1)} for index in range(RUNS)}
    content = {"name": "big", "factors": {"lr": levels}, "protocols": ["zero_shot", "linear_probe", "retrieval"]}
    (folder / "config" / "study" / "big.yaml").write_text(yaml.safe_dump(content))
    return make_plan("big", config_dir=str(folder / "config"), home=Home(folder / "home"))


def populate(plan: Plan) -> None:
    """Every state: records, failures, and leases of the living and the dead."""
    metrics = {f"metric{index}": 1.0 for index in range(50)}
    failure = {"cause": "code", "type": "ValueError", "message": "m", "traceback": "t" * 2000}
    for index, task in enumerate(plan.tasks):
        paths = task.paths(plan.home)
        paths.root.mkdir(parents=True, exist_ok=True)
        if index % 5 < 3:
            write_json(paths.record, {"state": "completed", "seconds": 10.0, "metrics": metrics})
        elif index % 5 == 3:
            write_json(paths.failure, {**failure, "fingerprint": str(index % 7)})
        elif index % 10 == 4:
            leases.acquire(paths.lease, "1", 60.0)


def best(action: Callable[[], object], repeats: int = 5) -> tuple[float, float]:
    """(wall, CPU with children) seconds, the best of several."""
    found = []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), _cpu()
        action()
        found.append((time.perf_counter() - wall, _cpu() - cpu))
    return min(wall for wall, _ in found), min(cpu for _, cpu in found)


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def command(folder: Path, *words: str) -> Callable[[], object]:
    environment = {**os.environ, "ABLATE_HOME": str(folder / "home")}
    program = "from ablative.study.cli import main; main()"
    whole = [sys.executable, "-c", program, *words, "--config-dir", str(folder / "config")]
    return lambda: subprocess.run(whole, env=environment, check=True, capture_output=True)


def submission_seconds(plan: Plan) -> tuple[float, float]:
    """Submitting everything to two workers, whose tasks are never reached: they are stopped at once."""
    begin, cpu = time.perf_counter(), _cpu()
    made = submit(plan, jobs=2, code=Code("ablative.sweeps.worker.worker:work", ""))
    spent = time.perf_counter() - begin, _cpu() - cpu
    assert made.paths is not None and len(made.choice.new) == len(plan.tasks)
    found = manifest.read(made.paths)
    assert found is not None
    local.stop(live_jobs(made.paths, found), force=True)
    return spent


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plan = make(folder)
        print(f"{len(plan.tasks)} tasks; seconds as wall / CPU")
        print("submit, first time (writes every config.yaml): {:.2f} / {:.2f}".format(*submission_seconds(plan)))
        (plan.home.root / "studies").rename(folder / "old")
        print("submit, again (target 1): {:.2f} / {:.2f}".format(*submission_seconds(plan)))
        populate(plan)
        print("survey alone: {:.3f} / {:.3f}".format(*best(lambda: survey(plan))))
        print("ablate status (target 0.5): {:.2f} / {:.2f}".format(*best(command(folder, "status", "big"))))
        print("ablate status --json: {:.2f} / {:.2f}".format(*best(command(folder, "status", "big", "--json"))))


if __name__ == "__main__":
    main()
