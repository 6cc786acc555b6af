"""What happens to clusters over a weekend, to runs of the shipped trainer and of a user's program at the same time.

Nothing is lost, nothing is computed twice, the numbers are those of undisturbed runs, and the states are true whenever
they are looked at.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from disturbed import OWN, STUDY, UNTRACKED, Studies, assert_same, environment, own, reported, shipped, traces
from fakes import wait_for
from missing import missing
from slurm_world import SECONDS, controller, element_of, look, slurm, tidy

from ablative.study.core.errors import StoreError
from ablative.study.home.failed_attempts import failures
from ablative.study.home.paths import Home
from ablative.study.plan.plan import Plan
from ablative.sweeps.queue import executors
from ablative.sweeps.status.render import notice, silences
from ablative.sweeps.submission.submit import submit

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("world"), pytest.mark.timeout(3000)]
HELD = "cluster.extra.hold=true"
AWAY_SECONDS = 120.0


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory, world: Path) -> Studies:
    """The undisturbed runs, on the same scheduler."""
    place = tmp_path_factory.mktemp("calm")
    home = Home(place / "home")
    found = Studies((shipped(place, home), own(place, home, "pause=0")))
    found.submit()
    found.finish()
    assert [set(trace.values()) for trace in traces(found.plans[1])] == [{1}, {1}]
    return found


@pytest.fixture
def home(tmp_path: Path, world: Path) -> Iterator[Home]:
    yield Home(tmp_path / "home")
    tidy()


@pytest.fixture
def both(tmp_path: Path, home: Home) -> Studies:
    return Studies((shipped(tmp_path, home), own(tmp_path, home)))


def assert_calm(found: Studies, calm: Studies) -> None:
    for plan, undisturbed in zip(found.plans, calm.plans, strict=True):
        assert_same(plan, undisturbed)


def release() -> None:
    """Let all begin that was held."""
    for job in {line.partition("_")[0] for line in slurm("squeue", "--noheader", "--format=%i").split()}:
        slurm("scontrol", "release", job)


def causes(plan: Plan, index: int) -> list[str]:
    return [failure["cause"] for failure in failures(plan.tasks[index].paths(plan.home))]


def test_the_controller_is_away_for_two_minutes_while_jobs_run(both: Studies, calm: Studies, world: Path) -> None:
    both.submit()
    both.wait_begun()
    controller(world, "stop")
    try:
        end = time.monotonic() + AWAY_SECONDS
        while time.monotonic() < end:
            for plan, states in zip(both.plans, both.surveys(), strict=True):
                assert set(states.counts) <= {"running", "submitted", "completed"}
                assert states.finished or "the scheduler does not answer" in executors.queue_summary(
                    plan.home, plan.study.name
                )
                assert submit(plan, code=UNTRACKED).paths is None
            time.sleep(5.0)
    finally:
        controller(world, "start")
    both.finish()
    assert_calm(both, calm)
    assert [set(trace.values()) for trace in traces(both.plans[1])] == [{1}, {1}]
    assert not any(causes(plan, index) for plan in both.plans for index in range(len(plan.tasks)))


def test_job_ids_begin_again_and_are_other_peoples(both: Studies, calm: Studies, world: Path) -> None:
    both.submit()
    both.wait_begun()
    most = max(int(line.partition("_")[0]) for line in slurm("squeue", "--noheader", "--format=%i").split())
    controller(world, "kill")
    for state in (world / "state").glob("job_state*"):
        state.unlink()
    controller(world, "start")
    others, number = [], 0
    while number < most:
        words = ("--parsable", "--hold", "--array=0-1", "--job-name=other", "--output=/dev/null", "--wrap=sleep 900")
        number = int(slurm("sbatch", *words).strip())
        others.append(number)
    # Elements that the controller does not know are killed by it, or end before that.
    for states in both.ended():
        assert set(states.counts) <= {"failed", "eligible", "waiting", "completed"}
        assert {state.cause for state in states.having("failed")} <= {"killed"}
    for plan in both.plans:
        executors.withdraw(plan.home)
    both.submit()
    revive()
    both.until(lambda found: revive() or found.finished)
    assert_calm(both, calm)
    there = slurm("squeue", "--noheader", "--name=other", "--format=%A", "--array").split()
    assert sorted(there, key=int) and len(there) == 2 * len(others), "nobody touched the other jobs"
    # A step that was computed when the worker was killed, and was not saved, may be computed again.
    assert all(sum(trace.values()) <= len(trace) + 1 for trace in traces(both.plans[1]))


def revive() -> None:
    """Have nodes where jobs of the forgotten kind still end take new ones: an operator's part."""
    for line in slurm("sinfo", "--noheader", "--Node", "--format=%N %T").splitlines():
        if "drain" in line or "down" in line:
            slurm("scontrol", "update", f"NodeName={line.split()[0]}", "State=RESUME")


