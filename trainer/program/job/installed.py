"""Versions of what is installed for the study's interpreter, kept once in a home for all tasks that had the same."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from ablative.study.core.files import Content, read_json, write_atomic, write_json
from ablative.study.core.identity import canonical, digest
from ablative.study.home.paths import Home

_QUESTION = "import json, platform, sys; print(json.dumps([platform.python_version(), sys.path[1:]]))"
_SECONDS = 60
"""Within which an interpreter answers; it waits for nothing but its start."""
_DISTRIBUTION = re.compile(r"(?P<name>[^-]+)-(?P<version>[^-]+)(-py[\d.]+)?\.(dist|egg)-info")
_PATHS = (".pth", ".egg-link")
"""Files that add folders to an interpreter's path."""


def keep_installed(python: str, environment: Mapping[str, str], home: Home) -> Content:
    """What a task's record says of its interpreter: the version of Python, and the key of what is installed.

    The interpreter is asked once for its path, as long as nothing has been added to it; the folders of installed
    distributions have the versions in their names. Empty where there is no such interpreter.
    """
    try:
        version, path = _answer(python, environment, home)
    except (OSError, ValueError, subprocess.SubprocessError):
        return {}
    found = {"python": version, "packages": dict(sorted(_distributions(path)))}
    key = digest(canonical(found))
    if not home.environment(key).exists():
        write_json(home.environment(key), found)
    return {"python": version, "installed": key}


def _answer(python: str, environment: Mapping[str, str], home: Home) -> tuple[str, list[str]]:
    """Version and path of an interpreter."""
    status = os.stat(python)
    asked = [os.path.realpath(python), status.st_mtime_ns, python, environment.get("PYTHONPATH", "")]
    kept = home.interpreter(digest(canonical(asked)))
    known = read_json(kept, {"version": str, "path": [str], "added": list})
    if known is not None and known["added"] == _added(known["path"]):
        return known["version"], known["path"]
    done = subprocess.run(
        [python, "-c", _QUESTION], env={**environment}, capture_output=True, check=True, timeout=_SECONDS
    )
    version, path = json.loads(done.stdout.splitlines()[-1])
    write_atomic(kept, json.dumps({"version": version, "path": path, "added": _added(path)}), durable=False)
    return version, path


def _added(path: Iterable[str]) -> list[list[object]]:
    """Files that add to the path, with the times of their last change."""
    return sorted([entry.path, entry.stat().st_mtime_ns] for entry in _entries(path) if entry.name.endswith(_PATHS))


def _distributions(path: Iterable[str]) -> Iterable[tuple[str, str]]:
    """Names and versions; what comes first in the path is what is imported."""
    found: dict[str, str] = {}
    for entry in _entries(path):
        if match := _DISTRIBUTION.fullmatch(entry.name):
            found.setdefault(match["name"].replace("_", "-").lower(), match["version"])
    return found.items()


def _entries(path: Iterable[str]) -> Iterable[os.DirEntry[str]]:
    for folder in path:
        if Path(folder).is_dir():
            with os.scandir(folder) as entries:
                yield from entries
