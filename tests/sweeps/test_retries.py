"""Attempts: which failures are tried again, how often, with how much memory, and on which nodes."""

from __future__ import annotations

import dataclasses
import errno
import math
import time
from pathlib import Path

import fakes
import pytest
from fakes import Behaviours, events, hand_over, start_worker, tiny_plan

from ablative.study.core.files import write_json
from ablative.study.core.packages import source_name
from ablative.study.home.failed_attempts import failures, times_out_of_memory
from ablative.study.home.paths import Home, TaskPaths
from ablative.study.plan.plan import Plan
from ablative.study.plan.task import TaskRef
from ablative.sweeps.queue import leases, retries
from ablative.sweeps.queue.failures import WORKER_FRAME, fingerprint, from_exception
from ablative.sweeps.queue.retries import archive_failure, record_abandoned
from ablative.sweeps.run import describe_left
from ablative.sweeps.status.task_states import survey
from ablative.sweeps.submission.submit import choose
from ablative.sweeps.worker import task_process
from ablative.trainer.clip.spec.config import RunConfig
from ablative.trainer.clip.spec.halving import micro_batch


def plan_for(tmp_path: Path, behaviours: Behaviours | None = None) -> Plan:
    plan = tiny_plan(Home(tmp_path), behaviours)
    plan.write()
    return plan


def work_through(plan: Plan) -> None:
    """One worker, to its end."""
    submission = plan.home.study("tiny").submission("s1")
    submission.root.mkdir(parents=True, exist_ok=True)
    hand_over(submission, [TaskRef.of(task) for task in plan.tasks])
    assert start_worker(plan.home, submission).wait(200) == 0


def rows(plan: Plan) -> int:
    config = plan.runs[0].config
    assert isinstance(config, RunConfig)
    return config.schedule.batch_size


def fail(paths: TaskPaths, cause: str, times: int) -> None:
    """So many failures more, as submissions would keep them."""
    for _ in range(times):
        archive_failure(paths)
        write_json(paths.failure, {"cause": cause, "message": "", "snapshot": "this", "fingerprint": ""})