def test_virtual_environments_are_deleted_while_jobs_wait(tmp_path: Path, home: Home, calm: Studies) -> None:
    """That of the jobs, for one kind, and that of the user's program, for the other."""
    python, place = environment(tmp_path / "jobs"), tmp_path / "program"
    environment(place)
    study = STUDY.replace("code: .", f"code: .\npython: {place}")
    found = Studies(
        (
            shipped(tmp_path, home, HELD, f"cluster.python={python}"),
            own(tmp_path, home, HELD, study=study),
        )
    )
    found.submit()
    for name in ("jobs", "program"):
        (tmp_path / name).rename(tmp_path / f"{name}.gone")
    assert [states.counts for states in found.true_states()] == [{"submitted": 2}, {"submitted": 4}]
    release()
    states = found.ended()
    assert str(python) in notice(found.plans[0], states[0]), "the line that srun prints"
    failed = states[1].having("failed")
    assert len(failed) == 2 and all(str(place) in (state.detail or {})["message"] for state in failed)
    for name in ("jobs", "program"):
        (tmp_path / f"{name}.gone").rename(tmp_path / name)
    found.submit()
    release()
    found.finish()
    assert_calm(found, calm)


def test_study_files_are_edited_while_jobs_wait(tmp_path: Path, home: Home, calm: Studies) -> None:
    found = Studies((shipped(tmp_path, home, HELD), own(tmp_path, home, HELD)))
    found.submit()
    files = (tmp_path / "config" / "study" / "tiny.yaml", tmp_path / "user" / "study.yaml")
    kept = [file.read_text() for file in files]
    files[0].write_text(kept[0].replace("seeds: [0]", "seeds: [0, 1]"))
    files[1].write_text(kept[1].replace("high: {rate: 0.3}", "high: {rate: 0.3}, highest: {rate: 0.9}"))
    wider = Studies((shipped(tmp_path, home, HELD), own(tmp_path, home, HELD)))
    waiting = [{"submitted": 2, "eligible": 1, "waiting": 1}, {"submitted": 4, "eligible": 1, "waiting": 1}]
    assert [states.counts for states in wider.true_states()] == waiting
    (tmp_path / "user" / "train.py").write_text("raise SystemExit('edited')\n")
    files[0].write_text("name: [")
    files[1].write_text("name: own\nstages: {train: {command: false}}\n")
    release()
    found.finish()
    assert_calm(found, calm)
    for file, text in zip(files, kept, strict=True):
        file.write_text(text)
    assert all(states.finished for states in Studies((shipped(tmp_path, home), own(tmp_path, home))).surveys())


def test_memory_over_the_limit(tmp_path: Path, home: Home, calm: Studies) -> None:
    """Of a job before it has begun a task, and of a program that takes less where an attempt ran out of memory."""
    too_little = "cluster.memory_gib=0.2"
    found = Studies((shipped(tmp_path, home, too_little), own(tmp_path, home, "ballast=700", "cluster.memory_gib=0.5")))
    found.submit()
    states = found.ended()
    assert [state.cause for state in states[1].having("failed")] == ["out of memory"] * 2
    assert states[0].counts == {"eligible": 1, "waiting": 1} or states[0].having("failed")[0].cause == "out of memory"
    assert "memory" in notice(found.plans[0], states[0]) or states[0].having("failed")
    more = Studies((shipped(tmp_path, home), found.plans[1]))
    more.submit()
    more.finish()
    assert_calm(more, calm)
    assert [causes(more.plans[1], index) for index in range(2)] == [["out of memory"]] * 2


