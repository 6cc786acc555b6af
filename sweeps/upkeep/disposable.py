"""What a home could lose, by kind, and its removal: nothing that a worker has, or that a live submission needs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ablative.study.core.damage import DamagedError
from ablative.study.core.errors import StoreError
from ablative.study.core.files import load_json
from ablative.study.home.paths import Home, RunPaths, SubmissionPaths
from ablative.study.home.records import read_record
from ablative.study.plan.task import trial_tasks
from ablative.sweeps.queue import manifest
from ablative.sweeps.queue.manifest import Manifest
from ablative.sweeps.upkeep.damaged_files import PLAN
from ablative.sweeps.upkeep.folders import names, size


@dataclass(frozen=True)
class Disposable:
    """Files of one kind."""

    kind: str
    consequence: str
    """What is done again where they are needed after all."""
    paths: tuple[Path, ...]

    @cached_property
    def bytes(self) -> int:
        return sum(map(size, self.paths))


def disposable(home: Home, kind: str) -> Disposable:
    """Files of one of `KINDS`; raises StoreError where it is not known what is still needed."""
    find, consequence = KINDS[kind]
    return Disposable(kind, consequence, tuple(find(home)))


def free(found: Disposable) -> None:
    """Remove the files; raises OSError."""
    for path in found.paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _idle_runs(home: Home) -> Iterator[RunPaths]:
    """Runs none of whose tasks has a lease, living or dead."""
    for run in map(home.run, names(home.runs)):
        tasks = [run, *map(run.evaluation, names(run.evaluations))]
        if not any(task.lease.exists() for task in tasks):
            yield run


def _checkpoints(home: Home) -> Iterator[Path]:
    for run in _idle_runs(home):
        tasks = [run, *map(run.evaluation, names(run.evaluations))]
        if all(read_record(task) is not None for task in tasks):
            yield from (path for path in (run.checkpoint, run.model) if path.exists())


def _features(home: Home) -> Iterator[Path]:
    return (run.features for run in _idle_runs(home) if run.features.is_dir())


def _snapshots(home: Home) -> Iterator[Path]:
    lists = [found for name in names(home.worklists) for found in manifest.submissions_of(home.worklist(name))]
    needed = {name for _, found in [*_live(home), *lists] for name in (found.snapshot, found.repository)}
    for folder in (home.snapshots, home.repositories):
        yield from (folder / name for name in names(folder) if name not in needed)


def _runs(home: Home) -> Iterator[Path]:
    """Folders of runs in no study's last plan, in no search, and in no submission whose jobs may go on."""
    known = {task.run_id for _, found in _live(home) for task in found.tasks}
    for study in names(home.studies):
        paths = home.study(study)
        try:
            tasks = load_json(paths.plan, PLAN)["tasks"]
        except FileNotFoundError:
            tasks = []
        except DamagedError as error:
            raise StoreError(f"{error}: which runs the study {study} has is not known; submit it first") from None
        for task in tasks:
            known |= {task["task_id"], task["run_id"], *task.get("needs", ())}
        for trial in trial_tasks(paths.search):
            known |= {trial.run_id, *trial.need_runs}
    return (run.root for run in _idle_runs(home) if run.root.name not in known)


def _damaged(home: Home) -> Iterator[Path]:
    """What was set aside."""
    for folder in (home.root, home.runs, home.snapshots, home.repositories, home.studies):
        found = folder.rglob("*.damaged*") if folder in (home.runs, home.studies) else folder.glob("*.damaged*")
        yield from sorted(found)


def _cache(home: Home) -> Iterator[Path]:
    return iter([home.cache] if home.cache.is_dir() else [])


def _live(home: Home) -> list[tuple[SubmissionPaths, Manifest]]:
    """Submissions that were not found ended; raises StoreError where one of them cannot be read."""
    for study in names(home.studies):
        for stamp in names(home.study(study).submissions):
            paths = home.study(study).submission(stamp)
            if not paths.ended.exists() and paths.manifest.exists() and manifest.read(paths) is None:
                raise StoreError(
                    f"{paths.manifest}: damaged, and what it needs is not known; remove {paths.root} first"
                )
    return list(manifest.submissions(home))


KINDS: dict[str, tuple[Callable[[Home], Iterator[Path]], str]] = {
    "checkpoints": (_checkpoints, "weights of finished runs; what is evaluated later trains them again"),
    "features": (_features, "features of finished runs' images; an evaluation computes them again"),
    "snapshots": (_snapshots, "code of submissions that have ended; no job runs it"),
    "runs": (_runs, "runs in no study's last plan; MLflow keeps what it has of them"),
    "damaged": (_damaged, "damaged files that were set aside"),
    "cache": (_cache, "indexes, tokenizers and what else is made again when it is needed"),
}
