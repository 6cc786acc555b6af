"""What all processes of a run of the tests share: files that the first to ask makes, in a folder of the run."""

from __future__ import annotations

import fcntl
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

FOLDER = "ABLATE_TEST_FOLDER"
"""Environment variable with the folder, which is removed with the end of the run."""


def folder() -> Path:
    return Path(os.environ[FOLDER])


def once(name: str, make: Callable[[Path], None]) -> Path:
    """A file of that name, to be copied and never changed; `make` writes it to the path that it gets, at first use."""
    path = folder() / name
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            draft = path.with_suffix(".draft")
            make(draft)
            draft.rename(path)
    return path


def empty_store() -> Path:
    """A new SQLite store of MLflow's, which takes seconds to make one; tests that place a copy save them."""
    return once("empty.db", _create_store)


def _create_store(path: Path) -> None:
    os.environ.setdefault("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient

        MlflowClient(f"sqlite:///{path}").search_experiments()


def with_store(root: Path) -> Path:
    """A new home whose tracking store is there already."""
    root.mkdir(parents=True)
    shutil.copyfile(empty_store(), root / "mlflow.db")
    return root
