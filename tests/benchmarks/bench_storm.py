"""A real study on a real SLURM while everything goes wrong: are its numbers those of a quiet day?

A slice of `demo` is trained and evaluated twice: here, undisturbed, and on a SLURM of its own whose runs are requeued,
preempted, killed, cancelled, cut off at the time limit, and lose their node and their controller. After each
disturbance two submitters at once see to it that the study goes on. In the end every metric of every task and every
point of every training curve in MLflow is compared to the last bit.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from ablative.study.core.files import read_json

ROOT = Path(__file__).parents[2]
STUDY = (
    "demo",
    "schedule.steps=600",
    "schedule.warmup_steps=60",
    "suite.datasets.shapes_shape.test=300",
    "suite.protocols.zero_shot=[shapes_shape]",
    "seeds=[0]",
    "protocols=[zero_shot]",
    "drop=[{method: [random_init, m3ae, mae, masked_clip]}, {pooling: gap}, {scale: small}]",
    "runtime.checkpoint_seconds=3",
    *(f"{section}={{}}" for section in ("tables", "figures", "claims", "effects")),
)
CLUSTER = ("cluster=slurm", "cluster.partition=low", "cluster.memory_gib=1.9", "cluster.canary=0")
LIMITS = ("cluster.hours=0.0333", "cluster.signal_seconds=20")
"""Two minutes, which four runs on two cores do not keep."""
SECONDS = 600.0


def ablate(home: Path, *words: str) -> str:
    program = [sys.executable, "-c", "from ablative.study.cli import main; main()", "--home", str(home), *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def slurm(*words: str) -> str:
    return subprocess.run(words, check=False, capture_output=True, text=True).stdout


def wait(what: str, condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"gave up waiting for {what}\n{slurm('squeue', '--array')}")
        time.sleep(0.5)


class Storm:
    """The study on SLURM, and what happens to it."""

    def __init__(self, home: Path, world: Path, script: Path) -> None:
        self.home, self.world, self.script = home, world, script
        self.random = random.Random(0)

    def submit(self) -> None:
        """As two people would who both noticed."""
        program = [
            sys.executable,
            "-c",
            "from ablative.study.cli import main; main()",
            "--home",
            str(self.home),
            "submit",
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        words = [*program, *STUDY, *CLUSTER, *LIMITS]
        two = [subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL) for _ in range(2)]
        assert [one.wait() for one in two] == [0, 0]

    def running(self) -> list[tuple[Path, str, int]]:
        """(run's directory, element, worker's process) of the runs that are being trained and have a checkpoint."""
        from ablative.sweeps.queue import leases

        found = []
        for root in sorted(self.home.glob("runs/*")):
            holder = leases.inspect(root / "claim", 60.0)
            if holder and holder.alive and holder.owner and list((root / "checkpoints").glob("*")):
                found.append((root, holder.owner.job, holder.owner.pid))
        return found

    def victim(self) -> tuple[Path, str, int]:
        found: list[tuple[Path, str, int]] = []

        def there() -> bool:
            self.nudge()
            found[:] = self.running()
            return bool(found)

        wait("a run that trains", there)
        return self.random.choice(found)

    def nudge(self) -> None:
        """Requeued elements need not wait for minutes, and what nobody has is submitted again."""
        from slurm_world import begin_soon

        begin_soon()
        if not slurm("squeue", "-h").strip():
            self.submit()

    def done(self) -> int:
        return len(list(self.home.rglob("record.json")))

    def finished(self, tasks: int) -> bool:
        self.nudge()
        return self.done() == tasks

    def requeue(self) -> None:
        slurm("scontrol", "requeue", self.victim()[1])

    def warn(self) -> None:
        slurm("scancel", "--signal=USR2", self.victim()[1])

    def kill(self) -> None:
        os.kill(self.victim()[2], signal.SIGKILL)

    def cancel(self) -> None:
        slurm("scancel", self.victim()[1])

    def preempt(self) -> None:
        self.victim()
        job = slurm(
            "sbatch", "--parsable", "--partition=high", "--nodes=2", "--exclusive", "-o", "/dev/null", "--wrap=sleep 60"
        )
        wait("the preempting job", lambda: "RUNNING" in slurm("squeue", "-h", f"--job={job.strip()}", "--format=%T"))
        slurm("scancel", job.strip())

    def lose_node(self) -> None:
        name = slurm("squeue", "-h", f"--job={self.victim()[1]}", "--format=%N").strip()
        self._act("node", name, "kill")
        slurm("scontrol", "update", f"NodeName={name}", "State=DOWN", "Reason=storm")
        self._act("node", name, "start")

    def lose_controller(self) -> None:
        self.victim()
        self._act("controller", "stop")
        time.sleep(3)
        self._act("controller", "start")

    def _act(self, *words: str) -> None:
        what, *rest = words
        subprocess.run(["bash", str(self.script), what, str(self.world), *rest], check=True)


def metrics(home: Path) -> dict[str, dict[str, float]]:
    """Of every task, less what it cost."""
    records = filter(None, (read_json(path) for path in home.rglob("record.json")))
    return {
        record["task_id"]: {key: value for key, value in record["metrics"].items() if not key.startswith("cost/")}
        for record in records
    }


def points(home: Path) -> Counter[tuple[str, str, int, float]]:
    """(run, metric, step, value) of the training curves in MLflow, each as often as it is there."""
    query = """
        select tags.value, metrics.key, metrics.step, metrics.value from metrics
        join tags on tags.run_uuid = metrics.run_uuid and tags.key = 'ablate.task_id'
        where metrics.key in ('train/loss', 'train/contrastive', 'train/grad_norm', 'train/lr')
    """
    with sqlite3.connect(home / "mlflow.db") as store:
        return Counter(store.execute(query).fetchall())


def main() -> None:
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "sweeps")]
    from slurm_world import SCRIPT, scheduler

    with tempfile.TemporaryDirectory() as name:
        quiet, stormy = Path(name) / "quiet", Path(name) / "stormy"
        begin = time.monotonic()
        ablate(quiet, "run", *STUDY)
        expected = metrics(quiet)
        print(f"undisturbed on this machine: {len(expected)} tasks in {time.monotonic() - begin:.0f} s", flush=True)
        with scheduler(Path(name) / "slurm") as world:
            storm = Storm(stormy, world, SCRIPT)
            begin = time.monotonic()
            storm.submit()
            acts = (
                ("requeued by the scheduler", storm.requeue),
                ("worker killed (kill -9)", storm.kill),
                ("warned (USR2), requeues itself", storm.warn),
                ("preempted by another job", storm.preempt),
                ("element cancelled (scancel)", storm.cancel),
                ("slurmctld away for 3 s", storm.lose_controller),
                ("node dies and comes back", storm.lose_node),
            )
            for what, act in acts:
                before = storm.done()
                act()
                time.sleep(1)
                status = json.loads(ablate(stormy, "status", *STUDY, *CLUSTER, "--json"))
                storm.submit()
                print(
                    f"{time.monotonic() - begin:5.0f} s  {what:32} {before} done; status: {status['counts']}",
                    flush=True,
                )
            wait("the study", lambda: storm.finished(len(expected)))
            ablate(stormy, "report", *STUDY, *CLUSTER)
        found = metrics(stormy)
        same = sum(found[task] == expected[task] for task in expected)
        print(
            f"{same} of {len(expected)} tasks have the undisturbed metrics ({sum(map(len, expected.values()))} numbers)"
        )
        one, other = points(quiet), points(stormy)
        twice = sum(count - 1 for count in other.values())
        lost, others = len(one - other), len(other - one)
        print(f"training curves in MLflow: {len(one)} points; lost {lost}, others {others}, twice {twice}")
        sys.exit(not (same == len(expected) and one == other))


if __name__ == "__main__":
    main()
