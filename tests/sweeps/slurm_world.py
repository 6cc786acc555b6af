"""A real SLURM for tests, and studies of moments that run on it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import fakes
import pytest
from fakes import Behaviours, tiny_plan, wait_for
from missing import program
from services import ended_without_us

from ablative.study.home.paths import Home
from ablative.study.plan.plan import Plan
from ablative.study.spec.cluster import ClusterConfig
from ablative.sweeps.slurm import cluster, squeue
from ablative.sweeps.status.task_states import Survey, survey

SCRIPT = Path(__file__).parents[1] / "slurm.sh"
CONFIG = ClusterConfig(name="slurm", kind="slurm", partition="cpu", memory_gib=0.5)
SECONDS = 200.0
"""How long to wait for anything: requeued jobs alone wait for up to half a minute."""


@contextlib.contextmanager
def scheduler(folder: Path) -> Iterator[Path]:
    """A controller with four virtual nodes, which the environment names; until the block ends."""
    with daemons(folder), chosen(folder):
        yield folder


@contextlib.contextmanager
def daemons(folder: Path, *kind: str) -> Iterator[None]:
    """A controller with four virtual nodes; they end with the block. `kind`: "site", or nothing (tests/slurm.sh)."""
    for name in ("sbatch", "slurmctld", "munged", *(("slurmdbd", "mariadbd") if kind else ())):
        os.environ["PATH"] += "" if "/usr/sbin" in os.environ["PATH"] else ":/usr/sbin"
        program(name)
    subprocess.run(["bash", str(SCRIPT), "start", str(folder), *kind], check=True)
    stop = ("bash", str(SCRIPT), "stop", str(folder))
    try:
        with ended_without_us(*stop):
            yield
    finally:
        subprocess.run(stop, check=True)


@contextlib.contextmanager
def chosen(folder: Path) -> Iterator[None]:
    """The environment names this scheduler until the block ends."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        cluster.inspect.cache_clear()
        yield
    cluster.inspect.cache_clear()


def tidy() -> None:
    """End all jobs, and wait until all nodes are there for the next ones."""
    slurm("scancel", "--user", str(os.getuid()), "--quiet")

    def idle() -> bool:
        nodes = slurm("sinfo", "--noheader", "--Node", "--format=%N %T").split()
        for name, state in zip(nodes[::2], nodes[1::2], strict=True):
            if state.startswith(("down", "drain")):
                slurm("scontrol", "update", f"NodeName={name}", "State=RESUME")
        return not slurm("squeue", "--noheader") and set(nodes[1::2]) == {"idle"}

    wait_for(idle, SECONDS)


def controller(folder: Path, action: str) -> None:
    """Start, stop or kill only slurmctld."""
    subprocess.run(["bash", str(SCRIPT), "controller", str(folder), action], check=True)


def node(folder: Path, name: str, action: str) -> None:
    """Start a node, or let it die with all that it runs."""
    subprocess.run(["bash", str(SCRIPT), "node", str(folder), name, action], check=True)


def slurm(*words: str) -> str:
    """Output of one of SLURM's programs."""
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


class CannotMountError(Exception):
    """This machine lets nobody mount a disk."""


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A disk of a few MB in that folder."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        raise CannotMountError(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


_nudged: dict[str, float] = {}
"""Job id -> when (monotonic) it was last told to begin."""


def begin_soon() -> None:
    """Requeued elements need not wait for minutes, but for two seconds: slurmd refuses what it killed a moment ago."""
    for line in slurm("squeue", "--noheader", "--array", "--states=PENDING", "--format=%i %r").splitlines():
        job_id, reason = line.split(maxsplit=1)
        if reason == "BeginTime" and time.monotonic() - _nudged.get(job_id, -60.0) > 10.0:
            _nudged[job_id] = time.monotonic()
            words = ["scontrol", "update", f"JobId={job_id}", "StartTime=now+2"]
            subprocess.run(words, check=False, capture_output=True)


def plan_on(home: Home, behaviours: Behaviours | None = None, **changes: object) -> Plan:
    """Three runs and their evaluations, for the scheduler."""
    plan = tiny_plan(home, behaviours)
    return dataclasses.replace(plan, cluster=dataclasses.replace(CONFIG, **changes), clusters={})


def look(plan: Plan) -> Survey:
    """States as they are now."""
    squeue.invalidate_cache()
    return survey(plan)


def until(plan: Plan, condition: Callable[[Survey], bool]) -> Survey:
    """Wait for states to be so; returns them."""
    found: list[Survey] = []

    def holds() -> bool:
        begin_soon()
        found[:] = [look(plan)]
        return condition(found[0])

    try:
        wait_for(holds, SECONDS)
    except AssertionError:
        listing = slurm("squeue", "--array") + slurm("sinfo", "--Node", "--long")
        raise AssertionError(f"still {found[0].counts} after {SECONDS:.0f} s\n{listing}") from None
    return found[0]


def finish(plan: Plan) -> Survey:
    return until(plan, lambda found: found.finished)


def begun(plan: Plan, index: int, steps: int = 20) -> Callable[[], bool]:
    """Whether a run has done so many steps."""
    progress = plan.tasks[index].paths(plan.home).root / "progress"
    return lambda: progress.exists() and progress.stat().st_size >= steps


def steps(plan: Plan, index: int) -> int:
    """That a run has done so far."""
    return (plan.tasks[index].paths(plan.home).root / "progress").stat().st_size


def done(plan: Plan) -> Counter[str]:
    """How often each task was done."""
    return fakes.done(plan.home)


def once(plan: Plan) -> Counter[str]:
    """What `done` should be."""
    return Counter({task.task_id: 1 for task in plan.tasks})


def element_of(plan: Plan, index: int) -> str:
    """Job id of the live element that has the task."""
    from ablative.sweeps.slurm.executor import _holders

    squeue.invalidate_cache()
    return _holders(plan.home)[plan.tasks[index].task_id]
