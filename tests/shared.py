"""What all processes of a run of the tests share: files that the first to ask makes, in a folder of the run."""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import subprocess
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

FOLDER = "ABLATE_TEST_FOLDER"
"""Environment variable with the folder, which is removed with the end of the run."""
_SILENT: Any = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)


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


def at_the_end(*command: str) -> None:
    """Run the command when the run of the tests is over, whatever ends it."""
    with (folder() / "commands").open("a") as file:
        file.write(shlex.join(command) + "\n")
    process = (folder() / "process").read_text()
    subprocess.run(["setsid", "--fork", *_watcher(process, command)], check=True, **_SILENT)


def end() -> None:
    """Run what was left for the end, and remove the folder."""
    commands = folder() / "commands"
    for line in commands.read_text().splitlines() if commands.exists() else ():
        subprocess.run(shlex.split(line), check=False, timeout=30, capture_output=True)
    shutil.rmtree(folder())


def run_after(process: int, *command: str) -> subprocess.Popen[bytes]:
    """Start a watcher, in a session of its own, that runs the command when the process has ended."""
    return subprocess.Popen(_watcher(str(process), command), start_new_session=True, **_SILENT)


def _watcher(process: str, command: Sequence[str]) -> list[str]:
    alive = 'grep -qs "^State:.[^ZX]" /proc/$0/status'
    return ["bash", "-c", f'while {alive}; do sleep 1; done; exec "$@"', process, *command]


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
