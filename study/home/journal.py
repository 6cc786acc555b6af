"""The journal: one task's append-only JSON lines, the write-ahead log of everything it reports.

A line is a flat object: ``t`` (milliseconds since 1970), ``kind``, and

- ``metrics``: ``step`` (int), ``values`` ({name: number}; NaN and infinities as the strings "nan", "inf", "-inf");
- ``params`` / ``tags``: ``values`` ({name: text});
- ``event``: ``name`` (started, resumed, completed, diverged, failed, interrupted, …) and free fields.

The file is the truth; MLflow is filled from it (`sweeps.tracking`). Time stamps are written once, here, so
that shipping a line twice gives the same MLflow row.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ablative.study.core.damage import DAMAGE, note, set_aside
from ablative.study.core.files import Content, naming, write_atomic

Entry = Mapping[str, Any]
"""One line."""
COMPUTED_AGAIN = "computed again"
"""Event of an attempt that reported steps which an earlier one had: `first`, `last`, and how many `reports`."""


def encode(value: float) -> float | str:
    """A number that JSON can hold: NaN and infinities become words."""
    number = float(value)
    return number if math.isfinite(number) else str(number)


class Journal:
    """Appends lines to one file; safe against a torn last line and against repeated steps.

    A run that resumes from a checkpoint walks again over steps that it had already reported. Those are
    dropped (per metric, up to the largest step in the file), so nothing is reported twice.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._last_step = _repair(path)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Report metric values at an optimiser step (evaluations use step 0)."""
        new = {name: encode(value) for name, value in values.items() if step > self._last_step.get(name, -1)}
        if new:
            self._last_step.update(dict.fromkeys(new, step))
            self._write({"kind": "metrics", "step": step, "values": new})

    def params(self, values: Mapping[str, object]) -> None:
        self._write({"kind": "params", "values": {name: str(value) for name, value in values.items()}})

    def tags(self, values: Mapping[str, object]) -> None:
        self._write({"kind": "tags", "values": {name: str(value) for name, value in values.items()}})

    def event(self, name: str, **fields: Any) -> None:
        self._write({"kind": "event", "name": name, **fields})

    def close(self) -> None:
        os.close(self._file)

    def _write(self, entry: Entry) -> None:
        """One `write` a line: raises OSError on a full disk, and leaves no half line behind if it can."""
        line = json.dumps({"t": int(time.time() * 1000), **entry}, allow_nan=False).encode() + b"\n"
        start = os.fstat(self._file).st_size
        written = 0
        try:
            with naming(self.path):
                while written < len(line):
                    written += os.write(self._file, line[written:])
        except OSError:
            if written:
                os.truncate(self.path, start)
            raise


def read(path: Path, offset: int = 0) -> tuple[list[Entry], int]:
    """Complete lines from byte `offset` on, and the offset behind the last of them.

    Damaged lines are left out, and the file is named.
    """
    found, end = _read_lines(path, offset)
    if None in found:
        note(path, _damaged_lines(found), "the others are read")
    return [entry for entry in found if entry is not None], end


def parse(line: bytes) -> Content | None:
    """A line's entry; None: the line is damaged."""
    try:
        entry: Content = json.loads(line)
        fits = isinstance(entry, dict) and isinstance(entry["t"], int) and _KINDS.get(entry["kind"], _any)(entry)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return entry if fits else None


def damaged(path: Path) -> str:
    """What is damaged of a journal; empty: nothing."""
    try:
        return _damaged_lines(_read_lines(path, 0)[0])
    except OSError as error:
        return str(error.strerror)


def _any(entry: Entry) -> bool:
    return True


def _are_metrics(entry: Entry) -> bool:
    fine = all(isinstance(value, int | float) or float(value) for value in _values(entry))
    return isinstance(entry["step"], int) and fine


def _are_texts(entry: Entry) -> bool:
    return all(isinstance(value, str) for value in _values(entry))


def _values(entry: Entry) -> Iterable[str | float]:
    """What a line's names are mapped to; raises TypeError where it has no mapping."""
    if not isinstance(entry["values"], dict):
        raise TypeError("values")
    values: dict[str, str | float] = entry["values"]
    return values.values()


_KINDS: dict[str, Callable[[Entry], bool]] = {
    "metrics": _are_metrics,
    "params": _are_texts,
    "tags": _are_texts,
    "event": lambda entry: isinstance(entry["name"], str) and isinstance(entry.get("step", 0), int),
}


def _read_lines(path: Path, offset: int) -> tuple[list[Entry | None], int]:
    """Entries of complete lines, None for each damaged one, and the offset behind the last of them."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return [], offset
    except OSError as error:
        if error.errno not in DAMAGE:
            raise
        return [None], offset
    end = data.rfind(b"\n") + 1
    return [parse(line) for line in data[:end].split(b"\n")[:-1]], offset + end


def _damaged_lines(found: list[Entry | None]) -> str:
    count = found.count(None)
    return f"{count} of {len(found)} lines cannot be read" if count else ""


def metric_rows(entries: list[Entry]) -> Iterator[tuple[str, int, float, int]]:
    """(name, step, value, milliseconds) of every metric in journal entries."""
    for entry in entries:
        if entry["kind"] == "metrics":
            for name, value in entry["values"].items():
                yield name, entry["step"], float(value), entry["t"]


def _repair(path: Path) -> dict[str, int]:
    """Cut a torn last line off, and leave damaged ones to a copy; largest reported step per metric."""
    found, end = _read_lines(path, 0)
    entries = [entry for entry in found if entry is not None]
    if len(entries) < len(found):
        set_aside(path, _damaged_lines(found))
        write_atomic(path, "".join(json.dumps(entry) + "\n" for entry in entries))
    elif path.exists() and path.stat().st_size > end:
        os.truncate(path, end)
    last: dict[str, int] = {}
    for name, step, _, _ in metric_rows(entries):
        last[name] = max(step, last.get(name, -1))
    return last
