"""Records of files that a program writes: JSON lines, CSV and JSON documents."""

from __future__ import annotations

import csv
import json
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ablative.study.core.plurals import counted
from ablative.trainer.program.metrics.tails import Lines, matching

LARGEST_DOCUMENT = 64 << 20
"""Bytes of a JSON document, which is read whole."""
DELIMITERS = ",;\t"
MOST_KEYS = 200
"""Keys of a record that are kept for messages."""
MOST_NAMES = 8
"""Names of files in a message."""
_LONGEST_ROW = 100
"""Lines of a CSV row whose quotes do not end."""


@dataclass(frozen=True)
class Record:
    """What a program wrote at one step."""

    fields: Mapping[str, object]
    number: int
    """Its place among the records of its file, from 0."""
    part: Hashable
    """The file, and how often it was replaced."""
    step: int | None = None
    """Where the format itself has one."""


class Origin(Protocol):
    """Records of one place, each once."""

    def read(self, last: bool) -> Iterator[Record]:
        """New records since the last call; `last`: the program has ended, what it wrote is complete."""
        ...

    def place(self) -> str:
        """What it reads, for messages: `log.jsonl`."""
        ...

    def absent(self) -> str:
        """Where there is nothing to read, what lies there instead; empty: there is something."""
        ...

    def notes(self) -> list[str]:
        """What could not be read, a line each."""
        ...


def field_of(fields: Mapping[str, object], key: str) -> object:
    """The value of a key: the whole key first, then nested by dots or slashes; None: it has none.

    >>> field_of({"a.b": 1, "a": {"b": 2, "c": [3, 4]}}, "a.b"), field_of({"a": {"c": [3, 4]}}, "a.c.1")
    (1, 4)
    """
    if key in fields:
        return fields[key]
    for place, character in enumerate(key):
        if character in "./" and key[:place] in fields:
            inner, rest = fields[key[:place]], key[place + 1 :]
            if isinstance(inner, list):
                inner = {str(index): item for index, item in enumerate(inner)}
            if isinstance(inner, Mapping) and (found := field_of(inner, rest)) is not None:
                return found
    return None


def keys_of(fields: Mapping[str, object]) -> list[str]:
    """The keys that `field_of` finds a number or text under."""
    found = []
    for key, value in list(fields.items())[:MOST_KEYS]:
        found += [f"{key}.{inner}" for inner in keys_of(value)] if isinstance(value, Mapping) else [str(key)]
    return found[:MOST_KEYS]


class _Files:
    """Lines of the files that a name or glob means, with the number of the record that comes next in each."""

    what = "records"

    def __init__(self, folder: Path, pattern: str) -> None:
        self.folder, self.pattern = folder, pattern
        self.files: dict[Path, Lines] = {}
        self.broken, self.first_broken = 0, ""

    def lines(self, last: bool) -> Iterator[tuple[Lines, str]]:
        for path in matching(self.folder, self.pattern):
            lines = self.files.setdefault(path, Lines(path))
            for line in lines.read(last):
                if line and not line.isspace():
                    yield lines, line

    def place(self) -> str:
        return self.pattern

    def absent(self) -> str:
        exists = any(lines.tail.exists for lines in self.files.values())
        exists |= any(lines.tail.fault for lines in self.files.values())
        return "" if exists else not_written(self.folder, self.pattern)

    def notes(self) -> list[str]:
        found = [f"{path.name}: {file.tail.fault}" for path, file in self.files.items() if file.tail.fault]
        if self.broken:
            lines = counted(self.broken, "line")
            found.append(f"{self.pattern}: {lines} with no {self.what} (first: {self.first_broken!r})")
        if too_long := sum(file.too_long for file in self.files.values()):
            found.append(f"{self.pattern}: {counted(too_long, 'line')} longer than 1 MiB left out")
        return found

    def damaged(self, line: str) -> None:
        self.first_broken = self.first_broken or line[:60]
        self.broken += 1


class JsonLines(_Files):
    """A JSON object a line."""

    what = "JSON object"

    def __init__(self, folder: Path, pattern: str) -> None:
        super().__init__(folder, pattern)
        self._numbers: dict[Hashable, int] = {}

    def read(self, last: bool) -> Iterator[Record]:
        for lines, line in self.lines(last):
            fields = parsed(line)
            if not isinstance(fields, dict):
                self.damaged(line)
                continue
            part = (lines.tail.path, lines.tail.generation)
            number = self._numbers[part] = self._numbers.get(part, -1) + 1
            yield Record(fields, number, part)


