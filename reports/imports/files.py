"""Tables of runs in files: CSV as W&B and others export it, and Parquet."""

from __future__ import annotations

import csv
import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ablative.reports.imports.rows import Row, SourceTable, is_missing
from ablative.study.core.errors import ConfigError, unknown
from ablative.study.syntax.yaml_text import shown

STATE = "State"
"""Column in which W&B says how far a run is."""
WANDB_STATES = {"finished", "crashed", "failed", "killed", "running", "pending", "preempting", "preempted"}
_SEPARATORS = (",", ";", "\t")
_LONGEST_CELL = 2**24


def read_files(kind: str, places: Sequence[str], folder: Path, at: str) -> SourceTable:
    """All rows of the files that paths and patterns mean; raises ConfigError.

    Args:
        kind: csv or parquet.
        places: paths and patterns.
        folder: where relative ones begin.
        at: the study's key, for messages.
    """
    found: dict[str, None] = {}
    rows: list[Row] = []
    for file in _files(places, folder, at):
        columns, values = (_csv if kind == "csv" else _parquet)(file)
        found |= dict.fromkeys(columns)
        rows += _rows(file, values)
    words = {row.values.get(STATE) for row in rows}
    if not rows or not words <= WANDB_STATES:
        return SourceTable(", ".join(places), tuple(found), tuple(rows))
    return SourceTable(", ".join(places), tuple(found), tuple(map(_with_state, rows)), frozenset([STATE]))


def _with_state(row: Row) -> Row:
    word = str(row.values[STATE])
    return Row(row.place, row.values, row.run, row.link, "" if word == "finished" else word)


def _files(places: Sequence[str], folder: Path, at: str) -> list[Path]:
    found: dict[Path, None] = {}
    for place in places:
        path = folder / Path(place).expanduser()
        names = [str(path)] if path.is_file() else sorted(glob.glob(str(path), recursive=True))
        files = [Path(name) for name in names if Path(name).is_file()]
        if not files:
            parent = path.parent
            near = [name for name in os.listdir(parent) if name.endswith(path.suffix)] if parent.is_dir() else []
            raise ConfigError(unknown("file", path.name, near, f"{at}: in {shown(parent)}"))
        found |= dict.fromkeys(files)
    return list(found)


def _rows(file: Path, lines: Iterable[tuple[int, dict[str, object]]]) -> Iterator[Row]:
    for line, values in lines:
        name = next((str(values[key]) for key in ("ID", "id", "run_id") if key in values), "")
        called = f" ({values['Name']})" if values.get("Name") else ""
        yield Row(f"{shown(file)}:{line}{called}", values, name)


def _csv(file: Path) -> tuple[Sequence[str], list[tuple[int, dict[str, object]]]]:
    csv.field_size_limit(_LONGEST_CELL)
    found: list[tuple[int, dict[str, object]]] = []
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            first = lines.readline()
            lines.seek(0)
            reader = csv.reader(lines, delimiter=max(_SEPARATORS, key=first.count))
            columns = next(reader, [])
            if not columns:
                raise ConfigError(f"{shown(file)}: empty; its first line names the columns")
            if twice := next((name for name in columns if name and columns.count(name) > 1), ""):
                raise ConfigError(f"{shown(file)}:1: column '{twice}' is there twice")
            line = reader.line_num + 1
            for cells in reader:
                if len(cells) > len(columns):
                    raise ConfigError(f"{shown(file)}:{line}: {len(cells)} cells, and {len(columns)} columns")
                if cells:
                    pairs = zip(columns, cells, strict=False)
                    found.append((line, {name: cell for name, cell in pairs if not is_missing(cell)}))
                line = reader.line_num + 1
    except UnicodeDecodeError as error:
        raise ConfigError(f"{shown(file)}: not UTF-8 text (byte {error.start})") from None
    except csv.Error as error:
        raise ConfigError(f"{shown(file)}: not CSV: {error}") from None
    return columns, found


def _parquet(file: Path) -> tuple[Sequence[str], list[tuple[int, dict[str, object]]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise ConfigError(f"{shown(file)}: not Parquet: {' '.join(str(error).split())}") from None
    rows = enumerate(table.to_pylist(), 1)
    return table.column_names, [(i, {name: v for name, v in row.items() if not is_missing(v)}) for i, row in rows]
