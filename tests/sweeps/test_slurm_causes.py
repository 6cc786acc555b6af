"""What goes wrong on a real SLURM, one cause at a time: the right answer to each, and the same end as undisturbed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from edited import VERSION, edit, submit_checkout
from fakes import FAKE, HERE, Behaviours, events, tiny_plan, wait_for
from missing import missing
from slurm_world import (
    SECONDS,
    CannotMountError,
    begun,
    done,
    element_of,
    finish,
    look,
    node,
    once,
    plan_on,
    slurm,
    small_disk,
    steps,
    until,
)

from ablative.study.core.files import write_json
from ablative.study.home.failed_attempts import failures
from ablative.study.home.paths import Home
from ablative.study.plan.plan import Plan
from ablative.sweeps.queue import executors, manifest, retries
from ablative.sweeps.slurm import preview
from ablative.sweeps.status.render import notice
from ablative.sweeps.submission.submit import submit

LONG = {"train": ["work", 8.0]}
STEPS = 1600
"""That a run of `LONG` consists of."""
LATE_SECONDS = 45.0
"""Longer than it takes until the warning before a time limit of a minute, which comes within the first 40 s."""


@pytest.fixture(scope="module")
def late(tmp_path_factory: pytest.TempPathFactory, world: Path) -> Plan:
    """A study with a run that is longer than its time limit; on nodes of its own, while the other tests run."""
    plan = late_plan(Home(tmp_path_factory.mktemp("late") / "home"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(HERE))
        submit(plan, code=FAKE)
    return plan


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch, late: Plan) -> Iterator[None]:
    """Jobs find the tasks of these tests, and leave nothing behind for the next test."""
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    yield
    clear(late)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def late_plan(home: Home) -> Plan:
    behaviours: Behaviours = {tiny_plan(home).tasks[0].task_id: ["work", LATE_SECONDS]}
    return plan_on(home, behaviours, partition="gpu", hours=1 / 60, signal_seconds=20)


def clear(late: Plan) -> None:
    """Cancel what is not of the late study, and wait until it is gone."""
    names = {array.name for _, found in manifest.submissions(late.home, ended=True) for array in found.arrays}

    def others() -> list[str]:
        lines = slurm("squeue", "--noheader", "--format=%A %j").splitlines()
        return [line.split()[0] for line in lines if line.split()[1] not in names]

    if left := others():
        # Some may end meanwhile.
        subprocess.run(["scancel", "--quiet", *left], check=False)
    wait_for(lambda: not others(), SECONDS)


def attempts(plan: Plan, index: int) -> int:
    return [name for event, name in events(plan.home) if event == "begin"].count(plan.tasks[index].task_id)


def causes(plan: Plan, index: int) -> list[str]:
    """Of the failures of a task that were written down."""
    return [failure["cause"] for failure in failures(plan.tasks[index].paths(plan.home))]


def undisturbed(plan: Plan, expected: int) -> None:
    """Everything was done, once, and no step of a run is missing or was done twice."""
    assert done(plan) == once(plan)
    assert {steps(plan, index) for index in range(3)} == {expected}


def test_the_first_task_goes_ahead_and_leaves_its_run_to_the_others(home: Home) -> None:
    plan = plan_on(home, {"train": ["sing", 2.0]}, canary=6)
    submit(plan, code=FAKE)
    finish(plan)
    undisturbed(plan, 400)
    assert attempts(plan, 0) == 2, "the canary's, which was let save, and the one that went on"
    submission, found = next(manifest.submissions(home, ended=True))
    said = submission.output(f"{found.arrays[0].job_id}_0").read_text()
    assert f"{plan.tasks[0].task_id}: trains; the others may begin" in said
    assert next(event for event in events(home) if event[0] == "begin") == ("begin", plan.tasks[0].task_id)


def test_a_first_task_that_fails_keeps_the_others_from_failing_too(home: Home) -> None:
    plan = plan_on(home, canary=6)
    write_json(home.root / "behaviour.json", {plan.tasks[0].task_id: ["fail", 0]})
    submit(plan, code=FAKE)
    states = until(plan, lambda found: bool(found.having("failed")) and not found.having("submitted", "running"))
    assert states.counts == {"failed": 1, "eligible": 2, "waiting": 3} and len(events(home)) == 1
    assert notice(plan, states).startswith(
        "stopped: the first task failed, and the others were not begun (code: ValueE"
    )
    submit(plan, code=FAKE)
    states = until(plan, lambda found: len(found.having("completed")) == 4)
    assert states.counts == {"completed": 4, "failed": 1, "waiting": 1}, "not tried again with the same code"
    write_json(home.root / "behaviour.json", {})
    submit(plan, code=FAKE, retry=frozenset({"code"}))
    finish(plan)
    assert done(plan) == once(plan)


def test_preempted_runs_save_and_go_on_when_there_is_room(home: Home) -> None:
    plan = plan_on(home, LONG, partition="low")
    submit(plan, code=FAKE)
    wait_for(lambda: all(begun(plan, index)() for index in range(3)), SECONDS)
    job = slurm(
        "sbatch", "--parsable", "--partition=high", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=sleep 600"
    )
    wait_for(lambda: slurm("squeue", "--noheader", f"--job={job.strip()}", "--format=%T").strip() == "RUNNING", SECONDS)
    saved = look(plan)
    assert saved.counts == {"submitted": 6}
    assert submit(plan, code=FAKE).paths is None
    slurm("scancel", job.strip())
    finish(plan)
    undisturbed(plan, STEPS)
    assert [attempts(plan, index) for index in range(3)] == [2, 2, 2]
    assert [causes(plan, index) for index in range(3)] == [[], [], []], "no retry was used up"


def test_a_node_that_dies_and_one_that_is_set_down(home: Home, world: Path) -> None:
    """The runs go on elsewhere, and the next submission stays away from the one that died."""
    plan = plan_on(home, LONG, partition="cpu,gpu")
    submit(plan, code=FAKE)
    wait_for(lambda: all(begun(plan, index)() for index in range(3)), SECONDS)
    dead, down = place_of(plan, 0), next(name for name in ("n1", "n2") if name != place_of(plan, 0))
    node(world, dead, "kill")
    for name in (dead, down):
        slurm("scontrol", "update", f"NodeName={name}", "State=DOWN", "Reason=test")
    try:
        until(plan, lambda found: attempts(plan, 0) == 2)
    finally:
        node(world, dead, "start")
        # It may have come back by itself.
        subprocess.run(["scontrol", "update", f"NodeName={down}", "State=RESUME"], check=False, capture_output=True)
    finish(plan)
    undisturbed(plan, STEPS)
    assert causes(plan, 0) == ["node failure"]
    assert f"{dead} failed (submissions stay away from it until " in executors.queue_summary(home, "tiny")
    assert list(retries.avoided_nodes(home.study("tiny"), 1.0)) == [dead]
    record = plan.tasks[0].paths(home).record
    kept = record.rename(record.with_suffix(".kept"))
    assert f"#SBATCH --exclude={dead}\n" in "".join(preview.scripts(plan))
    kept.rename(record)
    wait_for(
        lambda: slurm("sinfo", "--noheader", "--Node", "--partition=cpu", "--format=%T").split() == ["idle"] * 2,
        SECONDS,
    )


def place_of(plan: Plan, index: int) -> str:
    """Node on which a task runs."""
    return slurm("squeue", "--noheader", f"--job={element_of(plan, index)}", "--format=%N").strip()


def test_a_job_over_its_memory_is_tried_with_half_the_micro_batch(home: Home) -> None:
    plan = plan_on(home, memory_gib=0.6)
    write_json(home.root / "behaviour.json", {plan.tasks[0].task_id: ["greedy", 16]})
    submit(plan, code=FAKE)
    states = until(plan, lambda found: not found.having("running", "submitted"))
    assert (states.states[0].state, states.states[0].cause) == ("failed", "out of memory")
    assert len(states.having("completed")) == 4
    submit(plan, code=FAKE)
    finish(plan)
    assert done(plan) == once(plan) and causes(plan, 0) == ["out of memory"] and attempts(plan, 0) == 2


@pytest.fixture
def small(tmp_path: Path, late: Plan) -> Iterator[Path]:
    try:
        with small_disk(tmp_path / "disk") as folder:
            yield folder
            clear(late)
    except CannotMountError as error:
        missing(str(error))


def test_a_full_disk_is_told_where_it_can_be_and_forgotten_when_there_is_room(small: Path) -> None:
    plan = plan_on(Home(small / "home"), {"train": ["store", 8.0]})
    submit(plan, code=FAKE)
    wait_for(lambda: all(begun(plan, index)() for index in range(3)), SECONDS)
    ballast = fill(small)
    try:
        states = until(plan, lambda found: not found.having("running", "submitted"))
        # What the disk takes no word of is open, or was left with its lease.
        told = {(state.state, state.cause) for state in states.states[:3]}
        assert told <= {("failed", "disk"), ("eligible", ""), ("failed", "killed")}
    finally:
        ballast.unlink()
    submit(plan, code=FAKE)
    finish(plan)
    undisturbed(plan, STEPS)


def fill(folder: Path) -> Path:
    """Take what is left of a small disk."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return ballast


@pytest.mark.long
def test_editing_the_source_while_elements_wait_changes_nothing(home: Home, tmp_path: Path) -> None:
    """For each change the same with jobs of this machine stays."""
    words = ("cluster=slurm", "cluster.partition=cpu", "cluster.memory_gib=0.5", "cluster.extra.hold=true")
    home.root.mkdir()
    checkout = submit_checkout(tmp_path, home, *words)
    plan = plan_on(home)
    assert look(plan).counts == {"submitted": 6}
    edit(checkout, home)
    for job in {
        line.partition("_")[0] for line in slurm("squeue", "--noheader", "--format=%i", "--partition=cpu").split()
    }:
        slurm("scontrol", "release", job)
    states = finish(plan)
    assert {state.detail["seconds"] for state in states.states if state.detail} == {VERSION}


def test_a_run_longer_than_its_time_limit_goes_on_until_it_is_done(late: Plan) -> None:
    """Last, because it takes a minute or two, in which the other tests were run."""
    finish(late)
    assert done(late) == once(late) and attempts(late, 0) >= 2 and causes(late, 0) == []
    assert steps(late, 0) == LATE_SECONDS / 0.005
    assert "'requeues': 1" in executors.output(late.home, late.tasks[0].paths(late.home))
