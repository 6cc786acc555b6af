"""How much of a task has been shipped, and which tasks have something left to ship.

Imports nothing heavy: `pending` answers for 10,000 tasks in about a second.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ablative.study.core.damage import shape_of
from ablative.study.core.files import read_json, write_json
from ablative.study.home.journal import parse
from ablative.study.home.paths import Home, TaskPaths
from ablative.study.plan.task import Task, TaskRef
from ablative.sweeps.tracking.contents.tags import plan_tags
from ablative.sweeps.tracking.uri import sqlite_path, store_key

FORMAT = 2
"""Version of what a task's MLflow run holds: where another version filled it, it is brought up to date."""
_ON_DISK = {"state_digest": "marks", "pending_create": "doubt"}
"""Fields whose keys in the file are those of version 0.1.0."""


@dataclass(frozen=True)
class Cursor:
    """Content of `shipped/<study>.json`: written after the store has confirmed, so at worst it lags behind."""

    mlflow_run_id: str
    """Empty where only `pending_create` is known."""
    journal: str
    """Identity of the journal that was shipped: a run that starts anew has another."""
    experiment: str
    """`<id>@<creation time>` of the experiment: a new store has another."""
    offset: int = 0
    """Bytes of the journal that are in the store."""
    size: int = 0
    """Bytes of the journal when it was last read; more than `offset` where its last line is torn."""
    state_digest: str = ""
    """`state_digest` of the task when everything was shipped; empty while something is not."""
    event: dict[str, Any] | None = None
    """The newest event before `offset` that says something about the task's state."""
    tags: str = ""
    """Digest of the tags last sent."""
    factors: list[str] = field(default_factory=list)
    """Those of them that name factors: they go when the study has the factor no more."""
    status: str = ""
    """Outcome last sent, as text."""
    name: str = ""
    """Run name last sent."""
    pending_create: float = 0.0
    """When (seconds since 1970) a request to create the MLflow run timed out; it may still be created. 0: never."""
    mark: str = ""
    """Value of the MLflow run's tag `ablate.mark`; empty where an earlier version, which knows none, filled the run.

    It differs between any two states of the run, and is the same for most runs that are finished: so a server can be
    asked for hundreds of them at once (`sweeps.tracking.lost_runs`).
    """
    sent: int = 0
    """How often the MLflow run was brought up to date with the task."""
    sent_finished: int = 0
    """How often of these the task had finished."""
    parent: str = ""
    """MLflow run of the task that opens the run, as the tags last sent name it; empty for that task itself."""
    copied: str = ""
    """That of these that has a copy of the task's final metrics; empty while none has."""
    config: bool = False
    """Whether the task's `config.yaml` is among the MLflow run's artifacts."""

    def marked(self, status: str) -> Cursor:
        """The cursor with the mark of the state to which the MLflow run is brought now."""
        sent = replace(self, sent=self.sent + 1, sent_finished=self.sent_finished + (status == "FINISHED"))
        return replace(sent, mark=f"finished {sent.sent_finished}" if status == "FINISHED" else str(sent.sent))

    def write(self, paths: TaskPaths, study: str) -> None:
        write_json(paths.shipped(study), {_ON_DISK.get(key, key): value for key, value in asdict(self).items()})


def read_cursor(paths: TaskPaths, study: str) -> Cursor | None:
    """The cursor, or None where there is none or its file is of another version or broken: then all is sent again."""
    content = read_json(paths.shipped(study), _CURSOR)
    if content is None:
        return None
    content |= {name: content.pop(key) for name, key in _ON_DISK.items() if key in content}
    try:
        return Cursor(**content)
    except TypeError:
        return None


_CURSOR = shape_of(Cursor) | {f"{key}?": shape_of(Cursor)[f"{name}?"] for name, key in _ON_DISK.items()}


@dataclass(frozen=True)
class JournalStart:
    """Identity and time of a journal, from its first line."""

    identity: str
    """Empty for a journal that does not exist yet."""
    time: int | None = None
    """Milliseconds since 1970."""


def journal_start(journal: Path) -> JournalStart:
    """Read a journal's first complete line; raises ValueError where it is damaged."""
    try:
        with journal.open("rb") as file:
            line = file.readline()
    except FileNotFoundError:
        return JournalStart("")
    entry = parse(line)
    if line and entry is None and (line.endswith(b"\n") or not line.startswith(b"{")):
        # Never a journal that begins anew, in whose place all that the store has would be deleted.
        raise ValueError(
            f"{journal}: damaged from its first line on; nothing of it is uploaded, the store keeps its copy"
        )
    if entry is None or not line.endswith(b"\n"):
        return JournalStart("")
    return JournalStart(hashlib.sha256(line).hexdigest()[:16], entry["t"])


_ANY = TaskPaths(Path())
_STATE_FILES = tuple(path.name for path in (_ANY.record, _ANY.failure, _ANY.lease, _ANY.cancelled))


def state_digest(task: TaskRef, study: str, paths: TaskPaths) -> str:
    """Digest of what is shipped besides the journal: the plan's tags, and which of the task's state files exist."""
    plan = json.dumps([FORMAT, task.name, plan_tags(task, study)], sort_keys=True)
    try:
        there = os.listdir(paths.root)
    except FileNotFoundError:
        there = []
    flags = "".join("1" if name in there else "0" for name in _STATE_FILES)
    return f"{hashlib.sha256(plan.encode()).hexdigest()[:12]}:{flags}"


@dataclass(frozen=True)
class Target:
    """Content of `tracking.json`: the experiment that a study is shipped to, as `ablate` last saw it."""

    store: str
    """`store_key` of the store."""
    experiment: str
    """`<id>@<creation time>`."""
    schema: str
    """Version of a database's tables; empty for a server."""
    mlflow: str
    """Version of MLflow that found that schema right."""


def read_target(study: str, home: Home) -> Target | None:
    """None where nothing was ever shipped to the store that is in use now, or where that store is gone."""
    path = sqlite_path(home.tracking_uri)
    return last_target(study, home) if path is None or path.exists() else None


def last_target(study: str, home: Home) -> Target | None:
    """None where nothing was ever shipped to the store that is in use now; it may be gone since."""
    content = read_json(home.study(study).tracking, shape_of(Target))
    try:
        target = Target(**(content or {}))
    except TypeError:
        return None
    return target if target.store == store_key(home) else None


def has_pending(task: TaskRef, study: str, home: Home, target: Target | None) -> bool:
    """Whether a task has something that is not in the store."""
    paths = task.paths(home)
    try:
        size = os.stat(paths.journal).st_size
    except FileNotFoundError:
        return False
    if size == 0:
        return False
    cursor = read_cursor(paths, study) if target else None
    if cursor is None or target is None or cursor.experiment != target.experiment or cursor.size != size:
        return True
    if cursor.pending_create:
        return True
    return cursor.state_digest != state_digest(task, study, paths)


def pending(tasks: Iterable[Task | TaskRef], study: str, home: Home) -> int:
    """Number of tasks with something that is not yet in the tracking store; asks only the file system."""
    try:
        here = set(os.listdir(home.runs))
    except FileNotFoundError:
        return 0
    target = read_target(study, home)
    return sum(has_pending(TaskRef.of(task), study, home, target) for task in tasks if task.run_id in here)


def changed(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, str]:
    """Entries of `after` that `before` does not have so."""
    return {key: value for key, value in after.items() if before.get(key) != value}
