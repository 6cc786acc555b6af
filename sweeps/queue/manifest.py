"""The manifest: what one submission put in the queue, with which code, and which jobs work through it."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ablative.study import trainer_names
from ablative.study.core.damage import DAMAGE, DamagedError, fields_of, note, shape_of
from ablative.study.core.errors import StoreError
from ablative.study.core.files import load_json, write_json
from ablative.study.home.paths import Home, StudyPaths, SubmissionPaths
from ablative.study.plan.task import REF, TaskRef


@dataclass(frozen=True)
class Job:
    """A worker's job."""

    job_id: str
    host: str
    scope: str
    """What `job_id` means something in: boot and process namespace (local), name of the array (SLURM)."""
    start: int
    """Start of the process in clock ticks (local), number of the array's element (SLURM)."""


@dataclass(frozen=True)
class Array:
    """A job array: what one call of `sbatch` hands over."""

    name: str
    """The job name; no other array of any time has it."""
    elements: tuple[tuple[str, ...], ...]
    """Ids of the tasks that each element works through; of a search, whose elements look for trials, none."""
    cluster: dict[str, Any]
    """Content of the `ClusterConfig` that it runs under."""
    follows: str = ""
    """Name of the array whose element of the same number has to end well before an element starts."""
    waits_for: tuple[str, ...] = ()
    """Elements of other submissions, by job id, that have to end before any element starts."""
    after: tuple[str, ...] = ()
    """Names of arrays of one element that have to end well before any element starts: the submission's canary, or what
    all of them need."""
    after_end: tuple[str, ...] = ()
    """Names of arrays that have to end, well or not, before any element starts."""
    canary: bool = False
    """Its one element tries the submission's first task, and leaves it to the others when it has done some steps."""
    exclude: tuple[str, ...] = ()
    """Nodes to stay away from."""
    job_id: str = ""
    """Given by the scheduler; stays empty when the submitting process dies between the call and its answer."""
    submitted: float = 0.0
    """When the scheduler took it, in seconds since 1970."""
    once: bool = False
    """One process of each task is started, which starts the others that share it."""
    arms: tuple[str, ...] = ()
    """Names of the search's arms whose trials its elements look for, which then have no tasks of their own."""
    program: str = ""
    """Module that its elements run; empty: the one that works through tasks."""

    @property
    def numbers(self) -> list[int]:
        """Numbers of the elements that are handed over."""
        return [number for number, element in enumerate(self.elements) if element or self.arms]


@dataclass(frozen=True)
class WorkerLayout:
    """How an executor spreads a queue."""

    workers: int
    devices: tuple[str, ...]
    """GPUs to deal out to the workers, as `CUDA_VISIBLE_DEVICES` names them."""
    arrays: tuple[Array, ...] = ()
    user: str = ""


@dataclass(frozen=True)
class Manifest:
    """Content of `submission.json`."""

    study: str
    executor: str
    created: str
    command: str
    workers: int
    devices: tuple[str, ...]
    """GPUs as `CUDA_VISIBLE_DEVICES` names them, dealt out to the workers in turn; empty: none."""
    snapshot: str
    commit: str
    dirty: bool
    entry: str
    """`module:function` that runs one task: `study.trainers.Trainer.entry`."""
    shipper: str
    """`module:class` of the process that ships journals; empty: none."""
    heartbeat_seconds: float
    stale_seconds: float
    tasks: tuple[TaskRef, ...]
    jobs: tuple[Job, ...] = ()
    arrays: tuple[Array, ...] = ()
    """Arrays of a SLURM submission."""
    user: str = ""
    """Who submitted, and in whose name the scheduler lists the jobs."""
    trainer: str = trainer_names.DEFAULT
    """Name of the trainer whose tasks these are; manifests of version 1 are the shipped one's."""
    repository: str = ""
    """Name of the copy of the user's repository that the jobs run in (`Home.repository`); empty: there is none."""
    store: str = ""
    """Key of the tracking store that the submitter ships to (`sweeps.tracking.uri.store_key`); empty: unknown."""
    address: str = ""
    """Its address; empty where that holds a secret, which jobs have from their environment alone."""

    @property
    def code(self) -> str:
        """Hash of all code that the jobs run."""
        return of_all(self.snapshot, self.repository)

    def with_jobs(self, jobs: tuple[Job, ...]) -> Manifest:
        return replace(self, jobs=jobs)

    def write(self, paths: SubmissionPaths) -> None:
        jobs, arrays = ([vars(each) for each in own] for own in (self.jobs, self.arrays))
        tasks = [task.to_json() for task in self.tasks]
        write_json(paths.manifest, vars(self) | {"tasks": tasks, "jobs": jobs, "arrays": arrays})


