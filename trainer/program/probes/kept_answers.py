"""Answers of a program on disk, valid as long as nothing has changed that they depend on.

`NAME.jsonl` has a line for each process that answered: interpreter, installed distributions, the user's files that were
read, folders that were listed, environment variables; and a line for each answer, which names its process's.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from ablative.study.core.files import write_atomic
from ablative.study.core.identity import canonical, digest
from ablative.study.core.typed import Settings

_DISTRIBUTIONS = (".dist-info", ".egg-info", ".egg-link", ".pth")
_HASHED = 16 << 20
"""Bytes up to which a file is known by its content; a larger one by size and time of change."""
_CLOCK = 10_000_000
"""Nanoseconds by which the time of a file may be behind the clock."""
_SETTLED = 2_000_000_000
"""Nanoseconds after which a further change of a file has another time."""

State = list[object]
"""A file's time of change, size, digest of its content; empty: there is none."""


class KeptAnswers:
    """Answers of one program to requests."""

    def __init__(self, folder: Path, name: str, python: Path, environment: Mapping[str, str]) -> None:
        self._path = folder / f"{name}.jsonl"
        self._python, self._environment = python, environment
        self._processes: dict[str, Settings] = {}
        """Digest → what the answers of a process depend on."""
        self._valid: dict[str, bool] = {}
        self._lines: dict[str, Settings] = {}
        """Digest of a request → its answer."""
        for line in self._read():
            if "request" in line:
                self._lines[str(line["request"])] = line
            else:
                self._processes[digest(canonical(line))] = line

    def get(self, request: str) -> Settings | None:
        """What was answered to a request (as canonical text)."""
        line = self._lines.get(digest(request))
        known = line is not None and self._is_valid(line["process"]) and self._still(line["depends"])
        return line if known else None

    def begin(self, reached: Settings, started_ns: int) -> str:
        """Keep answers of a process that has come to the point where it answers; returns its digest for `put`.

        Args:
            reached: what the program had used by then (`Process.reached`).
            started_ns: when it was started; nothing is kept, and the digest empty, if what it used is newer.
        """
        process = {
            "python": _file(self._python, follow=True),
            "path": reached["path"],
            "distributions": _distributions(reached["path"]),
            **self._depends(reached["reached"]),
        }
        if not _settled(process, started_ns):
            return ""
        for name, known in self._processes.items():
            if {**known, "written": 0} == {**process, "written": 0}:
                return name
        # What is not valid any more goes: a program that is edited often must not fill the disk.
        self._processes = {name: known for name, known in self._processes.items() if self._is_valid(name)}
        self._lines = {request: line for request, line in self._lines.items() if line["process"] in self._processes}
        name = digest(canonical(process))
        self._processes[name], self._valid[name] = process, True
        lines = [*self._processes.values(), *self._lines.values()]
        write_atomic(self._path, "".join(map(_text, lines)), durable=False)
        return name

    def put(self, request: str, reply: Settings, process: str, started_ns: int) -> None:
        """Keep one answer, with what it alone depends on (`used`)."""
        depends = self._depends(reply["used"])
        if process not in self._processes or not _settled(depends, started_ns):
            return
        line = {key: value for key, value in reply.items() if key != "used"}
        line |= {"request": digest(request), "process": process, "depends": depends}
        self._lines[line["request"]] = line
        # One write of one line: plans that run at the same time may append to the same file.
        with self._path.open("ab", buffering=0) as file:
            file.write(_text(line).encode())

    def _read(self) -> Iterator[Settings]:
        try:
            lines = self._path.read_bytes().splitlines()
        except FileNotFoundError:
            return
        for text in lines:
            try:
                line = json.loads(text)
            except ValueError:  # cut off when its process was killed
                continue
            if isinstance(line, dict):
                yield line

    def _depends(self, used: Settings) -> dict[str, object]:
        return {
            "files": {path: _file(Path(path)) for path in used.get("files", ())},
            "folders": {path: _names(Path(path)) for path in used.get("folders", ())},
            "variables": {name: self._variable(name) for name in used.get("variables", ())},
            "written": time.time_ns(),
        }

    def _variable(self, name: str) -> str:
        """A digest, since the value may be a password."""
        return digest(self._environment[name]) if name in self._environment else ""

    def _is_valid(self, name: str) -> bool:
        if name not in self._valid:
            process = self._processes.get(name)
            self._valid[name] = process is not None and (
                _same(self._python, process["python"], 0, follow=True)
                and process["distributions"] == _distributions(process["path"])
                and self._still(process)
            )
        return self._valid[name]

    def _still(self, depends: Settings) -> bool:
        return (
            all(self._variable(name) == value for name, value in depends["variables"].items())
            and all(_names(Path(path)) == names for path, names in depends["folders"].items())
            and all(_same(Path(path), state, depends["written"]) for path, state in depends["files"].items())
        )


def _text(line: Settings) -> str:
    """Its keys in the order that the program has given them."""
    return json.dumps(line, separators=(",", ":")) + "\n"


def _file(path: Path, follow: bool = False) -> State:
    """State of a file; `follow`: with the place to which a link leads, and without its content."""
    try:
        status = path.stat()
        if follow:
            return [status.st_mtime_ns, status.st_size, os.path.realpath(path)]
        content = hashlib.sha256(path.read_bytes()).hexdigest() if status.st_size <= _HASHED else ""
    except OSError:
        return []
    return [status.st_mtime_ns, status.st_size, content]


def _same(path: Path, state: State, written: int, follow: bool = False) -> bool:
    try:
        status = path.stat()
    except OSError:
        return state == []
    old = bool(state) and int(str(state[0])) < written - _SETTLED
    if old and state[:2] == [status.st_mtime_ns, status.st_size]:
        return True
    found = _file(path, follow)
    # A file that was only touched has the same content.
    return found == state or (not follow and bool(state) and bool(found[2:] and found[2]) and found[1:] == state[1:])


def _names(folder: Path) -> str:
    try:
        return digest(canonical(sorted(name for name in os.listdir(folder) if name != "__pycache__")))
    except OSError:
        return ""


def _settled(depends: Mapping[str, object], started_ns: int) -> bool:
    """Whether the process has read the files as they are now."""
    files = depends["files"]
    assert isinstance(files, dict)
    return all(not state or state[0] < started_ns - _CLOCK for state in files.values())


def _distributions(path: list[str]) -> str:
    """Digest of the installed distributions: their folders' names have the versions, their times the installations."""
    found = []
    for folder in path:
        try:
            entries = [entry for entry in os.scandir(folder or ".") if entry.name.endswith(_DISTRIBUTIONS)]
            found += sorted([folder, entry.name, entry.stat().st_mtime_ns] for entry in entries)
        except OSError:  # an archive, or a folder that is not there
            continue
    return digest(canonical(found))
