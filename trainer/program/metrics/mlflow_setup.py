"""The store in which MLflow, called by a user's program, finds itself: below the task's outputs, and nowhere else."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from ablative.study.core.errors import ConfigError
from ablative.trainer.program.metrics.mlflow_stores import FOLDER, STORE

SECONDS = 300
"""Longest time that MLflow is given to create a store; on a cold network disk its import alone takes a minute."""
_ARTIFACTS = "mlartifacts"
_VERSION = """
import importlib.metadata as m
for name in ("mlflow", "mlflow-skinny"):
    try:
        print(name, m.version(name))
        break
    except m.PackageNotFoundError:
        pass
"""
_CREATE = """
import sys
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
SqlAlchemyStore("sqlite:///" + sys.argv[1], sys.argv[2]).engine.dispose()
"""


def store_template(folder: Path, python: Sequence[str], env: Mapping[str, str]) -> Path | None:
    """An empty store of the MLflow that a program will import, made once for each version of it.

    Args:
        folder: of templates, such as one below the home's cache.
        python: command of the study's interpreter.
        env: its environment.

    Returns:
        None: that interpreter has a MLflow without databases (`mlflow-skinny`), whose stores are folders.

    Raises:
        ConfigError: it has no MLflow, or one that creates no store.
    """
    asked = _run([*python, "-c", _VERSION], env)
    name, _, version = asked.stdout.strip().partition(" ")
    if not name:
        reason = f": {_last_line(asked.stderr)}" if asked.returncode else ""
        raise ConfigError(f"a metric is read from MLflow, which is not installed for {' '.join(python)}{reason}")
    template = folder / f"mlflow-{version}.db"
    if name != "mlflow":
        return None
    if not template.exists():
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f".{template.name}.{uuid.uuid4().hex}"
        try:
            made = _run([*python, "-c", _CREATE, str(draft), draft.with_suffix(".artifacts").as_uri()], env)
            if made.returncode:
                raise ConfigError(f"MLflow {version} of {' '.join(python)} makes no store: {_last_line(made.stderr)}")
            os.replace(draft, template)
        finally:
            draft.unlink(missing_ok=True)
    return template


def prepare_mlflow(out: Path, template: Path | None) -> Mapping[str, str]:
    """Environment under which MLflow writes below `out`; a store that an earlier attempt left there is kept.

    Args:
        out: the task's folder of outputs.
        template: an empty store (`store_template`); None: a folder is the store.
    """
    artifacts = (out / _ARTIFACTS).resolve().as_uri()
    # A variable that is set and empty counts as absent: what the manager's own environment has is not meant.
    env = {"MLFLOW_RUN_ID": "", "MLFLOW_EXPERIMENT_NAME": "Default", "MLFLOW_EXPERIMENT_ID": "0"}
    if template is None:
        return {**env, "MLFLOW_TRACKING_URI": (out / FOLDER).resolve().as_uri(), "MLFLOW_ALLOW_FILE_STORE": "true"}
    store = out / STORE
    if not store.exists():
        out.mkdir(parents=True, exist_ok=True)
        draft = out / f".{STORE}.{uuid.uuid4().hex}"
        try:
            shutil.copyfile(template, draft)
            with contextlib.closing(sqlite3.connect(draft)) as connection, connection:
                connection.execute("UPDATE experiments SET artifact_location = ?", (f"{artifacts}/0",))
            os.replace(draft, store)
        finally:
            draft.unlink(missing_ok=True)
    return {
        **env,
        "MLFLOW_TRACKING_URI": f"sqlite:///{store.resolve()}",
        # Experiments that the program makes: their artifacts would lie in its working directory.
        "_MLFLOW_SERVER_ARTIFACT_ROOT": artifacts,
    }


def _run(command: Sequence[str], env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            env=dict(env),
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        raise ConfigError(f"{command[0]}: MLflow does not answer within {SECONDS} s") from None
    except OSError as error:
        raise ConfigError(f"{command[0]}: {error.strerror}") from None


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"