def test_a_run_that_does_not_fit_is_tried_with_half_the_micro_batch_until_it_does(tmp_path: Path) -> None:
    plan = tiny_plan(Home(tmp_path))
    plan = plan_for(tmp_path, {plan.runs[0].task_id: ["hungry", rows(plan) // 4]})
    work_through(plan)
    paths = plan.runs[0].paths(plan.home)
    assert [failure["cause"] for failure in failures(paths)] == ["out of memory"] * 2
    assert survey(plan).finished, "in the same job, and its evaluation after it"
    assert [name for event, name in events(plan.home) if event == "begin"].count(plan.runs[0].task_id) == 3


def test_a_run_that_does_not_fit_with_a_micro_batch_of_one_has_failed(tmp_path: Path) -> None:
    plan = tiny_plan(Home(tmp_path))
    plan = plan_for(tmp_path, {plan.runs[0].task_id: ["hungry", 0]})
    work_through(plan)
    states = survey(plan).states
    assert (states[0].state, states[0].cause) == ("failed", "out of memory")
    assert times_out_of_memory(plan.runs[0].paths(plan.home)) == 1 + math.log2(rows(plan))
    same = choose(plan, survey(plan), "abc")
    assert [state.task for state in same.left] == [plan.runs[0]] and not same.queue
    assert describe_left(same) == [
        "left what failed again and again (1 out of memory); `ablate retry` submits it all the same"
    ]
    assert plan.runs[0] in choose(plan, survey(plan), "abc", frozenset({"out of memory"})).queue
    assert plan.runs[0] in choose(plan, survey(plan), "other code").queue


def test_the_micro_batch_is_halved_from_what_the_run_was_given(tmp_path: Path) -> None:
    config = plan_for(tmp_path).runs[0].config
    assert isinstance(config, RunConfig)
    config = dataclasses.replace(config, schedule=dataclasses.replace(config.schedule, batch_size=12))
    assert [micro_batch(config, halved) for halved in range(5)] == [12, 6, 3, 2, 1]
    for changes, expected in (({"micro_batch": 8}, 4), ({"processes": 2}, 3)):
        runtime = dataclasses.replace(config.runtime, **changes)
        assert micro_batch(dataclasses.replace(config, runtime=runtime), 1) == expected


@pytest.mark.parametrize(("cause", "most"), [("killed", 4), ("disk", 4), ("time limit", 99), ("preempted", 99)])
def test_a_cause_is_tried_again_so_often(tmp_path: Path, cause: str, most: int) -> None:
    """The first failure and three retries; what goes on from a checkpoint without fault has no end."""
    plan = plan_for(tmp_path)
    for more, expected in ((most - 1, True), (1, most == 99)):
        fail(plan.runs[0].paths(plan.home), cause, more)
        assert (plan.runs[0] in choose(plan, survey(plan), "this").queue) == expected
    patient = dataclasses.replace(plan, cluster=dataclasses.replace(plan.cluster, retries=1000), clusters={})
    assert plan.runs[0] in choose(patient, survey(plan), "this").queue


def test_an_evaluation_that_does_not_fit_is_tried_three_times_more(tmp_path: Path) -> None:
    plan = plan_for(tmp_path)
    evaluation = next(task for task in plan.tasks if not task.opens)
    write_json(plan.home.run(evaluation.run_id).record, {"state": "completed"})
    for more, taken in ((3, True), (1, False)):
        fail(evaluation.paths(plan.home), "out of memory", more)
        assert (evaluation in choose(plan, survey(plan), "this").queue) == taken


def test_a_death_without_a_word_is_written_down_once_and_counts(tmp_path: Path) -> None:
    plan = plan_for(tmp_path)
    paths = plan.runs[0].paths(plan.home)
    owner = dataclasses.replace(leases.identify("4711"), start=1, node="n7")
    write_json(paths.lease, dataclasses.asdict(owner))
    work_through(plan)
    found = failures(paths)
    assert [(failure["cause"], failure["node"], failure["job"]) for failure in found] == [("killed", "n7", "4711")]
    record_abandoned(paths, owner, "killed", "again")
    assert failures(paths) == found
    record_abandoned(paths, leases.identify("4712"), "killed", "another")
    assert len(failures(paths)) == 2 and survey(plan).finished


def test_a_broken_gpu_or_mount_is_the_nodes_fault() -> None:
    told = [
        RuntimeError("CUDA error: uncorrectable ECC error encountered"),
        OSError(errno.ESTALE, "Stale file handle"),
        RuntimeError("CUDA error: device-side assert triggered"),
        OSError(errno.EFBIG, "File too large"),
    ]
    causes = [from_exception(error).cause for error in told]
    assert causes == ["node failure", "node failure", "code", "disk"]


def test_the_trainers_functions_tell_failures_apart_and_those_around_them_do_not() -> None:
    def here() -> None:
        fakes.fail(Path("a"), bool, 0)

    def there() -> None:
        here()

    caught = []
    for attempt in (here, there):
        with pytest.raises(ValueError) as found:
            attempt()
        caught.append(found.value)
    assert len({fingerprint(error) for error in caught}) == 2
    assert len({fingerprint(error, ("fakes",)) for error in caught}) == 1


def test_nodes_are_avoided_for_a_while(tmp_path: Path) -> None:
    study = Home(tmp_path).study("tiny")
    assert retries.avoided_nodes(study, 12.0) == {}
    retries.note_failed_node(study, "n2", "it fell over")
    write_json(study.failed_node("n1"), {"node": "n1", "time": time.time() - 7200, "reason": ""})
    assert list(retries.avoided_nodes(study, 3.0)) == ["n1", "n2"]
    assert list(retries.avoided_nodes(study, 1.0)) == ["n2"] and retries.avoided_nodes(study, 0.0) == {}


def test_a_lease_of_an_older_version_has_no_node(tmp_path: Path) -> None:
    fields = dataclasses.asdict(leases.identify("1"))
    del fields["node"]
    write_json(tmp_path / "claim", fields)
    holder = leases.inspect(tmp_path / "claim", 60.0)
    assert holder is not None and holder.alive and holder.owner is not None and holder.owner.node == ""


def test_the_workers_own_frame_is_a_file_that_fingerprints_leave_out() -> None:
    assert source_name(Path(task_process.__file__)) == WORKER_FRAME