@contextlib.contextmanager
def read_only(place: Path) -> Iterator[None]:
    """Let nobody open a file of a folder for writing, make one or remove one, until the block ends."""
    bound = subprocess.run(["mount", "--bind", place, place], capture_output=True, text=True, check=False)
    if bound.returncode:
        missing(f"a folder cannot be made read-only here: {bound.stderr.strip()}")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", place], check=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def test_the_home_is_read_only_for_a_minute(both: Studies, calm: Studies, home: Home) -> None:
    both.submit()
    both.wait_begun()
    with read_only(home.root):
        end = time.monotonic() + 60.0
        while time.monotonic() < end:
            both.true_states()
            with pytest.raises(StoreError, match=r"cannot be written \(Read-only file system\)"):
                submit(both.plans[1], code=UNTRACKED)
            time.sleep(3.0)
    for _ in range(3):
        for states in both.ended():
            assert {state.cause for state in states.having("failed")} <= {"disk"}
        both.submit()
    both.finish()
    assert_calm(both, calm)
    assert all(sum(trace.values()) <= len(trace) + 2 for trace in traces(both.plans[1]))


TWO = ("cluster.nodes=2", "runtime.processes=2", "schedule.steps=300")
LAUNCH = STUDY.replace("    resume:", "    launch: {with: srun, processes: 2, same_result: true}\n    resume:")


@pytest.mark.parametrize("kind", ["shipped", "program"])
def test_a_run_of_two_processes_is_requeued_and_then_loses_one(
    kind: str, tmp_path: Path, home: Home, calm: Studies
) -> None:
    undisturbed = shipped(tmp_path, Home(tmp_path / "alone"), *TWO) if kind == "shipped" else calm.plans[1]
    plan = shipped(tmp_path, home, *TWO) if kind == "shipped" else own(tmp_path, home, study=LAUNCH)
    found = Studies((plan,))
    found.submit()
    found.wait_begun()
    slurm("scontrol", "requeue", element_of(plan, 0))
    found.until(lambda states: states.states[0].state == "submitted")
    steps = reported(plan, 0)
    found.until(lambda states: states.states[0].state == "running" and reported(plan, 0) > steps)
    for process in processes_of(element_of(plan, 0), "SLURM_PROCID=1"):
        os.kill(process, signal.SIGKILL)
    for states in found.ended():
        assert states.states[0].cause == "killed"
    if kind == "shipped":
        submit(undisturbed, code=UNTRACKED)
    found.submit()
    found.finish()
    Studies((undisturbed,)).finish()
    assert_same(plan, undisturbed)
    assert kind == "shipped" or all(sum(trace.values()) <= len(trace) + 1 for trace in traces(plan))


def test_a_job_that_stands_still_is_named_with_its_node(tmp_path: Path, home: Home, calm: Studies) -> None:
    """As seen on this machine, and from another, which knows of its processes only by their signs of life."""
    patience = ("runtime.heartbeat_seconds=1", "runtime.stale_seconds=8")
    plan = own(tmp_path, home, *patience)
    found = Studies((plan,))
    found.submit()
    found.wait_begun()
    job = element_of(plan, 0)
    node = slurm("squeue", "--noheader", f"--job={job}", "--format=%N").strip()
    told = rf"^{plan.tasks[0].task_id}: no heartbeat for \d+ s on node {node}, job {job}: its worker stands still"
    stopped = processes_of(job)
    for process in stopped:
        os.kill(process, signal.SIGSTOP)
    try:
        wait_for(lambda: any(re.search(told, line) for line in silences(look(plan))), SECONDS)
        assert look(plan).states[0].state == "running", "its process is there"
        words = ["status", str(tmp_path / "user" / "study.yaml"), *OWN, *patience]
        elsewhere = ["unshare", "--uts", "bash", "-c", 'hostname elsewhere; exec "$@"', "-"]
        program = [str(Path(sys.executable).with_name("ablate")), *words]
        given = {**os.environ, "ABLATE_HOME": str(home.root), "COLUMNS": "300"}
        shown = subprocess.run([*elsewhere, *program], capture_output=True, text=True, check=True, env=given).stdout
        assert re.search(told, shown, re.MULTILINE), shown
    finally:
        for process in stopped:
            os.kill(process, signal.SIGCONT)
    found.finish()
    assert_same(plan, calm.plans[1])
    assert [set(trace.values()) for trace in traces(plan)] == [{1}, {1}]


def processes_of(job_id: str, *variables: str) -> list[int]:
    """Processes of an array's element that have these variables, too."""
    job, _, number = job_id.partition("_")
    wanted = {f"SLURM_ARRAY_JOB_ID={job}", f"SLURM_ARRAY_TASK_ID={number}", *variables}
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted <= set((entry / "environ").read_text().split("\0")):
                found.append(int(entry.name))
    return found