def of_all(snapshot: str, repository: str) -> str:
    """Hash of the packages, and of the user's repository where there is one (without its place)."""
    return f"{snapshot}+{repository.partition('-')[0]}" if repository else snapshot


def read(paths: SubmissionPaths) -> Manifest | None:
    """Manifest of a submission, or None where there is none (yet)."""
    try:
        return _read(paths.manifest, _state(paths.manifest))
    except FileNotFoundError:
        return None
    except DamagedError as error:
        note(error.path, error.reason)
        return None


def _state(path: Path) -> tuple[int, int, int]:
    """What differs once a file is replaced."""
    try:
        found = os.stat(path)
    except OSError as error:
        if error.errno in DAMAGE:
            raise DamagedError(path, str(error.strerror)) from None
        raise
    return found.st_ino, found.st_mtime_ns, found.st_size


@functools.lru_cache(maxsize=16)
def _read(path: Path, state: tuple[int, int, int]) -> Manifest:
    """`state`: of the file; a command asks for the same manifest several times, and each may name a thousand tasks."""
    data: dict[str, Any] = load_json(path, SHAPE)
    tasks = tuple(map(TaskRef.from_json, data["tasks"]))
    jobs = tuple(Job(**fields_of(Job, job)) for job in data.get("jobs", ()))
    arrays = tuple(_array(array) for array in data.get("arrays", ()))
    data |= {"devices": tuple(data["devices"]), "tasks": tasks, "jobs": jobs, "arrays": arrays}
    return Manifest(**fields_of(Manifest, data))


def require(paths: SubmissionPaths) -> Manifest:
    """Manifest of a submission that a job belongs to; raises StoreError where it is gone or damaged."""
    found = read(paths)
    if found is None:
        raise StoreError(f"{paths.manifest}: absent or damaged; `ablate submit` queues the tasks that it named again")
    return found


SHAPE = {
    **shape_of(Manifest),
    "tasks": [REF],
    # Version 1 wrote one name.
    "arrays?": [{**shape_of(Array), "after?": ([str], str)}],
}


def _array(data: dict[str, Any]) -> Array:
    elements = tuple(tuple(element) for element in data["elements"])
    lists = {name: tuple(data.get(name, ())) for name in ("waits_for", "exclude", "arms", "after", "after_end")}
    if isinstance(data.get("after"), str):  # as version 1 wrote it
        lists["after"] = (data["after"],) if data["after"] else ()
    return Array(**{**fields_of(Array, data), "elements": elements, **lists})


def submissions(
    home: Home, study: str | None = None, ended: bool = False
) -> Iterator[tuple[SubmissionPaths, Manifest]]:
    """Submissions, newest first, of one study or of all (runs are shared); without those that were found ended."""
    for name in [study] if study else _names(home.studies):
        yield from submissions_of(home.study(name), ended)


def submissions_of(paths: StudyPaths, ended: bool = False) -> Iterator[tuple[SubmissionPaths, Manifest]]:
    """The same of one study's folder, or of a list's."""
    for stamp in sorted(_names(paths.submissions), reverse=True):
        submission = paths.submission(stamp)
        if (ended or not submission.ended.exists()) and (manifest := read(submission)) is not None:
            yield submission, manifest


def _names(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in folder.iterdir()]
    except FileNotFoundError:
        return []
