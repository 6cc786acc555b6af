"""What is decided about SLURM jobs: who goes first, who stops the others, what ended a job. No scheduler needed."""

from __future__ import annotations

import dataclasses
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import FAKE, tiny_plan

from ablative.study import installed_trainers
from ablative.study.core.errors import ConfigError
from ablative.study.core.files import read_json, write_json
from ablative.study.home.attempt_times import ANEW
from ablative.study.home.journal import Journal, read
from ablative.study.home.paths import Home, SubmissionPaths
from ablative.study.home.tried import Tried, keep_tried
from ablative.study.plan.plan import Plan
from ablative.study.plan.task import TaskRef
from ablative.study.spec.cluster import ClusterConfig
from ablative.study.starts import Resumption
from ablative.sweeps.queue import executors, leases, manifest, retries
from ablative.sweeps.queue.failures import Failure
from ablative.sweeps.queue.manifest import Manifest
from ablative.sweeps.slurm import cluster, element, endings, executor, layout, script, squeue, workers
from ablative.sweeps.slurm.cluster import Cluster, Node, Partition
from ablative.sweeps.slurm.squeue import Queue, QueuedElement
from ablative.sweeps.slurm.workers import CanaryWorker, ElementWorker
from ablative.sweeps.status.task_states import survey
from ablative.sweeps.submission.submit import submit
from ablative.sweeps.worker import task_process
from ablative.sweeps.worker.task_process import Entry

