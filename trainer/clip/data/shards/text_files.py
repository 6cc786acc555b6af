"""Text files and tables as people have them: encodings, separators, headers, quotes.

No line of a table is lost: each record is a row or a `BadRow`, which says what is wrong with it and in which line.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablative.study.core.errors import ConfigError, DataError

SEPARATORS = {"comma": ",", "tab": "\t", "semicolon": ";", "pipe": "|"}
"""Names that `--separator` takes, as it takes the signs themselves."""
_MARKS = ((b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
"""Byte order marks → encoding."""
_LONGEST = 200
"""Lines of the longest quoted field: a quote that is open for longer is a sign like others."""
_LINE = re.compile("[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+")
_NUMBER = re.compile(r"#\d+$")
_EXCEL = re.compile(r"sep=(.)")
"""First line with which Excel names the separator."""


@dataclass(frozen=True)
class BadRow:
    """A record that is no row."""

    problem: str
    """The file, the line and what is wrong there."""


Row = dict[str, Any] | BadRow


def read_text(path: Path) -> str:
    """Content of a text file: UTF-8 with or without a byte order mark, UTF-16 and UTF-32 with one.

    Raises:
        OSError: the file cannot be read.
        DataError: it has another encoding; the message says where, and how to convert the file.
    """
    content = path.read_bytes()
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8-sig")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8-sig":
            raise DataError(f"{path}: damaged {encoding.upper()} ({error.reason} at byte {error.start})") from None
        line = content[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path}:{line}: no UTF-8 (byte 0x{content[error.start]:02x}); if it is Latin-1, convert it: "
            f"iconv -f LATIN1 -t UTF-8 {path.name}"
        ) from None
    if "\0" in text[:1000]:
        raise DataError(f"{path}: holds zero bytes; is it UTF-16? iconv -f UTF-16LE -t UTF-8 {path.name}")
    return text


def separator_of(word: str | None) -> str | None:
    """The sign that a word for `--separator` means; raises ConfigError where it means none."""
    if word is None or len(word) == 1:
        return word
    found = {**SEPARATORS, "\\t": "\t"}.get(word.lower())
    if found is None:
        raise ConfigError(f"--separator: '{word}' is no sign; expected one character, or {', '.join(SEPARATORS)}")
    return found


class Table:
    """A table with a header: CSV, TSV, or with `;` or `|` between the fields."""

    def __init__(self, path: Path, separator: str | None, wanted: Sequence[Sequence[str]], suffixes: tuple[str, ...]):
        """Reads the file, finds the separator and the header.

        Args:
            separator: without one, the sign under which the header has most of `wanted`, or else most columns.
            wanted: what a header has: lists of names in lower case, of each list one.
            suffixes: of image files, in lower case. A table whose first line is a file name and one field for each
                other list has no header (Flickr8k's tokens); its columns are called as the first names in `wanted`.
        """
        csv.field_size_limit(1 << 24)
        self.path, self._wanted, self._suffixes = path, wanted, suffixes
        self._lines = lines_of(read_text(path))
        if self._lines and (excel := _EXCEL.fullmatch(self._lines[0].strip())):
            separator = separator or excel[1]
            self._lines[0] = ""
        self._start = next((i for i, line in enumerate(self._lines) if line.strip()), len(self._lines))
        usual = "\t" if path.suffix.lower() == ".tsv" else ","
        signs = [separator] if separator else sorted(SEPARATORS.values(), key=lambda sign: sign != usual)
        self.separator = max(signs, key=lambda sign: self._fit(self._header(sign)[0]))
        header, taken = self._header(self.separator)
        self.headless = self._is_headless(header)
        self.columns = [names[0] for names in wanted] if self.headless else _unique(self._trimmed(header), path)
        self._start += 0 if self.headless else taken

    def rows(self) -> Iterator[tuple[str, Row]]:
        """Place (file and line) and row of each record; empty lines are none."""
        i = self._start
        while i < len(self._lines):
            if not self._lines[i].strip():
                i += 1
                continue
            fields, taken = self._record(i, self.separator, len(self.columns))
            where = f"{self.path}:{i + 1}"
            yield where, self._row(self._trimmed(fields), where)
            i += taken

    def _row(self, fields: list[str], where: str) -> Row:
        if any(field.strip() for field in fields[len(self.columns) :]):
            return BadRow(
                f"{where}: {len(fields)} fields, but the header has {len(self.columns)}; "
                f"a field that holds {self.separator!r} needs quotes"
            )
        # A field that is not there is None, as in csv.DictReader.
        values = [*fields, *[None] * (len(self.columns) - len(fields))]
        return dict(zip(self.columns, values, strict=False))

    def _fit(self, header: list[str]) -> tuple[int, bool, int]:
        """How well a header fits: of how many lists it has a name, whether it is a row itself, how many columns."""
        names = {name.strip().lower() for name in header}
        return sum(not names.isdisjoint(allowed) for allowed in self._wanted), self._is_headless(header), len(header)

    def _is_headless(self, header: list[str]) -> bool:
        return len(header) == len(self._wanted) and file_of(header[0]).lower().endswith(self._suffixes)

    def _trimmed(self, fields: list[str]) -> list[str]:
        """Fields less the spaces that people write around `|` and `;`."""
        return [field.strip() for field in fields] if self.separator in ";|" else fields

    def _header(self, separator: str) -> tuple[list[str], int]:
        return self._record(self._start, separator, 0) if self._start < len(self._lines) else ([], 0)

    def _record(self, i: int, separator: str, columns: int) -> tuple[list[str], int]:
        """Fields of the record that begins in line i, and how many lines it takes.

        Quotes count as in RFC 4180. Where those of a line fit nothing (text after a closing quote, one that is never
        closed, or closed in another row), they are signs like others and the line is a record by itself.
        """
        line = self._lines[i].rstrip("\r\n")
        if '"' not in line:
            return line.split(separator), 1
        for spaced in (False, True):  # `a.jpg, "two, dogs"`: quotes after a space, which RFC 4180 does not know
            reader = csv.reader(self._from(i), delimiter=separator, strict=True, skipinitialspace=spaced)
            try:
                fields, taken = next(reader), reader.line_num
            except csv.Error:
                continue
            swallowed = any(self._is_row(self._lines[k], separator, columns) for k in range(i + 1, i + taken))
            if not columns or (len(fields) <= columns and not swallowed):
                return fields, taken
        return line.split(separator), 1

    def _from(self, i: int) -> Iterator[str]:
        return (self._lines[k] for k in range(i, min(i + _LONGEST, len(self._lines))))

    def _is_row(self, line: str, separator: str, columns: int) -> bool:
        """Whether a line within a quoted field looks like another row: as many fields, one of them a file name."""
        fields = line.split(separator)
        named = any(file_of(field).lower().endswith(self._suffixes) for field in fields)
        return columns > 1 and len(fields) >= columns and named


def file_of(field: str) -> str:
    """A file name without the number of the caption that Flickr's lists put behind it: `1.jpg#3`."""
    return _NUMBER.sub("", field.strip())


def lines_of(text: str) -> list[str]:
    """Lines with their ends, which are those of files alone: captions may hold Unicode's other line separators."""
    return _LINE.findall(text)


def _unique(header: list[str], path: Path) -> list[str]:
    """The header's names; columns without a name but the first are numbered. Raises ConfigError for a name twice."""
    for place, name in enumerate(header):
        if name and name in header[:place]:
            raise ConfigError(
                f"{path}: the header has the column '{name}' twice (columns {header.index(name) + 1} and {place + 1}); "
                "rename one of them"
            )
    return [name or (f"column {place + 1}" if "" in header[:place] else "") for place, name in enumerate(header)]
