"""What failed attempts at a task mean for the next one: what counts, when they are enough, and which nodes to avoid."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from datetime import UTC, datetime

from ablative.study import installed_trainers
from ablative.study.core.damage import set_aside
from ablative.study.core.files import read_json, write_json
from ablative.study.core.typed import read_config
from ablative.study.home.failed_attempts import OUT_OF_MEMORY, failures, times_out_of_memory
from ablative.study.home.paths import Home, StudyPaths, TaskPaths
from ablative.study.home.records import read_failure
from ablative.study.plan.task import Task, TaskRef
from ablative.study.trainers import Trainer
from ablative.sweeps.queue.failures import Failure, write_failure
from ablative.sweeps.queue.leases import Owner

UNCOUNTED = ("interrupted", "preempted", "time limit", "pruned", "cancelled")
"""Ends that the next attempt goes on from, however often they come."""
IDENTICAL_FAILURES = 3
"""Code failures with one fingerprint after which the rest of the submission is not started."""


def archive_failure(paths: TaskPaths) -> None:
    """Keep the last failure as `failure.<n>.json`, so that the task counts as missing again."""
    if paths.cancelled.is_dir():
        set_aside(paths.cancelled, "a folder")
    paths.cancelled.unlink(missing_ok=True)
    try:
        os.replace(paths.failure, paths.past_failure(_number(paths)))
    except FileNotFoundError:
        # A worker that died leaves no failure, only its lease; and another submission may have been quicker.
        return


def record_abandoned(paths: TaskPaths, owner: Owner, cause: str, message: str) -> None:
    """Write down the failure of a worker that died without a word and left its lease; once for each lease."""
    if any(failure.get("claim") == owner.token for failure in failures(paths)):
        return
    now = datetime.now(UTC).isoformat(timespec="seconds")
    failure = Failure(cause, "", message, "", "")
    path = paths.past_failure(_number(paths))
    write_failure(path, failure, time=now, job=owner.job, node=owner.node, claim=owner.token)


def is_exhausted(task: Task, trainer: Trainer, paths: TaskPaths, cause: str, retries: int, owner: Owner | None) -> bool:
    """Whether a failed task has had all the attempts that it gets unless a user asks for more.

    Args:
        task: the task.
        trainer: of the task; it may know how to take less memory.
        paths: of the task.
        cause: of its last failure.
        retries: attempts after the first failure of a cause.
        owner: of a lease that was abandoned; its failure may not be written down yet.
    """
    if cause in UNCOUNTED:
        return False
    past = failures(paths)
    silent = owner is not None and not any(failure.get("claim") == owner.token for failure in past)
    times: int = sum(failure["cause"] == cause for failure in past) + silent
    if cause == OUT_OF_MEMORY and trainer.after_out_of_memory(task.stage, task.config, 1):
        return not trainer.after_out_of_memory(task.stage, task.config, times)
    return times > retries


def fits_later(trainer: str, stage: str, paths: TaskPaths) -> bool:
    """Whether a task that has just run out of memory takes less of it in its next attempt, as its trainer says."""
    if not paths.config.exists():
        return False
    own = installed_trainers.trainer(trainer)
    return own.after_out_of_memory(stage, own.load(stage, read_config(paths.config)), times_out_of_memory(paths))


def repetition(tasks: Iterable[TaskRef], home: Home, failure: Failure) -> str:
    """Why a failure of the code is to stop all that would only repeat it; empty: it has not come up often enough."""
    same = 0
    for task in tasks:
        written = read_failure(task.paths(home).failure)
        if written is not None:
            same += (written["cause"], written.get("fingerprint")) == ("code", failure.fingerprint)
    if same < IDENTICAL_FAILURES:
        return ""
    return f"{same} tasks failed at the same place ({failure.type}: {failure.message})"


def note_failed_node(study: StudyPaths, node: str, reason: str) -> None:
    """Write down that a node failed just now: the study's next submissions stay away from it for some hours."""
    write_json(study.failed_node(node), {"node": node, "time": time.time(), "reason": reason})


def avoided_nodes(study: StudyPaths, hours: float) -> dict[str, float]:
    """Nodes that failed within the last `hours`: name → until when to stay away, in seconds since 1970."""
    found = {}
    pattern = study.failed_node("*")
    for path in sorted(pattern.parent.glob(pattern.name)):
        failure = read_json(path, {"node": str, "time": float})
        if failure is not None and failure["time"] + hours * 3600 > time.time():
            found[str(failure["node"])] = failure["time"] + hours * 3600
    return found


def _number(paths: TaskPaths) -> int:
    """Number of the task's next past failure."""
    number = 1
    while paths.past_failure(number).exists():
        number += 1
    return number