CONFIG = ClusterConfig(name="slurm", kind="slurm", canary=6)
NODES = tuple(Node(name, 2, 4.0, {}, frozenset()) for name in ("n1", "n2"))
CLUSTER = Cluster({}, {"p": Partition("p", True, True, 1e9, {}, {}, "OFF", 0, NODES)})
FAILURE = Failure("code", "ValueError", "wrong\nin detail", "f", "")


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Three runs and their evaluations: six elements."""
    return dataclasses.replace(tiny_plan(Home(tmp_path)), cluster=CONFIG, clusters={})


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[QueuedElement]:
    """The content of a scheduler's queue that takes everything; job ids are 1, 2, …"""
    elements: list[QueuedElement] = []
    numbers = iter(range(1, 100))
    monkeypatch.setattr(squeue, "look", lambda users, after: Queue(tuple(elements), 1e18))
    monkeypatch.setattr(cluster, "inspect", lambda: CLUSTER)
    monkeypatch.setattr(script, "submit", lambda submission, text: str(next(numbers)))
    return elements


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """Workers and elements take signals over, which pytest wants back."""
    kept = {number: signal.getsignal(number) for number in (*task_process.STOP_SIGNALS, signal.SIGCHLD)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def written(plan: Plan) -> tuple[SubmissionPaths, Manifest]:
    return next(manifest.submissions(plan.home, ended=True))


def worker(plan: Plan, kind: type[ElementWorker], job: str = "2_0") -> ElementWorker:
    """A worker of the newest submission that has begun nothing."""
    submission, found = written(plan)
    return kind(plan.home, submission, found, Entry(plan.home, "clip", (), lambda job: None), job)


def test_the_first_task_is_tried_before_many_elements(plan: Plan, seen: list[QueuedElement]) -> None:
    made = submit(plan, code=FAKE)
    canary, runs, evaluations = written(plan)[1].arrays
    assert canary.canary and canary.elements == ((plan.tasks[0].task_id,),)
    assert runs.elements[0] == canary.elements[0], "which goes on with the task"
    ids = {canary.name: "1", runs.name: "2"}
    dependencies = [script.dependency(array, ids) for array in (canary, runs, evaluations)]
    assert dependencies == ["", "afterok:1", "aftercorr:2"]
    assert made.workers == 6
    fewer = layout.arrange(plan, plan.tasks[:5], frozenset(), {}, "x", 100, 100)
    assert not any(array.canary for array in fewer)
    waiting = dataclasses.replace(runs, waits_for=("7_1", "7_2"))
    assert script.dependency(waiting, ids) == "afterok:1,afterany:7_1:7_2"


def test_a_canary_lets_the_others_go_when_it_has_trained_some_steps(
    plan: Plan, seen: list[QueuedElement], monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(plan, code=FAKE)
    submission, found = written(plan)
    for name, value in {"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_JOB_ID": "1"}.items():
        monkeypatch.setenv(name, value)
    paths = plan.tasks[0].paths(plan.home)
    journal = Journal(paths.journal)
    journal.metrics(10, {"train/loss": 1.0})
    first = element.Element(plan.home, submission, found.arrays[0].name)
    tries = worker(plan, CanaryWorker, "1_0")
    task = found.tasks[0]
    assert tries._judge(task) == "" and not tries.signals, "steps of an earlier attempt prove nothing"
    assert first._exit_code() == 1
    time.sleep(0.005)
    journal.metrics(20, {"train/loss": 0.5})
    assert tries._judge(task) == "" and tries.signals
    assert first._exit_code() == 0
    write_json(paths.failure, {"cause": "code", "fingerprint": "f"})
    assert first._exit_code() == 1
    _check_what_it_leaves(plan, tries, task)
    tries.close()


def _check_what_it_leaves(plan: Plan, tries: CanaryWorker, task: TaskRef) -> None:
    """Its checkpoint, where a resumed task is known to end as others do; else the task begins anew."""
    paths, interrupted = task.paths(plan.home), Failure("interrupted", "", "saved", "", "")
    paths.output.mkdir(parents=True)
    trainer = installed_trainers.trainer("clip")
    with pytest.MonkeyPatch.context() as patch:
        for exact, measured, left in ((True, None, True), (None, True, True), (None, None, False)):
            if measured is not None:
                keep_tried(plan.home.study(plan.study.name), {task.stage: Tried("c", "t", 1.0, exact=measured)})
            else:
                plan.home.study(plan.study.name).tried.unlink(missing_ok=True)
            patch.setattr(trainer, "resumption", lambda *_, exact=exact: Resumption(exact=exact))
            tries._write_failure(task, paths, interrupted)
            assert paths.output.exists() == left
    assert paths.earlier_output.exists() and read(paths.journal)[0][-1]["name"] == ANEW


@pytest.mark.parametrize(
    ("kind", "cause", "stops"),
    [
        (CanaryWorker, "code", True),
        (CanaryWorker, "disk", True),
        (CanaryWorker, "killed", False),
        (ElementWorker, "code", False),
    ],
)
def test_a_canary_that_fails_of_what_all_would_fail_of_stops_them(
    plan: Plan,
    seen: list[QueuedElement],
    monkeypatch: pytest.MonkeyPatch,
    kind: type[ElementWorker],
    cause: str,
    stops: bool,
) -> None:
    submit(plan, code=FAKE)
    cancelled: list[tuple[str, ...]] = []
    monkeypatch.setattr(squeue, "cancel", lambda *words: cancelled.append(words))
    tries = worker(plan, kind)
    tries._react(dataclasses.replace(FAILURE, cause=cause))
    stopped = read_json(tries.submission.stopped)
    assert cancelled == ([("--state=PENDING", "1", "2", "3")] if stops else [])
    assert (stopped or {}).get("reason") == (
        f"the first task failed, and the others were not begun ({cause}: ValueError: wrong)" if stops else None
    )
    tries.close()


def test_three_identical_failures_take_the_rest_out_of_the_queue(
    plan: Plan, seen: list[QueuedElement], monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(plan, code=FAKE)
    cancelled: list[tuple[str, ...]] = []
    monkeypatch.setattr(squeue, "cancel", lambda *words: cancelled.append(words))
    one = worker(plan, ElementWorker)
    for task in plan.tasks[:3]:
        assert not cancelled
        write_json(task.paths(plan.home).failure, {"cause": "code", "fingerprint": "f"})
        one._react(FAILURE)
    assert cancelled == [("--state=PENDING", "1", "2", "3")]
    assert (read_json(one.submission.stopped) or {})["reason"].startswith("3 tasks failed at the same place")
    one.close()


@pytest.mark.parametrize(
    ("state", "errors", "cause"),
    [
        ("OUT_OF_MEMORY", "", "out of memory"),
        ("NODE_FAIL", "", "node failure"),
        ("TIMEOUT", "", "time limit"),
        ("FAILED", "", "killed"),
        (
            "",
            "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=2.0. Some processes were killed.",
            "out of memory",
        ),
        ("", "srun: error: n1: task 0: Out Of Memory", "out of memory"),
        (
            "",
            "slurmstepd: error: *** STEP 2.0 ON n1 CANCELLED AT 2026-01-01T00:00:00 DUE TO TIME LIMIT ***",
            "time limit",
        ),
        (
            "",
            "slurmstepd: error: *** STEP 2.0 ON n1 CANCELLED AT 2026-01-01T00:00:00 DUE TO PREEMPTION ***",
            "preempted",
        ),
        ("", "DUE TO TIME LIMIT\nelement 2_0 begins on node n2\nsomething else", "killed"),
    ],
)
def test_a_death_without_a_word_has_the_cause_that_the_scheduler_gives(
    plan: Plan, seen: list[QueuedElement], state: str, errors: str, cause: str
) -> None:
    submit(plan, code=FAKE)
    submission, found = written(plan)
    if state:
        seen.append(QueuedElement("2_0", found.arrays[1].name, 0, state, "None"))
    if errors:
        submission.errors("2_0").parent.mkdir(exist_ok=True)
        submission.errors("2_0").write_text(f"{errors}\n")
    paths = plan.tasks[0].paths(plan.home)
    owner = dataclasses.replace(leases.identify("2_0"), start=1, node="n1")
    write_json(paths.lease, dataclasses.asdict(owner))
    first = survey(plan).states[0]
    assert (first.state, first.cause, first.abandoned) == ("failed", cause, True)
    again = submit(plan, code=FAKE)
    kept = read_json(paths.past_failure(1))
    assert kept is not None and (kept["cause"], kept["node"]) == (cause, "n1")
    assert again.paths is not None
    next_one = manifest.read(again.paths)
    assert next_one is not None and next_one.arrays[0].exclude == ("n1",) * (cause == "node failure")


def test_failed_nodes_are_excluded_where_others_are_left(plan: Plan, seen: list[QueuedElement]) -> None:
    study = plan.home.study("tiny")
    retries.note_failed_node(study, "n2", "it fell over")
    retries.note_failed_node(study, "gone", "it is no node of this cluster any more")
    submit(plan, code=FAKE)
    submission, found = written(plan)
    assert {array.exclude for array in found.arrays} == {("n2",)}
    assert "#SBATCH --exclude=n2\n" in script.text(plan.home, submission, found.arrays[0], {}, "")
    extra = dataclasses.replace(found.arrays[0], cluster={**found.arrays[0].cluster, "extra": {"exclude": "n7"}})
    assert "#SBATCH --exclude=n2,n7\n" in script.text(plan.home, submission, extra, {}, "")
    assert "n2 failed (submissions stay away from it until " in executors.queue_summary(plan.home, "tiny")
    retries.note_failed_node(study, "n1", "and the other one, too")
    assert executor._excluded(plan, [CONFIG], CLUSTER) == ()
    unafraid = dataclasses.replace(plan, cluster=dataclasses.replace(CONFIG, avoid_hours=0.0))
    assert executor._excluded(unafraid, [CONFIG], CLUSTER) == ()


@pytest.mark.parametrize(
    ("text", "failed"),
    [
        ("NodeName=n1 State=DOWN+NOT_RESPONDING BootTime=2020-01-01T00:00:00", True),
        ("NodeName=n1 State=IDLE BootTime=2020-01-01T00:00:00", False),
        ("NodeName=n1 State=MIXED BootTime=2100-01-01T00:00:00", True),
        ("NodeName=n1 State=IDLE BootTime=None", False),
    ],
)
def test_a_node_has_failed_that_is_down_or_was_started_again(
    monkeypatch: pytest.MonkeyPatch, text: str, failed: bool
) -> None:
    monkeypatch.setattr(endings, "call", lambda *words: text)
    assert endings.node_failed("n1", 1.7e9) == failed


def test_a_worker_that_the_disk_ends_leaves_the_reason_in_the_errors(
    plan: Plan, seen: list[QueuedElement], monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(plan, code=FAKE)
    submission, found = written(plan)
    name, errors = found.arrays[0].name, submission.errors("2_0")
    errors.parent.mkdir(parents=True, exist_ok=True)

    def ends(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), "/home/claim")

    dying = object.__new__(element.Element)
    monkeypatch.setattr(dying, "_worker", ends, raising=False)
    process = os.getpid()
    child = os.fork()
    if child == 0:
        with errors.open("w") as sys.stderr:
            dying._work(process, None)  # type: ignore[arg-type]
    os.waitpid(child, 0)
    assert errors.read_text().endswith("OSError: [Errno 30] Read-only file system: '/home/claim'\n\n")
    assert endings.cause_of_end((), name, 0, errors) == endings.ENDINGS["DISK"]


def test_the_line_that_says_why_goes_before_those_that_say_that_it_ended(plan: Plan, seen: list[QueuedElement]) -> None:
    submit(plan, code=FAKE)
    submission, _ = written(plan)
    errors = submission.errors("2_0").with_name("2_0_0_log.err")
    errors.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        "slurmstepd: error: execve(): /env/python: No such file",
        "srun: error: n1: task 0: Exited with exit code 2",
    ]
    errors.write_text("\n".join(lines))
    assert executor.last_error_line(submission) == f"{lines[0]} ({errors})"
    errors.write_text(lines[1])
    assert executor.last_error_line(submission) == f"{lines[1]} ({errors})"


def test_what_a_requeued_element_finds_of_its_last_life(
    plan: Plan, seen: list[QueuedElement], monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(plan, code=FAKE)
    again = worker(plan, ElementWorker)
    mine = dataclasses.replace(leases.identify("2_0"), node="n1")
    for down, cause in ((True, "node failure"), (False, "preempted")):
        monkeypatch.setattr(endings, "node_failed", lambda node, since, down=down: down)
        assert again._ending(mine, 1.0)[0] == cause
    assert list(retries.avoided_nodes(plan.home.study("tiny"), 1.0)) == ["n1"]
    assert again._ending(dataclasses.replace(mine, job="9_9"), 1.0)[0] == "killed"
    again.close()


def test_a_scheduler_that_is_away_keeps_no_worker_from_stopping(
    plan: Plan, seen: list[QueuedElement], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    submit(plan, code=FAKE)

    def silent(*words: Any, **options: Any) -> None:
        raise subprocess.TimeoutExpired("scancel", 1)

    monkeypatch.setattr(squeue.subprocess, "run", silent)
    tries = worker(plan, workers.CanaryWorker)
    tries._stop("enough", "f")
    assert tries.submission.stopped.exists()
    tries.close()
    with pytest.raises(ConfigError, match="is more than any node of partition 'p' has"):
        cluster.check(CONFIG, CLUSTER.without({"n1", "n2"}))


@pytest.mark.parametrize(
    ("answer", "done"), [("Job is pending execution", True), ("Requested operation denied", False)]
)
def test_a_job_that_the_scheduler_has_put_back_itself_is_in_the_queue(
    answer: str, done: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A preemption and the element's own request may cross: the task has to stay open for the job's next life."""
    said = subprocess.CompletedProcess((), 1, "", f"4_3: {answer}\n")
    monkeypatch.setattr(element.subprocess, "run", lambda *words, **options: said)
    assert element.requeue("4_3") is done
