"""States of a plan's tasks, from what their directories say and who is alive."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import time
from pathlib import Path

import pytest
from fakes import tiny_plan
from rich.console import Console

from ablative.study.core.files import write_json
from ablative.study.costs.estimate import ASSUMED_SECONDS
from ablative.study.home.attempt_times import MET, WAITING
from ablative.study.home.journal import Journal
from ablative.study.home.paths import Home, SubmissionPaths, TaskPaths
from ablative.study.plan.plan import Plan
from ablative.study.plan.task import TaskRef
from ablative.sweeps.queue import leases
from ablative.sweeps.queue.manifest import Job, Manifest
from ablative.sweeps.status.progress import read_progress, seconds_left
from ablative.sweeps.status.render import overview, silences, waits
from ablative.sweeps.status.task_states import survey, task_states


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return tiny_plan(Home(tmp_path))


def paths(plan: Plan, index: int) -> TaskPaths:
    found = plan.tasks[index].paths(plan.home)
    found.root.mkdir(parents=True, exist_ok=True)
    return found


def lease(path: Path, **changes: object) -> None:
    owner = dataclasses.replace(leases.identify("4711"), **changes)
    path.write_text(json.dumps(dataclasses.asdict(owner)))


def queue(plan: Plan, job: Job) -> SubmissionPaths:
    """A submission of everything, to one job."""
    submission = plan.home.study("tiny").submission("s1")
    submission.root.mkdir(parents=True)
    Manifest(
        study="tiny",
        executor="local",
        created="",
        command="",
        workers=1,
        devices=(),
        snapshot="",
        commit="",
        dirty=False,
        entry="",
        shipper="",
        heartbeat_seconds=5.0,
        stale_seconds=60.0,
        tasks=tuple(TaskRef.of(task) for task in plan.tasks),
        jobs=(job,),
    ).write(submission)
    return submission


def this_process(**changes: object) -> Job:
    me = leases.identify()
    return dataclasses.replace(Job(str(me.pid), me.host, me.scope, me.start), **changes)


def states(plan: Plan) -> list[str]:
    return [state.state for state in survey(plan).states]


def test_before_anything_runs_are_eligible_and_evaluations_wait_for_them(plan: Plan) -> None:
    assert states(plan) == ["eligible"] * 3 + ["waiting"] * 3
    assert survey(plan).counts == {"eligible": 3, "waiting": 3}


def test_records_decide_first_and_make_evaluations_eligible(plan: Plan) -> None:
    write_json(paths(plan, 0).record, {"state": "completed"})
    write_json(paths(plan, 1).record, {"state": "diverged"})
    lease(paths(plan, 0).lease)
    write_json(paths(plan, 1).failure, {"cause": "code"})
    assert states(plan) == ["completed", "diverged", "eligible", "eligible", "eligible", "waiting"]
    assert task_states(plan)[plan.tasks[1].task_id].finished


def test_a_living_lease_is_running_and_a_dead_one_was_killed(plan: Plan) -> None:
    lease(paths(plan, 0).lease)
    lease(paths(plan, 1).lease, start=1)
    found = survey(plan).states
    assert [state.state for state in found[:3]] == ["running", "failed", "eligible"]
    assert found[0].owner is not None and found[0].owner.job == "4711"
    assert (found[1].cause, found[1].abandoned, found[1].resumable) == ("killed", True, True)


def test_a_process_of_this_machine_that_stands_still_is_said_to(plan: Plan) -> None:
    for index, age in enumerate((5.0, 1000.0)):
        lease(paths(plan, index).lease)
        os.utime(paths(plan, index).lease, (time.time() - age,) * 2)
    assert states(plan)[:2] == ["running", "running"]
    (line,) = silences(survey(plan))
    assert line.startswith(f"{plan.tasks[1].task_id}: no heartbeat for 1000 s on node ")


def test_another_hosts_lease_is_judged_by_its_heartbeat(plan: Plan) -> None:
    for index, age in enumerate((5.0, 1000.0)):
        lease(paths(plan, index).lease, host="elsewhere")
        os.utime(paths(plan, index).lease, (time.time() - age,) * 2)
    assert states(plan)[:2] == ["running", "failed"]


def test_failures_carry_their_cause_and_cancelled_is_one(plan: Plan) -> None:
    write_json(paths(plan, 0).failure, {"cause": "disk", "message": "full"})
    paths(plan, 1).cancelled.touch()
    lease(paths(plan, 2).lease, start=1)
    write_json(paths(plan, 2).failure, {"cause": "code", "message": "its worker died after saying so"})
    found = survey(plan).states
    assert [(state.state, state.cause) for state in found[:3]] == [
        ("failed", "disk"),
        ("failed", "cancelled"),
        ("failed", "code"),
    ]
    assert [state.resumable for state in found[:3]] == [True, False, False]


def test_what_a_living_submission_holds_is_submitted(plan: Plan) -> None:
    write_json(paths(plan, 0).record, {"state": "completed"})
    submission = queue(plan, this_process())
    assert states(plan) == ["completed"] + ["submitted"] * 5
    submission.stopped.write_text('{"reason": "enough"}')
    assert states(plan) == ["completed", "eligible", "eligible", "eligible", "waiting", "waiting"]


def test_a_dead_submission_holds_nothing(plan: Plan) -> None:
    queue(plan, this_process(start=1))
    assert states(plan)[0] == "eligible"


def test_a_submission_on_another_host_lives_by_its_heartbeat(plan: Plan) -> None:
    submission = queue(plan, this_process(host="elsewhere"))
    assert states(plan)[0] == "eligible"
    submission.alive.touch()
    assert states(plan)[0] == "submitted"
    os.utime(submission.alive, (time.time() - 1000,) * 2)
    assert states(plan)[0] == "eligible"


def test_a_run_that_another_study_submitted_is_submitted_here_too(plan: Plan) -> None:
    submission = queue(plan, this_process())
    other = plan.home.study("other").submission("s1")
    other.root.parent.mkdir(parents=True)
    submission.root.rename(other.root)
    assert states(plan)[0] == "submitted"


def test_the_time_that_is_left_goes_by_what_running_tasks_report(plan: Plan) -> None:
    """Others are as much longer as they have more to compute; what comes after them is guessed."""
    queue(plan, this_process())
    lease(paths(plan, 0).lease)
    assert seconds_left(survey(plan), plan) is None
    schedule = plan.tasks[0].config.schedule
    journal = Journal(paths(plan, 0).journal)
    journal.metrics(schedule.steps // 2, {"train/loss": 2.25, "cost/samples_per_second": schedule.batch_size / 10})
    journal.close()
    report = read_progress(plan, plan.tasks[0])
    assert report is not None and report.share == 0.5 and report.shown["loss"] == "2.25"
    half = 10 * schedule.steps / 2
    assert report.seconds_left == pytest.approx(half, abs=1.0)
    narrow = Console(width=60, file=io.StringIO())
    narrow.print(overview(plan, survey(plan)))
    row = narrow.file.getvalue().splitlines()[2].split()  # type: ignore[attr-defined]
    assert row[0] == plan.tasks[0].task_id and row[1].endswith("…"), "a cell's name is cut"
    assert row[2] == f"{schedule.steps // 2}/{schedule.steps}" and row[3] == "2.25", "before any number"
    first, *others = (plan.trainer.work(task.stage, task.config) for task in plan.runs)
    expected = half + sum(2 * half * other / first for other in others) + 3 * ASSUMED_SECONDS
    assert seconds_left(survey(plan), plan) == pytest.approx(expected, rel=0.01)
    write_json(paths(plan, 1).record, {"state": "completed", "seconds": 8.0})
    assert seconds_left(survey(plan), plan) < expected, "finished tasks count, too"
    assert read_progress(plan, plan.tasks[3]) is None


def test_a_task_that_waits_for_other_processes_says_so(plan: Plan) -> None:
    """Until they have met, and no longer."""
    lease(paths(plan, 0).lease)
    journal = Journal(paths(plan, 0).journal)
    journal.event("started", attempt=1)
    journal.event(WAITING, message="process 0 waits for 1 of 2 processes at node1:2951")
    (line,) = waits(plan, survey(plan))
    assert line.startswith(f"{plan.tasks[0].task_id}: process 0 waits for 1 of 2 processes at node1:2951, for ")
    journal.event(MET, message="2 processes")
    journal.close()
    assert waits(plan, survey(plan)) == []
