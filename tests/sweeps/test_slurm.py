"""Submissions to a real SLURM, and everything that happens to jobs there. Nothing is lost, nothing is done twice."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import FAKE, HERE, SOURCE, events, wait_for
from graphs import graph_plan, run
from slurm_world import (
    SECONDS,
    begun,
    controller,
    done,
    element_of,
    finish,
    look,
    once,
    plan_on,
    slurm,
    until,
)

from ablative.study.core.errors import ConfigError
from ablative.study.core.files import write_json
from ablative.study.home.paths import Home
from ablative.study.plan.plan import Plan
from ablative.sweeps.queue import executors, manifest
from ablative.sweeps.queue.manifest import Manifest
from ablative.sweeps.slurm import preview, squeue
from ablative.sweeps.status.task_states import Survey
from ablative.sweeps.submission.submit import submit

LONG = {"train": ["work", 4.0]}
STEPS = 800
"""That a run of `LONG` consists of."""
LATER = {"begin": "now+1hour"}
"""Options of jobs that stay in the queue until `finish` is called."""


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch, world: Path) -> Iterator[None]:
    """Jobs find the tasks of these tests, and leave nothing behind for the next test."""
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    yield
    slurm("scancel", "--user", str(os.getuid()), "--quiet")
    wait_for(lambda: not slurm("squeue", "--noheader"), SECONDS)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def written(plan: Plan) -> Manifest:
    """The newest submission."""
    return next(found for _, found in manifest.submissions(plan.home, ended=True))


def test_stages_follow_those_that_they_need_and_what_needs_a_failed_task_never_starts(home: Home) -> None:
    """Of three runs, which share their data, one fails in its second stage."""
    cluster, runs = plan_on(home, canary=0).cluster, [run(cell) for cell in ("a", "b", "c")]
    bad = runs[1][2]
    plan = graph_plan(home, runs, {bad.task_id: ["fail", 0], "data": ["work", 0.5]})
    plan = dataclasses.replace(plan, cluster=cluster)
    made = submit(plan, code=FAKE)
    data, _, score, note = written(plan).arrays
    assert (made.workers, len(data.elements), len(score.elements), note.follows) == (10, 1, 3, score.name)
    assert look(plan).counts == {"submitted": 10}
    states = until(plan, lambda found: not found.having("running", "submitted"))
    assert states.counts == {"completed": 8, "failed": 1, "waiting": 1}
    assert states.by_id[bad.task_id].cause == "code" and len(states.blocked({bad.task_id})) == 1
    names = [plan.by_id[name].stage for event, name in events(home) if event == "done"]
    assert names[0] == "data" and names.index("note") > names.index("score") > names.index("train")
    assert submit(plan, code=FAKE).paths is None, "the same code would fail the same"
    write_json(home.root / "behaviour.json", {})
    assert len(submit(plan, code=FAKE, retry=frozenset({"code"})).choice.new) == 2
    finish(plan)
    assert done(plan) == once(plan)


def test_a_requeued_element_goes_on_from_its_checkpoint(home: Home) -> None:
    """By the scheduler (SIGTERM, then killed), and by itself at the warning before its time limit (SIGUSR2)."""
    plan = plan_on(home, LONG)
    submit(plan, code=FAKE)
    wait_for(lambda: all(begun(plan, index)() for index in range(3)), SECONDS)
    slurm("scontrol", "requeue", element_of(plan, 0))
    slurm("scancel", "--signal=USR2", element_of(plan, 1))
    wait_for(lambda: all(not plan.tasks[index].paths(home).lease.exists() for index in (0, 1)), SECONDS)
    assert [state.state for state in look(plan).states[:2]] == ["submitted"] * 2
    assert submit(plan, code=FAKE).paths is None
    finish(plan)
    assert done(plan) == once(plan)
    begins = [name for event, name in events(home) if event == "begin"]
    for index, attempts in ((0, 2), (1, 2), (2, 1)):
        root = plan.tasks[index].paths(home).root
        assert begins.count(plan.tasks[index].task_id) == attempts
        assert (root / "progress").stat().st_size == STEPS, "no step twice"
    assert "'requeues': 1" in executors.output(home, plan.tasks[1].paths(home))


def test_a_cancelled_element_and_a_killed_one_are_submitted_again(home: Home) -> None:
    plan = plan_on(home, LONG)
    submit(plan, code=FAKE)
    wait_for(lambda: all(begun(plan, index)() for index in range(3)), SECONDS)
    slurm("scancel", element_of(plan, 0))
    os.kill(element_process(plan, 1), signal.SIGKILL)
    states = until(plan, lambda found: not found.having("running", "submitted"))
    assert [(state.state, state.cause) for state in states.states[:2]] == [("eligible", ""), ("failed", "killed")]
    assert states.states[2].finished and states.states[1].abandoned
    saved = [(plan.tasks[index].paths(home).root / "progress").stat().st_size for index in (0, 1)]
    submit(plan, code=FAKE)
    finish(plan)
    assert done(plan) == once(plan) and min(saved) >= 20
    assert all((plan.tasks[index].paths(home).root / "progress").stat().st_size == STEPS for index in (0, 1))


def element_process(plan: Plan, index: int) -> int:
    """Process of the element that runs a task: the parent of the worker, whose child the task is."""
    lines = (plan.home.root / "events").read_text().splitlines()
    task = next(int(line.split()[2]) for line in lines if plan.tasks[index].task_id in line)
    return parent(parent(task))


def parent(pid: int) -> int:
    text = Path(f"/proc/{pid}/stat").read_text()
    return int(text[text.rindex(")") + 2 :].split()[1])


def test_while_the_controller_is_away_nothing_wrong_is_said_and_nothing_is_lost(home: Home, world: Path) -> None:
    plan = plan_on(home, LONG)
    submit(plan, code=FAKE)
    wait_for(begun(plan, 0), SECONDS)
    controller(world, "stop")
    try:
        states = look(plan)
        assert set(states.counts) <= {"running", "submitted", "completed"}
        assert "the scheduler does not answer" in executors.queue_summary(home, "tiny")
        assert submit(plan, code=FAKE).paths is None
    finally:
        controller(world, "start")
    finish(plan)
    assert done(plan) == once(plan)


def test_a_controller_that_forgot_everything(home: Home, world: Path) -> None:
    """Jobs vanish without a word, ids start again from 1; what was lost is submitted again and goes on."""
    plan = plan_on(home, LONG)
    submit(plan, code=FAKE)
    wait_for(lambda: all(begun(plan, index)() for index in range(3)), SECONDS)
    controller(world, "kill")
    for state in (world / "state").glob("job_state*"):
        state.unlink()
    controller(world, "start")
    # Elements that the controller does not know are killed by it, or end on their own before that.
    until(plan, lambda found: not found.having("running", "submitted"))
    submit(plan, code=FAKE)

    def everything(found: Survey) -> bool:
        # A node where an old job still ends takes no new one of that number: an operator's part.
        for line in slurm("sinfo", "--noheader", "--Node", "--format=%N %T").splitlines():
            if "drain" in line or "down" in line:
                slurm("scontrol", "update", f"NodeName={line.split()[0]}", "State=RESUME")
        if not found.having("running", "submitted") and not found.finished:
            submit(plan, code=FAKE)
        return found.finished

    until(plan, everything)
    assert done(plan) == once(plan)
    assert all((plan.tasks[index].paths(home).root / "progress").stat().st_size == STEPS for index in range(3))


DIES = """
import os, signal, sys
from pathlib import Path
from fakes import FAKE
from slurm_world import plan_on
from ablative.study.core.files import read_json
from ablative.study.home.paths import Home
from ablative.sweeps.slurm import script
from ablative.sweeps.submission.submit import submit

