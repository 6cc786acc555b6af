"""What the answers of a program depend on: files that it read, folders that it listed, environment variables."""

from __future__ import annotations

import contextlib
import os
import sys
import sysconfig

LIBRARIES = ("site-packages", "dist-packages")
"""Folders of installed distributions, which are known by their versions."""
_SYSTEM = ("/proc/", "/sys/", "/dev/")
_TERMINAL = {"COLUMNS", "LINES", "PWD", "OLDPWD", "PYTHONHASHSEED"}
"""Variables that say how messages are laid out, or that a probe sets itself."""


class Used:
    """Records the interpreter's audit events from `start` on."""

    def __init__(self) -> None:
        paths = sysconfig.get_paths()
        own = os.path.dirname(os.path.abspath(__file__))
        self._not_users = tuple(
            path.rstrip(os.sep) + os.sep for path in (paths["stdlib"], paths["platstdlib"], own, os.path.realpath(own))
        )
        self._opened: set[str] = set()
        self._listed: set[str] = set()
        self._variables: set[str] = set()
        self._modules: set[str] = set()
        self._reported: dict[str, set[str]] = {}

    def start(self) -> None:
        sys.addaudithook(self._event)
        environment = type(os.environ)
        read = environment.__getitem__

        def record(this: os._Environ[str], key: str) -> str:
            self._variables.add(key)
            return read(this, key)

        environment.__getitem__ = record  # type: ignore[method-assign]

    def _event(self, event: str, arguments: tuple[object, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if not writes:
                self._add(self._opened, path)
        elif event in ("os.listdir", "os.scandir") and not _importing():
            self._add(self._listed, arguments[0] if arguments[0] is not None else ".")

    def _add(self, paths: set[str], path: object) -> None:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return
        # The working folder is gone, or the path holds a zero byte: the open will fail.
        with contextlib.suppress(OSError, ValueError):
            paths.add(os.path.abspath(os.fsdecode(path)))

    def list_folder(self, folder: str) -> None:
        """Have every folder below count as listed: a new file there may give another answer."""
        for path, _, _ in os.walk(folder, followlinks=False):
            self._listed.add(os.path.abspath(path))

    def is_users(self, path: str) -> bool:
        """Whether a file can be edited without a change of a distribution's version."""
        if path.startswith(_SYSTEM) or path.endswith(".pyc") or path.startswith(self._not_users):
            return False
        return not any(part in LIBRARIES for part in path.split(os.sep))

    def collected(self) -> dict[str, list[str]]:
        """What has come since the call before: `files`, `folders` and `variables`."""
        for name in set(sys.modules) - self._modules:
            self._modules.add(name)
            self._add(self._opened, getattr(sys.modules[name], "__dict__", {}).get("__file__"))
        found = {"files": self._opened, "folders": self._listed, "variables": self._variables - _TERMINAL}
        new = {name: values - self._reported.get(name, set()) for name, values in found.items()}
        self._reported = {name: set(values) for name, values in found.items()}
        for name in ("files", "folders"):
            new[name] = {path for path in new[name] if self.is_users(path + os.sep * (name == "folders"))}
        return {name: sorted(values) for name, values in new.items()}


def _importing() -> bool:
    """Whether the import system lists a folder, which it does with all that it searches: what it finds is a file."""
    return sys._getframe(2).f_code.co_filename.startswith("<frozen importlib")
