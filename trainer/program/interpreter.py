"""The interpreter in which a user's program runs, and the folder that its code lies in."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ablative.study.core.errors import ConfigError
from ablative.study.core.packages import ROOT, folder
from ablative.study.home.paths import Home

PYTHONS = ("python", "python3", "{python}")
"""First words of a command that mean the study's interpreter."""


def interpreter(named: str, near: Path, where: str) -> str:
    """The Python that a study's programs run in.

    Args:
        named: the study's `python`: a program, or the folder of a virtual environment; empty: that of the active
            environment, or the one in which this program runs.
        near: folder that a relative path begins at.
        where: for messages.

    Raises:
        ConfigError: there is no such program.
    """
    if not named:
        active = os.environ.get("VIRTUAL_ENV") or os.environ.get("CONDA_PREFIX")
        found = Path(active, "bin", "python") if active else Path(sys.executable)
        return str(found) if found.exists() else sys.executable
    path = near / Path(named).expanduser()
    if (path / "bin" / "python").exists():
        return str(path / "bin" / "python")
    if os.sep in named and path.is_file() and os.access(path, os.X_OK):
        return str(path)
    found_on_path = shutil.which(named)
    if found_on_path is None:
        raise ConfigError(f"{where}: no program '{named}', and no environment with bin/python in a folder {path}")
    return found_on_path


def with_interpreter(command: Sequence[str], python: str) -> list[str]:
    """A command in which `python` is the study's interpreter."""
    return [python, *command[1:]] if command and command[0] in PYTHONS else list(command)


def client_folder(home: Home) -> Path:
    """What `PYTHONPATH` names so that a program can import `ablative`: the job's snapshot, or a link to this program's.

    The client is a few files of the standard library alone, whatever else the study's interpreter has.
    """
    digest = os.environ.get("ABLATE_SNAPSHOT")
    if digest:
        return home.snapshot(digest)
    top = home.cache / "client"
    link = top / ROOT
    if not link.exists():
        top.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            link.symlink_to(folder(ROOT))
    return top
