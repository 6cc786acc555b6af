"""The packages of this program: where they lie, what they contain, and that a job imports all of them from one copy."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from collections.abc import Iterable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

ROOT = "ablative"
PACKAGES = tuple(f"{ROOT}.{name}" for name in ("study", "trainer", "sweeps", "reports"))
TRAINED_BY = PACKAGES[:2]
"""Packages whose code can change a result."""


def folder(package: str) -> Path:
    """The folder that this process imports a package from; raises ModuleNotFoundError where there is none."""
    spec = importlib.util.find_spec(package)
    locations = spec.submodule_search_locations if spec else None
    if not locations:
        raise ModuleNotFoundError(f"no package named '{package}'", name=package)
    # The first location is the one that modules are imported from.
    return Path(next(iter(locations)))


def source_name(path: Path) -> str:
    """`trainer/clip/train.py` for that file, wherever its package lies; empty for a file of other packages."""
    for package in PACKAGES:
        top = folder(package)
        if path.is_relative_to(top):
            return f"{package.removeprefix(ROOT + '.')}/{path.relative_to(top)}"
    return ""


def sources_digest(packages: Iterable[str]) -> str:
    """SHA-256 of all Python files and JSON tables of some packages: a cache under it is of this code alone."""
    state = hashlib.sha256()
    for package in packages:
        for path in sorted(path for path in folder(package).rglob("*") if path.suffix in (".py", ".json")):
            state.update(path.read_bytes())
    return state.hexdigest()


def require_snapshot(snapshot: Path | None) -> None:
    """Have every module of `ablative` come from a job's snapshot, those that are imported later included.

    An editable installation would fill what a snapshot lacks from the checkout that is being edited, without a word.

    Raises:
        ImportError: a module came from elsewhere.
    """
    if snapshot is None:
        return
    for name, module in list(sys.modules.items()):
        if name == "__main__" and module.__spec__ is not None:
            # A module of ours that was started with `python -m`.
            name = module.__spec__.name
        if _ours(name):
            _check(name, _origin(module), snapshot)
    if not any(isinstance(finder, _SnapshotFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _SnapshotFinder(snapshot))


def required_snapshot() -> Path | None:
    """The snapshot that `require_snapshot` holds this process to; None outside a job."""
    return next((finder.snapshot for finder in sys.meta_path if isinstance(finder, _SnapshotFinder)), None)


class _SnapshotFinder(MetaPathFinder):
    """Finds modules of `ablative` in the snapshot, and refuses to look anywhere else."""

    def __init__(self, snapshot: Path) -> None:
        self.snapshot = snapshot

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not _ours(fullname):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None:
            raise ModuleNotFoundError(f"{fullname} is not in the snapshot {self.snapshot}", name=fullname)
        _check(fullname, spec.origin, self.snapshot)
        return spec


def _ours(name: str) -> bool:
    return name == ROOT or name.startswith(ROOT + ".")


def _origin(module: ModuleType) -> str | None:
    return getattr(module, "__file__", None)


def _check(name: str, origin: str | None, snapshot: Path) -> None:
    if origin is None or not os.path.realpath(origin).startswith(os.path.realpath(snapshot) + os.sep):
        raise ImportError(f"{name} is imported from {origin}, not from the job's snapshot {snapshot}", name=name)
