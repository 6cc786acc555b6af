"""Submitting: what is taken and what is left, once whatever happens, by workers that outlive the terminal."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from edited import VERSION, edit, submit_checkout
from fakes import FAKE, HERE, Behaviours, done, events, tiny_plan, wait_for

from ablative.study.core.errors import AblateError, ConfigError, StoreError
from ablative.study.core.files import read_json, write_json
from ablative.study.core.processes import UNUSED
from ablative.study.home.paths import Home
from ablative.study.plan.plan import Plan
from ablative.sweeps.queue import manifest
from ablative.sweeps.queue.executors import executor, live_jobs
from ablative.sweeps.slurm import environment
from ablative.sweeps.status.task_states import survey
from ablative.sweeps.submission import local
from ablative.sweeps.submission.submit import choose, prepare_home, submit

SUBMIT = """
import sys
from pathlib import Path
from fakes import FAKE, tiny_plan
from ablative.study.core.files import read_json
from ablative.study.home.paths import Home
from ablative.sweeps.submission.submit import submit
home = Home(Path(sys.argv[1]))
made = submit(tiny_plan(home, read_json(home.root / "behaviour.json")), code=FAKE)
print(len(made.choice.new), made.workers)
"""


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs find the tasks of these tests."""
    monkeypatch.setenv("PYTHONPATH", str(HERE))


def plan_for(tmp_path: Path, behaviours: Behaviours | None = None) -> Plan:
    return tiny_plan(Home(tmp_path / "home"), behaviours)


def finished(plan: Plan) -> bool:
    return survey(plan).finished


def gone(plan: Plan) -> bool:
    """Whether no worker is left."""
    return not any(live_jobs(paths, found) for paths, found in manifest.submissions(plan.home))


def submitter(home: Home, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SUBMIT, str(home.root)],
        env={**os.environ, "PYTHONPATH": str(HERE)},
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )


def test_everything_missing_is_done_and_then_there_is_nothing_to_submit(tmp_path: Path) -> None:
    plan = plan_for(tmp_path)
    made = submit(plan, jobs=2, code=FAKE)
    assert made.paths is not None and (len(made.choice.new), made.workers) == (6, 2)
    wait_for(lambda: finished(plan) and gone(plan))
    assert Counter(events(plan.home)) == Counter((kind, t.task_id) for t in plan.tasks for kind in ("begin", "done"))
    again = submit(plan, code=FAKE)
    assert again.paths is None and again.choice.queue == ()
    found = manifest.read(made.paths)
    assert found is not None and len(found.jobs) == 2 and found.snapshot
    assert made.paths.launch_log.read_text() == ""
    assert read_json(plan.home.study("tiny").plan) is not None
    wait_for(lambda: gone(plan))


def test_submitting_while_it_runs_adds_nothing(tmp_path: Path) -> None:
    plan = plan_for(tmp_path, {"train": ["work", 1.0]})
    assert submit(plan, jobs=1, code=FAKE).paths is not None
    assert submit(plan, jobs=1, code=FAKE).paths is None
    wait_for(lambda: ("begin", plan.tasks[0].task_id) in events(plan.home))
    assert submit(plan, jobs=1, code=FAKE).paths is None
    wait_for(lambda: finished(plan) and gone(plan))


def test_two_submissions_at_the_same_moment_do_everything_once(tmp_path: Path) -> None:
    plan = plan_for(tmp_path, {"train": ["work", 0.3]})
    both = [submitter(plan.home) for _ in range(2)]
    assert [process.communicate()[0] and process.returncode for process in both] == [0, 0]
    wait_for(lambda: finished(plan) and gone(plan))
    assert done(plan.home) == Counter({task.task_id: 1 for task in plan.tasks})


def test_the_work_outlives_the_process_its_session_and_its_pipe(tmp_path: Path) -> None:
    plan = plan_for(tmp_path, {"train": ["work", 1.5]})
    process = submitter(plan.home, start_new_session=True, preexec_fn=lambda: os.nice(3))
    output, _ = process.communicate(timeout=30)
    assert output.split()[0] == "6"
    assert not finished(plan), "the pipe was closed although work goes on"
    [job] = [job for paths, found in manifest.submissions(plan.home) for job in live_jobs(paths, found)][:1]
    if (group := Path(f"/proc/{job.job_id}/autogroup")).exists():  # `nice` means the workers, too, in their session
        assert int(group.read_text().split()[-1]) >= 3
    with pytest.raises(ProcessLookupError):
        # Nobody is left in the session that a closing terminal would hang up on.
        os.killpg(process.pid, signal.SIGHUP)
    wait_for(lambda: finished(plan) and gone(plan))


def fail(plan: Plan, index: int, cause: str, code: str) -> None:
    paths = plan.tasks[index].paths(plan.home)
    write_json(paths.failure, {"cause": cause, "message": "m", "fingerprint": "f", "snapshot": code})