class Csv(_Files):
    """A table with a header; a header that comes again, as of a resumed program, begins another part of it."""

    what = "row of the table"

    def __init__(self, folder: Path, pattern: str) -> None:
        super().__init__(folder, pattern)
        self._tables: dict[Hashable, _Table] = {}

    def read(self, last: bool) -> Iterator[Record]:
        for lines, line in self.lines(last):
            part = (lines.tail.path, lines.tail.generation)
            table = self._tables.setdefault(part, _Table())
            row = table.row(line)
            if row is None:
                continue
            if len(row) != len(table.header):
                self.damaged(line)
                continue
            yield Record(dict(zip(table.header, row, strict=True)), table.count - 1, part)


class _Table:
    """Rows of a CSV file, from its lines."""

    def __init__(self) -> None:
        self.header: list[str] = []
        self.count = 0
        self._delimiter, self._open = ",", ""
        self._lines = 0

    def row(self, line: str) -> list[str] | None:
        """The cells of a row; None: the line is a header, or a part of a row whose quotes go on."""
        text = f"{self._open}\n{line}" if self._open else line
        if text.count('"') % 2 and self._lines < _LONGEST_ROW:
            self._open, self._lines = text, self._lines + 1
            return None
        self._open, self._lines = "", 0
        if not self.header:
            self._delimiter = max(DELIMITERS, key=text.count)
        try:
            cells = [cell.strip() for cell in next(csv.reader([text], delimiter=self._delimiter))]
        except csv.Error:
            # A lone carriage return, or a cell of more than 128 KiB.
            return []
        if not self.header or _is_header(cells, self.header):
            self.header = cells
            return None
        self.count += 1
        return cells


def _is_header(cells: list[str], header: list[str]) -> bool:
    """Whether a row names columns; another header has other columns too, and the first of the old ones."""
    return cells == header or (cells[0] == header[0] and set(header) <= set(cells))


class Document:
    """A JSON document: one record, or those of the lists that the keys lead through.

    Keras' and Hugging Face's histories are such: `{"log_history": [{"step": 1, "loss": 2.0}, …]}`. It is read whole
    whenever it has changed. A record that has no step is read only when the program has ended, since the document may
    have changed any number of times before.
    """

    def __init__(self, folder: Path, pattern: str, step: str) -> None:
        self.folder, self.pattern, self.step = folder, pattern, step
        self._seen: dict[Path, tuple[int, ...]] = {}
        self._waiting: dict[Path, list[dict[str, object]]] = {}
        self._generations = 0
        self._faults: dict[Path, str] = {}

    def read(self, last: bool) -> Iterator[Record]:
        for path in matching(self.folder, self.pattern):
            yield from self._document(path, last)

    def _document(self, path: Path, last: bool) -> Iterator[Record]:
        try:
            status = path.stat()
            signature = (status.st_ino, status.st_size, status.st_mtime_ns)
            if signature != self._seen.get(path):
                if status.st_size > LARGEST_DOCUMENT:
                    self._faults[path] = f"{status.st_size >> 20} MiB, more than {LARGEST_DOCUMENT >> 20}; not read"
                    return
                data = parsed(path.read_text("utf-8", "replace"))
                self._seen[path] = signature
                if data is None:
                    self._faults[path] = "no JSON"
                else:
                    self._faults.pop(path, None)
                    self._generations += 1
                    self._waiting[path] = list(_objects(data))
        except OSError as error:
            if path.exists():
                self._faults[path] = str(error.strerror)
            return
        waiting, self._waiting[path] = self._waiting.get(path, []), []
        for number, fields in enumerate(waiting):
            if last or len(waiting) > 1 or field_of(fields, self.step) is not None:
                yield Record(fields, number, (path, self._generations))
            else:
                self._waiting[path] = waiting

    def place(self) -> str:
        return self.pattern

    def absent(self) -> str:
        return "" if self._seen or self._faults else not_written(self.folder, self.pattern)

    def notes(self) -> list[str]:
        return [f"{path.relative_to(self.folder)}: {fault}" for path, fault in self._faults.items()]


def _objects(data: object, above: Mapping[str, object] | None = None) -> Iterator[dict[str, object]]:
    """The records of a document: its lists of objects, one record an object, under the key that the list has."""
    if isinstance(data, list):
        for item in data:
            if isinstance(item, dict):
                yield item
    elif isinstance(data, dict):
        rest = {}
        for key, value in data.items():
            if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
                yield from ({key: item, **item} for item in value)
            else:
                rest[key] = value
        if rest:
            yield rest


def parsed(text: str) -> object:
    """The value of a JSON text, NaN included; None: it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def not_written(folder: Path, what: str) -> str:
    """Message for a file that is missing, with what lies there instead."""
    names = [path.name for path in sorted(folder.glob("*"))]
    more = ", …" if len(names) > MOST_NAMES else ""
    return f"{what} was not written (in the outputs: {', '.join(names[:MOST_NAMES]) or 'nothing'}{more})"
