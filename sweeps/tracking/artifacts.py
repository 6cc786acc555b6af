"""A task's `config.yaml` among the files of its MLflow run, for people; nothing that we do reads it there.

The place for files is another service than the store (an object store, a folder of the server's), which may be out of
reach while the store answers. So files come last, never fail a task, and are sent by a later `ablate sync` where they
could not be sent before.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ablative.study.home.paths import Home
from ablative.study.plan.task import TaskRef
from ablative.sweeps.tracking.cursor import Cursor, read_cursor
from ablative.sweeps.tracking.locks import Busy, exclusive
from ablative.sweeps.tracking.store import Experiment
from ablative.sweeps.tracking.uri import is_http, redact_store, store_key

LOCK_SECONDS = 5.0
"""How long to wait for another process that ships the same task."""


def without_config(tasks: Iterable[TaskRef], study: str, home: Home, experiment: Experiment) -> list[TaskRef]:
    """Tasks that are in the experiment without their configuration; files in a folder of this machine are looked at."""
    folder = _folder(experiment)
    found = []
    for task in tasks:
        cursor = read_cursor(task.paths(home), study)
        if cursor is None or cursor.experiment != experiment.key or not cursor.mlflow_run_id:
            continue
        there = cursor.config and (folder is None or (folder / cursor.mlflow_run_id / "artifacts/config.yaml").exists())
        if not there and task.paths(home).config.exists():
            found.append(task)
    return found


def send_configs(tasks: Iterable[TaskRef], study: str, home: Home, experiment: Experiment) -> str:
    """Send each task's configuration; returns why the first that could not be sent could not, and tries no further."""
    for task in tasks:
        paths = task.paths(home)
        try:
            with exclusive(paths.shipping(study), LOCK_SECONDS):
                cursor = read_cursor(paths, study)
                if cursor is not None and (error := _send(paths.config, cursor, experiment, home)):
                    return error
                if cursor is not None:
                    replace(cursor, config=True).write(paths, study)
        except Busy:
            continue
    return ""


def _send(path: Path, cursor: Cursor, experiment: Experiment, home: Home) -> str:
    """Why a file could not be sent; empty where it was."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    from mlflow.utils.uri import append_to_uri_path

    folder = _folder(experiment)
    if folder is not None and not _is_ours(folder, experiment, home):
        return f"the experiment's files belong into {folder}: of another machine, or of a home that has moved"
    uri = append_to_uri_path(experiment.artifacts, cursor.mlflow_run_id, "artifacts")
    try:
        get_artifact_repository(uri, tracking_uri=experiment.uri).log_artifact(str(path))
    except Exception as error:
        # Object stores and their clients, which may not be installed, each have errors of their own.
        said = " ".join(redact_store(str(error), experiment.uri, experiment.artifacts).split())[:300]
        return f"{redact_store(experiment.artifacts)}: {type(error).__name__}: {said}"
    return ""


def _folder(experiment: Experiment) -> Path | None:
    """The experiment's folder in the file system, where it has one rather than a service."""
    parts = urlsplit(experiment.artifacts)
    return Path(unquote(parts.path)) if parts.scheme in ("", "file") else None


def _is_ours(folder: Path, experiment: Experiment, home: Home) -> bool:
    """Whether a folder is where it says; else MLflow would make a new one of that name, which nothing reads.

    The default store's is in the home. A server makes one for each experiment, in a folder that the first file makes.
    """
    if store_key(home) == "default":
        return folder == home.artifacts.absolute()
    return (folder.parent.parent if is_http(experiment.uri) else folder.parent).is_dir()
