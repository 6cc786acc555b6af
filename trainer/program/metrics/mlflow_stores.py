"""MLflow stores that a program writes below its outputs: SQLite files and folders, read without MLflow."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from ablative.trainer.program.metrics.records import MOST_KEYS, Record, not_written
from ablative.trainer.program.metrics.tails import Lines, natural

STORE = "mlflow.db"
FOLDER = "mlruns"
"""Names, below the outputs, of the stores that `prepare_mlflow` leads a program to."""
BUSY_SECONDS = 0.5
"""How long a look waits for a program that writes; the last look waits longer."""
LAST_BUSY_SECONDS = 20.0
ROWS = 100_000
"""Rows of one look; the rest waits for the next."""
LARGEST = 1.797e308
"""MLflow writes an infinity as the largest double."""
_START = re.compile(r"^start_time: (\d+)", re.MULTILINE)


class MlflowStore:
    """Metrics of all runs in one store, or in both that a program may have been led to."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self._parts: dict[Path, _Database | _Folder] = {}

    def read(self, last: bool) -> Iterator[Record]:
        for path in [self.folder / self.name] if self.name else [self.folder / STORE, self.folder / FOLDER]:
            if path not in self._parts and path.exists():
                self._parts[path] = _Folder(path) if path.is_dir() else _Database(path)
            if path in self._parts:
                yield from self._parts[path].read(last)

    def place(self) -> str:
        return f"MLflow's store {self.name or STORE}"

    def absent(self) -> str:
        return "" if self._parts else not_written(self.folder, self.place())

    def notes(self) -> list[str]:
        return [
            f"{path.relative_to(self.folder)}: MLflow's store cannot be read: {part.fault}"
            for path, part in self._parts.items()
            if part.fault
        ]


class _Database:
    """Rows of the table of metrics in the order in which they were written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fault = ""
        self._last_row, self._number = 0, 0
        self._seen: Sequence[object] = ()

    def read(self, last: bool) -> Iterator[Record]:
        seen = [_signature(self.path.with_name(self.path.name + end)) for end in ("", "-wal")]
        if seen == self._seen and not last:
            return
        while True:
            rows = self._rows(last)
            if rows is None:
                return
            for row, key, value, is_nan, step, run in rows:
                self._last_row, self._number = row, self._number + 1
                yield Record({key: _number(value, is_nan)}, self._number - 1, (self.path, run), step)
            if len(rows) < ROWS:
                self._seen = seen
                return
            if not last:
                return

    def _rows(self, last: bool) -> list[tuple[int, str, float, int, int, str]] | None:
        """Rows that were added; None: the store cannot be read now."""
        # A program that was killed may have left a transaction, which only a connection that writes can take back.
        uri = f"{self.path.resolve().as_uri()}?mode={'rw' if last else 'ro'}"
        busy = LAST_BUSY_SECONDS if last else BUSY_SECONDS
        query = "SELECT rowid, key, value, is_nan, step, run_uuid FROM metrics WHERE rowid > ? ORDER BY rowid LIMIT ?"
        try:
            with contextlib.closing(sqlite3.connect(uri, timeout=busy, uri=True)) as connection:
                rows = connection.execute(query, (self._last_row, ROWS)).fetchall()
        except sqlite3.Error as error:
            # Locked, or not made yet: the next look finds out. What remains at the end is a fault.
            self.fault = str(error)
            return None
        self.fault = ""
        return rows


class _Folder:
    """A file store: a folder for each experiment and run, and in it a file for each metric."""

    fault = ""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files: dict[Path, tuple[Lines, int]] = {}

    def read(self, last: bool) -> Iterator[Record]:
        for run in sorted((path.parent for path in self.path.glob("*/*/metrics")), key=_began):
            folder = run / "metrics"
            for path in sorted((path for path in folder.rglob("*") if path.is_file()), key=natural)[:MOST_KEYS]:
                lines, number = self._files.get(path, (Lines(path), 0))
                for line in lines.read(last):
                    cells = line.split()
                    if len(cells) >= 2:
                        step = int(cells[2]) if len(cells) > 2 and cells[2].lstrip("-").isdigit() else 0
                        yield Record({path.relative_to(folder).as_posix(): cells[1]}, number, (run, path), step)
                        number += 1
                self._files[path] = lines, number


def _began(run: Path) -> tuple[int, str]:
    """When a run began: a later one, of a resumed program, counts later."""
    try:
        found = _START.search((run / "meta.yaml").read_text("utf-8", "replace"))
    except OSError:
        found = None
    return int(found[1]) if found else 0, run.name


def _number(value: object, is_nan: object) -> object:
    if is_nan:
        return float("nan")
    if isinstance(value, float) and abs(value) >= LARGEST:
        return float("inf") if value > 0 else float("-inf")
    return value


def _signature(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns
