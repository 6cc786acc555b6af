"""Tasks that behave as a test wants, and jobs to run them in; imported by tests and by the jobs that they start."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ablative.study.core.errors import DataError, Interrupted
from ablative.study.core.files import write_atomic, write_json
from ablative.study.core.typed import load_config
from ablative.study.home.failed_attempts import times_out_of_memory
from ablative.study.home.journal import Journal
from ablative.study.home.paths import Home, SubmissionPaths, TaskPaths
from ablative.study.plan.plan import Plan, make_plan
from ablative.study.plan.task import TaskRef
from ablative.study.trainers import JobTask
from ablative.sweeps.queue.manifest import Manifest
from ablative.sweeps.submission.submit import Code
from ablative.trainer.clip.spec.config import RunConfig
from ablative.trainer.clip.spec.halving import micro_batch

HERE = Path(__file__).parent
SOURCE = HERE.parents[1]


def execute(job: JobTask) -> None:
    """Do what `behaviour.json` in the home says for this task: an exception, a death, some work, or nothing."""
    root, home, stop = job.paths.root, job.home, job.stop
    behaviours = json.loads((home.root / "behaviour.json").read_text())
    behaviour, amount = (behaviours.get(root.name) or behaviours.get(job.stage) or ["work", 0.0])[:2]
    note(home, "begin", root)
    print(f"this is {root.name}")
    ACTIONS[behaviour](root, stop, amount)
    assert not (root / "record.json").exists(), "done twice"
    write_json(root / "record.json", {"state": "diverged" if behaviour == "diverge" else "completed", "seconds": 1.0})
    note(home, "done", root)


def work(root: Path, stop: Callable[[], bool], seconds: float) -> None:
    """Steps of 5 ms, each counted in a file, that a later attempt goes on from."""
    progress = root / "progress"
    while (done := len(progress.read_bytes()) if progress.exists() else 0) < seconds / 0.005:
        if stop():
            raise Interrupted(f"stopped after {done} steps")
        with progress.open("ab") as file:
            file.write(b".")
        time.sleep(0.005)


def environment(root: Path, stop: Callable[[], bool], amount: float) -> None:
    """Leave behind which variables the task has."""
    write_json(root / "environment.json", dict(os.environ))


def fail(root: Path, stop: Callable[[], bool], amount: float) -> None:
    raise ValueError(f"wrong at {object()} in {root.name}")


def fail_elsewhere(root: Path, stop: Callable[[], bool], amount: float) -> None:
    raise ValueError("another place")


def bad_data(root: Path, stop: Callable[[], bool], amount: float) -> None:
    raise DataError("shard 3 is torn")


def no_memory(root: Path, stop: Callable[[], bool], amount: float) -> None:
    raise MemoryError


def full_disk(root: Path, stop: Callable[[], bool], amount: float) -> None:
    raise OSError(28, "No space left on device")


def wrapped_full_disk(root: Path, stop: Callable[[], bool], amount: float) -> None:
    try:
        full_disk(root, stop, amount)
    except OSError as error:
        raise RuntimeError("checkpoint failed") from error


def torch_out_of_memory(root: Path, stop: Callable[[], bool], amount: float) -> None:
    raise type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory")


def segfault(root: Path, stop: Callable[[], bool], amount: float) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def killed(root: Path, stop: Callable[[], bool], amount: float) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def leave(root: Path, stop: Callable[[], bool], amount: float) -> None:
    os._exit(0)


def long_message(root: Path, stop: Callable[[], bool], amount: float) -> None:
    raise ValueError("€" * 1_000_000)


def deaf(root: Path, stop: Callable[[], bool], seconds: float) -> None:
    """Work that does not look at `stop`."""
    time.sleep(seconds)


def sing(root: Path, stop: Callable[[], bool], seconds: float) -> None:
    """Work that reports its first steps."""
    journal = Journal(root / "journal.jsonl")
    work(root, stop, 0.1)
    journal.metrics(20, {"train/loss": 1.0})
    journal.close()
    work(root, stop, seconds)


def store(root: Path, stop: Callable[[], bool], seconds: float) -> None:
    """Work that keeps what it has in a checkpoint, which needs room on the disk."""
    done = 0
    while done < seconds:
        done += 0.1
        write_atomic(root / "checkpoint", bytes(2**16), durable=False)
        work(root, stop, min(done, seconds))


def hungry(root: Path, stop: Callable[[], bool], most: float) -> None:
    """Runs out of memory unless its micro-batch is small enough."""
    if _micro_batch(root) > most:
        raise MemoryError


def greedy(root: Path, stop: Callable[[], bool], most: float) -> None:
    """Takes a GiB, until it is killed for that, unless its micro-batch is small enough."""
    if _micro_batch(root) > most:
        taken = bytearray(b"x") * 2**30
        deaf(root, stop, 600.0)
        del taken


def _micro_batch(root: Path) -> int:
    return micro_batch(load_config(root / "config.yaml", RunConfig), times_out_of_memory(TaskPaths(root)))


ACTIONS = {
    "work": work,
    "environment": environment,
    "diverge": work,
    "fail": fail,
    "fail_elsewhere": fail_elsewhere,
    "bad_data": bad_data,
    "no_memory": no_memory,
    "full_disk": full_disk,
    "wrapped_full_disk": wrapped_full_disk,
    "torch_out_of_memory": torch_out_of_memory,
    "segfault": segfault,
    "killed": killed,
    "leave": leave,
    "long_message": long_message,
    "deaf": deaf,
    "sing": sing,
    "store": store,
    "hungry": hungry,
    "greedy": greedy,
}


def note(home: Home, event: str, root: Path) -> None:
    """One line in a file that all processes append to."""
    with (home.root / "events").open("ab", buffering=0) as file:
        file.write(f"{event} {root.name} {os.getpid()}\n".encode())


def events(home: Home) -> list[tuple[str, str]]:
    """(event, task id) in the order in which they happened."""
    path = home.root / "events"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(line.split()[0], line.split()[1]) for line in lines]


def done(home: Home) -> Counter[str]:
    """How often each task was done.

    A task's line follows its record by an instant, so that a kill between the two cannot make a second record; who has
    seen the record waits here for the line.
    """

    def lines() -> Counter[str]:
        return Counter(name for event, name in events(home) if event == "done")

    recorded = {path.parent.name for path in home.root.rglob("record.json")}
    with contextlib.suppress(AssertionError):  # it was killed between them
        wait_for(lambda: recorded <= lines().keys(), 5.0)
    return lines()


def run_task(run_id: str) -> TaskRef:
    return task(run_id, "train", run_id)


def evaluation(task_id: str, run_id: str) -> TaskRef:
    return task(task_id, "probe", run_id, run_task(run_id))


def task(task_id: str, stage: str, run_id: str, *needs: TaskRef) -> TaskRef:
    ids, runs = tuple(need.task_id for need in needs), tuple(need.run_id for need in needs)
    stages = tuple(need.stage for need in needs)
    name = run_id if task_id == run_id else f"{run_id} [{stage}]"
    return TaskRef(task_id, stage, run_id, 0, ({"method": run_id},), ids, runs, stages, name)


Behaviours = Mapping[str, Sequence[object]]
"""{task id or stage: [name in `ACTIONS`, seconds]}"""


def submission(home: Home, tasks: list[TaskRef], behaviours: Behaviours) -> SubmissionPaths:
    """A submission whose queue is ready to be worked on."""
    paths = home.study("tiny").submission("s1")
    paths.root.mkdir(parents=True)
    write_json(home.root / "behaviour.json", behaviours)
    for task in tasks:
        task.paths(home).root.mkdir(parents=True, exist_ok=True)
    hand_over(paths, tasks)
    return paths


def hand_over(paths: SubmissionPaths, tasks: Sequence[TaskRef]) -> None:
    """Write the queue of one worker."""
    Manifest(
        study="tiny",
        executor="local",
        created="",
        command="ablate run tiny",
        workers=1,
        devices=(),
        snapshot="abc",
        commit="",
        dirty=False,
        entry="fakes:execute",
        shipper="",
        heartbeat_seconds=0.5,
        stale_seconds=60.0,
        tasks=tuple(tasks),
    ).write(paths)


def start_worker(home: Home, paths: SubmissionPaths, index: int = 0) -> subprocess.Popen[bytes]:
    """A process that does what a job does, without Submitit around it."""
    code = "import sys; from ablative.sweeps.worker.worker import work; work(*sys.argv[1:4], int(sys.argv[4]))"
    with (paths.root / f"worker{index}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-c", code, str(home.root), "tiny", paths.root.name, str(index)],
            env={**os.environ, "PYTHONPATH": str(HERE)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Poll until the condition holds; AssertionError after so many seconds.

    Between two looks lies a multiple of what a look takes: one that asks a scheduler would keep a core busy.
    """
    end = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        if condition():
            return
        now = time.monotonic()
        assert now < end, "it did not happen in time"
        time.sleep(min(1.0, max(0.01, 5.0 * (now - began))))


STUDY = """\
name: tiny
title: A study for tests
base: {model: tiny, data: shapes, schedule: demo}
seeds: [0]
factors:
  method:
    clip: {objective: clip}
    mae_clip: {objective: mae_clip}
    masked_clip: {objective: masked_clip}
baseline: {method: clip}
protocols: [zero_shot]
"""
FAKE = Code("fakes:execute", "")


@functools.cache
def _composed() -> Plan:
    with tempfile.TemporaryDirectory() as folder:
        write_study(Path(folder))
        return make_plan("tiny", config_dir=folder, home=Home(Path(folder)))


def tiny_plan(home: Home, behaviours: Behaviours | None = None) -> Plan:
    """Three runs and their evaluations, whose tasks do what `execute` says."""
    home.root.mkdir(exist_ok=True)
    write_json(home.root / "behaviour.json", behaviours or {})
    return dataclasses.replace(_composed(), home=home)


def write_study(folder: Path) -> None:
    """The study as a file of a user's own config folder."""
    (folder / "study").mkdir(parents=True)
    (folder / "study" / "tiny.yaml").write_text(STUDY)
