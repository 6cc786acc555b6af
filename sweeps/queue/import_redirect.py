"""Has Python import a user's code from the copy that a job runs in, however that code is installed.

In a copy's folder, it is called `sitecustomize.py`, and `PYTHONPATH` begins with the folder around it: the study's
interpreter imports it at its start, after the `.pth` files by which editable installations enter `sys.path` and
`sys.meta_path`. It needs nothing but the standard library of Python 3.8.
"""

from __future__ import annotations

import copy
import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

LIVE = os.environ.get("ABLATE_CODE_LIVE", "")
COPY = os.environ.get("ABLATE_CODE_COPY", "")


def moved(path: str) -> str:
    """The copy of a file or folder of the repository; any other path, and one that is linked, as it is."""
    real = os.path.realpath(path)
    if real != LIVE and not real.startswith(LIVE + os.sep):
        return path
    place = COPY + real[len(LIVE) :]
    if not os.path.lexists(place):
        return path
    # What is linked into the copy is the same file under both names.
    found, top = os.path.realpath(place), os.path.realpath(COPY)
    return place if found == top or found.startswith(top + os.sep) else path


class Redirect:
    """Asks the other finders, and has what they find in the repository loaded from the copy."""

    @classmethod
    def find_spec(
        cls, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        for finder in list(sys.meta_path):
            find = getattr(finder, "find_spec", None)
            spec = find(name, path, target) if find is not None and finder is not cls else None
            if spec is not None:
                return cls._moved(spec)
        return None

    @staticmethod
    def invalidate_caches() -> None:
        """Nothing is kept."""

    @staticmethod
    def _moved(spec: ModuleSpec) -> ModuleSpec:
        place = moved(spec.origin) if spec.has_location and spec.origin else spec.origin
        folders = spec.submodule_search_locations
        if isinstance(folders, list):
            spec.submodule_search_locations = [moved(folder) for folder in folders]
        loader = copy.copy(spec.loader)
        if place == spec.origin or loader is None or not hasattr(loader, "path"):
            return spec
        loader.path = place
        found = ModuleSpec(spec.name, loader, origin=place, is_package=folders is not None)
        found.submodule_search_locations = spec.submodule_search_locations
        found.has_location = True
        return found


def install() -> None:
    """Turn what is known already to the copy, and what is found later."""
    sys.path[:] = [moved(entry) if entry else entry for entry in sys.path]
    for module in list(sys.modules.values()):
        folders = getattr(module, "__path__", None)
        if isinstance(folders, list):
            folders[:] = [moved(folder) for folder in folders]
    sys.meta_path.insert(0, Redirect)


def pass_on() -> None:
    """Run the `sitecustomize` of the interpreter, whose name this file has taken."""
    own = os.path.dirname(os.path.abspath(__file__))
    others = [entry for entry in sys.path if os.path.abspath(entry) != own]
    spec = PathFinder.find_spec("sitecustomize", others)
    if spec is None or spec.loader is None:
        return
    module = importlib.util.module_from_spec(spec)
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


if __name__ == "sitecustomize":
    if LIVE and COPY:
        install()
    pass_on()