home = Home(Path(sys.argv[1]))
real = script.submit
def dies(*arguments):
    real(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "dies":
    script.submit = dies
submit(plan_on(home, read_json(home.root / "behaviour.json"), extra=read_json(home.root / "extra.json")), code=FAKE)
"""


def submitter(home: Home, how: str, extra: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    write_json(home.root / "extra.json", extra or {})
    path = os.pathsep.join([str(SOURCE), str(HERE), str(HERE.parent)])
    return subprocess.Popen([sys.executable, "-c", DIES, str(home.root), how], env={**os.environ, "PYTHONPATH": path})


def test_a_submitter_killed_after_sbatch_and_before_its_bookkeeping(home: Home) -> None:
    plan = plan_on(home, {"train": ["work", 1.0]}, extra=LATER)
    assert submitter(home, "dies", LATER).wait(SECONDS) == -signal.SIGKILL
    assert written(plan).arrays[0].job_id == ""
    states = look(plan)
    assert states.counts == {"submitted": 3, "waiting": 3}, "the runs are known by name, the rest was never submitted"
    submit(plan, code=FAKE)
    assert written(plan).arrays[-1].waits_for, "they wait for what is in the queue already"
    finish(plan)
    assert done(plan) == once(plan)
    assert [name for event, name in events(home) if event == "begin"].count(plan.tasks[0].task_id) == 1


@pytest.mark.long
def test_two_submitters_at_once_do_everything_once(home: Home) -> None:
    """For each change two submissions at once to this machine stay, and on SLURM a submitter that is killed."""
    plan = plan_on(home, {"train": ["work", 1.0]})
    both = [submitter(home, "lives") for _ in range(2)]
    assert [process.wait(SECONDS) for process in both] == [0, 0]
    finish(plan)
    assert done(plan) == once(plan)


def test_cancel_takes_waiting_elements_out_of_the_queue(home: Home) -> None:
    plan = plan_on(home, LONG, constraint="", jobs=1)
    submit(plan, code=FAKE)
    wait_for(begun(plan, 0), SECONDS)
    for task in plan.tasks[1:]:
        task.paths(home).root.mkdir(parents=True, exist_ok=True)
        task.paths(home).cancelled.touch()
    executors.withdraw(home)
    states = until(plan, lambda found: found.states[0].finished)
    assert {state.cause for state in states.states[1:]} == {"cancelled"}
    assert {name for _, name in events(home)} == {plan.tasks[0].task_id}


def test_tasks_are_packed_into_elements_and_dealt_out_when_the_queue_is_short(home: Home) -> None:
    plan = plan_on(home, {"train": ["work", 1.0]}, pack=2, max_elements=2)
    made = submit(plan, code=FAKE)
    runs, evaluations = written(plan).arrays
    assert made.workers == 2 and [len(element) for element in (*runs.elements, *evaluations.elements)] == [3, 3]
    finish(plan)
    assert done(plan) == once(plan)
    order = [event for event, name in events(home) if name in {task.task_id for task in plan.runs}]
    assert order[:2] == ["begin", "begin"], "side by side"


def test_the_dry_run_shows_the_scripts_that_are_submitted(home: Home) -> None:
    plan = plan_on(home, partition="gpu", gpus=1, gpu_type="a100", extra={"nice": 5}, jobs=2, setup=("module list",))
    shown = [text for text in preview.scripts(plan) if text.startswith("#!")]
    made = submit(plan, code=FAKE)
    assert made.paths is not None
    arrays = written(plan).arrays
    texts = [(made.paths.jobs / f"{array.job_id}_submission.sh").read_text() for array in arrays]

    def bare(text: str) -> str:
        return re.sub(r"\d{8}-\d{6}-\w{6}|aftercorr:\S+|'aftercorr:.*'", "", text)

    assert [bare(text) for text in shown] == [bare(text) for text in texts]
    for option in ("--gres=gpu:a100:1", "--array=0-2%2", "--nice=5", "--partition=gpu", "--signal=USR2@120"):
        assert option in texts[0]
    assert "\nmodule list\n" in texts[0] and f"aftercorr:{arrays[0].job_id}" in texts[1]
    assert len(slurm("squeue", "--noheader", "--array").splitlines()) == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"partition": "cpo"}, "unknown partition 'cpo'; did you mean 'cpu'"),
        ({"gpus": 1}, "gpus: 1 is more than any node of partition 'cpu' has"),
        ({"partition": "gpu", "gpus": 3}, "at most 2"),
        ({"partition": "gpu", "gpus": 1, "gpu_type": "h100"}, "unknown GPU type 'h100'; did you mean 'a100'"),
        ({"partition": "gpu", "hours": 72}, "hours: 72 is over the time limit of partition 'gpu'"),
        ({"pack": 3}, r"cpus: 3 \(3 tasks packed into an element\) is more than any node"),
        ({"memory_gib": 5}, "memory_gib: 5 is more than any node"),
        ({"partition": "gpu", "constraint": "slow"}, "unknown feature 'slow'"),
        ({"extra": {"array": "0-9"}}, "extra.array: ablate sets this option itself"),
        ({"extra": {"no-such-option": 1}}, "sbatch refused: .*no-such-option"),
    ],
)
def test_what_the_cluster_would_never_run_is_refused(home: Home, changes: dict[str, object], message: str) -> None:
    plan = plan_on(home, **changes)
    with pytest.raises(Exception, match=message):
        submit(plan, code=FAKE)
    assert look(plan).counts == {"eligible": 3, "waiting": 3}
    assert not slurm("squeue", "--noheader")


def test_without_slurm_it_says_so(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    from ablative.sweeps.slurm import cluster

    cluster.inspect.cache_clear()
    with monkeypatch.context() as patch:
        patch.setenv("PATH", "/nowhere")
        with pytest.raises(ConfigError, match=r"sbatch.* not found on the PATH"):
            submit(plan_on(home), code=FAKE)
        assert "not installed here" in "".join(preview.scripts(plan_on(home)))
        assert squeue.look(["nobody"], 1e18).silence == "squeue is not on the PATH"