@pytest.mark.parametrize("cause", ["interrupted", "killed", "disk", "out of memory", "preempted", "time limit"])
def test_causes_outside_the_code_are_taken_again(tmp_path: Path, cause: str) -> None:
    plan = plan_for(tmp_path)
    fail(plan, 0, cause, "this code")
    assert plan.tasks[0] in choose(plan, survey(plan), "this code").queue


@pytest.mark.parametrize("cause", ["code", "data"])
def test_failures_of_code_and_data_wait_for_other_code_or_for_retry(tmp_path: Path, cause: str) -> None:
    plan = plan_for(tmp_path)
    fail(plan, 0, cause, "this code")
    same = choose(plan, survey(plan), "this code")
    assert [state.task for state in same.left] == [plan.tasks[0]]
    assert plan.tasks[0] not in same.queue
    evaluation = next(task for task in plan.tasks[3:] if task.run_id == plan.tasks[0].task_id)
    assert evaluation not in same.queue, "its run will not be trained"
    assert plan.tasks[0] in choose(plan, survey(plan), "other code").queue
    assert plan.tasks[0] in choose(plan, survey(plan), "this code", frozenset({cause})).queue


def test_what_failed_for_want_of_a_file_is_taken_again_when_that_is_there(tmp_path: Path) -> None:
    plan, lacking = plan_for(tmp_path), tmp_path / "env" / "bin" / "python"
    paths = plan.tasks[0].paths(plan.home)
    failure = {"cause": "code", "message": "m", "fingerprint": "f", "snapshot": "this code", "lacks": str(lacking)}
    write_json(paths.failure, failure)
    assert plan.tasks[0] not in choose(plan, survey(plan), "this code").queue
    lacking.parent.mkdir(parents=True)
    lacking.touch()
    assert plan.tasks[0] in choose(plan, survey(plan), "this code").queue
    for number in range(1, 4):
        write_json(paths.past_failure(number), failure)
    assert plan.tasks[0] not in choose(plan, survey(plan), "this code").queue, "it did not help"


def test_what_the_user_cancelled_is_left_until_he_says_so(tmp_path: Path) -> None:
    plan = plan_for(tmp_path)
    paths = plan.tasks[0].paths(plan.home)
    paths.root.mkdir(parents=True)
    paths.cancelled.touch()
    assert plan.tasks[0] not in choose(plan, survey(plan), "any").queue
    made = submit(plan, code=FAKE, retry=frozenset({"cancelled"}))
    assert plan.tasks[0] in made.choice.queue
    wait_for(lambda: finished(plan) and gone(plan))
    assert not paths.cancelled.exists()


def test_a_failure_is_kept_when_its_task_is_submitted_again(tmp_path: Path) -> None:
    plan = plan_for(tmp_path, {plan_for(tmp_path).tasks[0].task_id: ["killed", 0]})
    paths = plan.tasks[0].paths(plan.home)
    for attempt in (1, 2):
        submit(plan, code=FAKE)
        wait_for(lambda: paths.failure.exists() and gone(plan))
        assert paths.past_failure(attempt - 1).exists() == (attempt > 1)
    kept = read_json(paths.past_failure(1))
    assert kept is not None and kept["cause"] == "killed"
    assert not paths.past_failure(2).exists()


def test_a_dead_submission_is_submitted_again(tmp_path: Path) -> None:
    plan = plan_for(tmp_path, {"train": ["work", 1.0]})
    made = submit(plan, jobs=2, code=FAKE)
    wait_for(lambda: len(events(plan.home)) >= 2)
    assert made.paths is not None
    found = manifest.read(made.paths)
    assert found is not None
    local.stop(live_jobs(made.paths, found), force=True)
    wait_for(lambda: gone(plan))
    wait_for(lambda: not survey(plan).having("running"))
    assert {state.cause for state in survey(plan).having("failed")} == {"killed"}
    again = submit(plan, jobs=2, code=FAKE)
    assert len(again.choice.new) == 6 and made.paths.ended.exists()
    wait_for(lambda: finished(plan) and gone(plan))


def test_stopping_lets_runs_save_and_the_next_submission_goes_on(tmp_path: Path) -> None:
    plan = plan_for(tmp_path, {"train": ["work", 1.5]})
    made = submit(plan, jobs=1, code=FAKE)
    progress = plan.tasks[0].paths(plan.home).root / "progress"
    wait_for(lambda: progress.exists() and progress.stat().st_size > 20)
    assert made.paths is not None
    found = manifest.read(made.paths)
    assert found is not None
    local.stop(live_jobs(made.paths, found), force=False)
    wait_for(lambda: gone(plan))
    assert survey(plan).states[0].cause == "interrupted"
    steps = progress.stat().st_size
    submit(plan, jobs=2, code=FAKE)
    wait_for(lambda: finished(plan) and gone(plan))
    assert progress.stat().st_size == 300 and steps > 20


