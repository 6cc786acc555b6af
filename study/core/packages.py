"""Packages of this program and of trainers: where they lie, what is in them, and that a job imports one copy."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import sys
from collections.abc import Iterable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

ROOT = "ablative"
PACKAGES = tuple(f"{ROOT}.{name}" for name in ("study", "trainer", "sweeps", "reports"))
OTHERS = "packages.json"
"""File of a snapshot: lists the packages in it of a trainer that comes from elsewhere; absent where there are none."""


def folder(package: str) -> Path:
    """The folder that this process imports a package from; raises ModuleNotFoundError where there is none."""
    spec = importlib.util.find_spec(package)
    locations = spec.submodule_search_locations if spec else None
    if not locations:
        raise ModuleNotFoundError(f"no package named '{package}'", name=package)
    # The first location is the one that modules are imported from.
    return Path(next(iter(locations)))


def location(package: str) -> Path:
    """The folder of a package, or the file of a module that is none; raises ModuleNotFoundError where there is none."""
    spec = importlib.util.find_spec(package)
    if spec is not None and not spec.submodule_search_locations and spec.origin is not None and spec.has_location:
        return Path(spec.origin)
    return folder(package)


def is_ours(name: str) -> bool:
    """Whether a package or module is of this program."""
    return _within(name, ROOT)


def source_name(path: Path, others: Iterable[str] = ()) -> str:
    """`trainer/clip/train.py` for that file, wherever its package lies; empty for a file of other packages.

    Args:
        path: of the file.
        others: packages that count besides those of this program.
    """
    for package in (*PACKAGES, *(name for name in others if not is_ours(name))):
        top = location(package)
        name = package.removeprefix(ROOT + ".")
        if path == top:
            return f"{name}{top.suffix}"
        if path.is_relative_to(top):
            return f"{name}/{path.relative_to(top)}"
    return ""


def sources_digest(packages: Iterable[str]) -> str:
    """SHA-256 of all Python files and JSON tables of some packages: a cache under it is of this code alone."""
    state = hashlib.sha256()
    for package in packages:
        place = location(package)
        files = [place] if place.is_file() else place.rglob("*")
        for path in sorted(path for path in files if path.suffix in (".py", ".json")):
            state.update(path.read_bytes())
    return state.hexdigest()


def require_snapshot(snapshot: Path | None) -> None:
    """Have every module of `ablative`, and of what else a job's snapshot holds, come from it, also when imported later.

    An editable installation would fill what a snapshot lacks from the checkout that is being edited, without a word.

    Raises:
        ImportError: a module came from elsewhere.
    """
    if snapshot is None:
        return
    held = (ROOT, *_others(snapshot))
    for name, module in list(sys.modules.items()):
        if name == "__main__" and module.__spec__ is not None:
            # A module of ours that was started with `python -m`.
            name = module.__spec__.name
        if any(_within(name, top) for top in held):
            _check(name, _origin(module), snapshot)
    if not any(isinstance(finder, _SnapshotFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _SnapshotFinder(snapshot, held))


def required_snapshot() -> Path | None:
    """The snapshot that `require_snapshot` holds this process to; None outside a job."""
    return next((finder.snapshot for finder in sys.meta_path if isinstance(finder, _SnapshotFinder)), None)


class _SnapshotFinder(MetaPathFinder):
    """Finds modules in the snapshot, and refuses to look for those that it should hold anywhere else."""

    def __init__(self, snapshot: Path, held: Sequence[str]) -> None:
        self.snapshot, self._held = snapshot, held

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not any(_within(fullname, top) for top in self._held):
            return None
        if fullname in self._held and fullname != ROOT:
            # The packages around it may lie elsewhere.
            path = [str(self.snapshot.joinpath(*fullname.split(".")[:-1]))]
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None:
            raise ModuleNotFoundError(f"{fullname} is not in the snapshot {self.snapshot}", name=fullname)
        _check(fullname, spec.origin, self.snapshot)
        return spec


def _others(snapshot: Path) -> list[str]:
    """Packages in a snapshot that are not of this program."""
    try:
        found: list[str] = json.loads((snapshot / OTHERS).read_text())
    except FileNotFoundError:
        return []
    return found


def _within(name: str, top: str) -> bool:
    return name == top or name.startswith(top + ".")


def _origin(module: ModuleType) -> str | None:
    return getattr(module, "__file__", None)


def _check(name: str, origin: str | None, snapshot: Path) -> None:
    if origin is None or not os.path.realpath(origin).startswith(os.path.realpath(snapshot) + os.sep):
        raise ImportError(f"{name} is imported from {origin}, not from the job's snapshot {snapshot}", name=name)