def test_tasks_inherit_nothing_of_the_processes_around_the_submitter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell of torchrun, or in a job of ours: the tasks would wait for processes that never come."""
    plan = plan_for(tmp_path, {"train": ["environment", 0]})
    peers = {"WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "node1", "TORCHELASTIC_RUN_ID": "none"}
    for name, value in (peers | {"ABLATE_SCHEDULER": "{}", "OMP_NUM_THREADS": "1"}).items():
        monkeypatch.setenv(name, value)
    submit(plan, code=FAKE)
    wait_for(lambda: finished(plan))
    found = read_json(plan.runs[0].paths(plan.home).root / "environment.json")
    assert not found.keys() & {*peers, "ABLATE_SCHEDULER"} and found["OMP_NUM_THREADS"] == "1"
    assert found[UNUSED] == "WORLD_SIZE=2, LOCAL_RANK=0, MASTER_ADDR=node1, ABLATE_SCHEDULER={}, TORCHELASTIC_*"
    with environment.clean():
        assert not os.environ.keys() & peers.keys() and os.environ[UNUSED] == found[UNUSED]
    assert os.environ.keys() >= peers.keys() and UNUSED not in os.environ


def test_a_launcher_that_fails_says_why_and_holds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_for(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "shadow"))
    (tmp_path / "shadow" / "submitit").mkdir(parents=True)
    (tmp_path / "shadow" / "submitit" / "__init__.py").write_text("raise ImportError('no scheduler today')")
    with pytest.raises(AblateError, match="no scheduler today"):
        submit(plan, code=FAKE)
    assert survey(plan).counts == {"eligible": 3, "waiting": 3}


def test_a_home_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    plan = plan_for(tmp_path)
    plan.home.version.write_text("2\n")
    with pytest.raises(StoreError, match=r"layout version '2', this ablate knows up to 1"):
        submit(plan, code=FAKE)
    plan.home.version.write_text("one\n")
    prepare_home(plan.home)
    assert plan.home.version.read_text() == "1\n", "no version has ever written a word"


def test_a_home_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot be written .*ABLATE_HOME"):
        prepare_home(Home(tmp_path / "file"))
    with pytest.raises(StoreError, match="cannot be written"):
        prepare_home(Home(Path("/proc/nowhere")))


def test_workers_are_as_many_as_cores_gpus_and_tasks_allow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))
    monkeypatch.setattr(local, "CPU_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert local.workers(0, 100, 1) == (8, ())
    assert local.workers(0, 100, 4) == (2, ())
    assert local.workers(0, 100, 0) == (1, ())
    assert local.workers(0, 3, 1) == (3, ())
    assert local.workers(5, 100, 1) == (5, ())
    for quota, expected in (("max 100000", 8), ("350000 100000", 3), ("50000 100000", 1)):
        local.CPU_QUOTA.write_text(quota)
        assert local.workers(0, 100, 1) == (expected, ())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert local.workers(0, 100, 1) == (2, ("2", "3"))
    assert local.workers(4, 100, 1) == (4, ("2", "3"))
    # Runs on several processes: as many GPUs each, or all there are.
    assert local.workers(0, 100, 2, 2) == (1, ("2,3",))
    assert local.workers(0, 100, 4, 4) == (1, ("2,3",))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,4")
    assert local.workers(0, 100, 2, 2) == (2, ("0,1", "2,3"))


def test_an_unknown_cluster_kind_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"unknown executor 'locl'; did you mean 'local'"):
        executor("locl")


def test_editing_the_source_while_jobs_wait_changes_nothing(tmp_path: Path) -> None:
    """The job imports a module only after it was edited, and from the folder of the checkout at that."""
    home = Home(tmp_path / "home")
    checkout = submit_checkout(tmp_path, home)
    plan = dataclasses.replace(plan_for(tmp_path), home=home)
    wait_for((plan.tasks[0].paths(home).root / "begun").exists)
    edit(checkout, home)
    wait_for(lambda: finished(plan) and gone(plan))
    assert {state.detail["seconds"] for state in survey(plan).states if state.detail} == {VERSION}


def test_an_interrupted_stop_is_not_missed_by_a_worker_that_is_still_starting(tmp_path: Path) -> None:
    plan = plan_for(tmp_path, {"train": ["work", 1.0]})
    made = submit(plan, jobs=1, code=FAKE)
    assert made.paths is not None
    write_json(made.paths.stopped, {"reason": "interrupted by the user", "fingerprint": ""})
    wait_for(lambda: gone(plan))
    time.sleep(0.1)
    assert len([name for event, name in events(plan.home) if event == "begin"]) <= 1
