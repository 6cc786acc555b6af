"""The one model of a table, which every renderer prints: declared columns, results, and what is missing and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reports.coverage import Coverage, missing_text, protocol_of
from reports.statistics import Summary, summarize
from reports.warehouse import Source, Warehouse, cell_key, quoted, value_query
from study.errors import ConfigError
from study.outputs import ColumnConfig, TableConfig
from study.study import Study

Cell = dict[str, str]

UNRANKED = ("chance", "majority")
"""Metrics that no model is better at."""


@dataclass(frozen=True)
class Column:
    """One printed column."""

    label: str
    group: str
    """Header over neighbouring columns, or empty."""
    split: str
    """Level of the split factor, or empty."""
    digits: int
    metrics: tuple[str, ...]
    """The tasks that it averages over."""
    ranked: bool
    """Larger is better, so that the largest mean is bold."""

    @property
    def name(self) -> str:
        """How `ablate why` addresses it: every header above it."""
        return " / ".join(part for part in (self.split, self.group, self.label) if part)

    @property
    def query(self) -> str:
        """The query of its numbers, with the parameter `$cell`."""
        return value_query(self.metrics)


@dataclass(frozen=True)
class Entry:
    """One number of a table, or why it is missing."""

    cell: str
    """Key of the cell in the marts; empty where the study has no such cell."""
    summary: Summary | None
    planned: int
    """Seeds that the study plans."""
    sources: tuple[Source, ...] = ()
    delta: float | None = None
    best: bool = False
    missing: str = ""
    """State that explains the lack of a number; a dash where there can be none."""
    detail: str = ""
    """State of every seed that lacks."""


@dataclass(frozen=True)
class Row:
    levels: tuple[str, ...]
    """Level of each row factor; empty where the factor does not apply."""
    entries: tuple[Entry, ...]

    @property
    def name(self) -> str:
        return ", ".join(level for level in self.levels if level) or "all"


@dataclass(frozen=True)
class Table:
    """Rows, columns, numbers and their provenance."""

    name: str
    title: str
    factors: tuple[str, ...]
    """The row factors."""
    split: str
    """The split factor, or empty."""
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]

    def query(self, row: int, column: int) -> str:
        """The query of one number, ready to be run on the saved warehouse."""
        return self.columns[column].query.replace("$cell", quoted(self.rows[row].entries[column].cell))


def build_table(
    name: str, config: TableConfig, study: Study, cells: Sequence[Cell], coverage: Coverage, warehouse: Warehouse
) -> Table:
    """Fill a declared table. Raises ConfigError where two cells of the study would share a place."""
    kept = [cell for cell in cells if keep(cell, config.where)]
    splits = [level for level in study.factors.get(config.split, ()) if any(c.get(config.split) == level for c in kept)]
    columns = tuple(_column(column, split, coverage) for split in splits or [""] for column in config.columns)
    slots = _slots(name, config, study, kept, splits)
    values = warehouse.values([column.metrics for column in columns])
    rows = [
        Row(levels, tuple(_entry(by_split.get(c.split), i, c, coverage, values) for i, c in enumerate(columns)))
        for levels, by_split in slots.items()
    ]
    if config.delta:
        rows = _with_deltas(rows, tuple((study.baseline or {}).get(factor, "") for factor in config.rows))
    rows = _with_best(rows, columns)
    notes = _notes(config, rows, columns)
    return Table(name, config.title or name, config.rows, config.split, columns, tuple(rows), notes)


def keep(cell: Mapping[str, str], where: Mapping[str, Sequence[str]]) -> bool:
    """Whether a cell has the wanted levels; a factor that it lacks does not exclude it."""
    return all(cell.get(factor, None) in (None, *levels) for factor, levels in where.items())


def number(value: float, digits: int, sign: bool = False) -> str:
    """A number as it is printed; a rounded zero has no minus sign.

    >>> number(-0.04, 1), number(1.25, 1, sign=True)
    ('0.0', '+1.2')
    """
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    return text if float(text) != 0 else ("+" if sign else "") + f"{0:.{digits}f}"


def _column(config: ColumnConfig, split: str, coverage: Coverage) -> Column:
    metrics = coverage.expected(config.metric)
    label = config.label or _label(config.metric)
    ranked = all(protocol_of(name) and name.rpartition("/")[2] not in UNRANKED for name in metrics)
    return Column(label, config.group, split, config.digits, metrics, bool(metrics) and ranked)


def _label(patterns: Sequence[str]) -> str:
    """`zero_shot/shapes_color/top1` -> `shapes_color top1`; several patterns are joined."""
    return " + ".join(pattern.partition("/")[2].replace("/", " ") for pattern in patterns)


def _slots(
    name: str, config: TableConfig, study: Study, cells: Sequence[Cell], splits: Sequence[str]
) -> dict[tuple[str, ...], dict[str, Cell]]:
    """Row levels -> split level -> the cell there; rows by the order of levels in the study."""
    slots: dict[tuple[str, ...], dict[str, Cell]] = {}
    for cell in sorted(cells, key=lambda cell: [_rank(study, cell, factor) for factor in config.rows]):
        row = slots.setdefault(tuple(cell.get(factor, "") for factor in config.rows), {})
        # A cell to which the split factor does not apply is the same at each of its levels.
        for split in [cell[config.split]] if config.split in cell else splits or [""]:
            if split in row:
                raise ConfigError(_clash(name, config, row[split], cell))
            row[split] = cell
    return slots


def _rank(study: Study, cell: Cell, factor: str) -> int:
    levels = study.factors[factor]
    return levels.index(cell[factor]) if factor in cell else -1


def _clash(name: str, config: TableConfig, one: Cell, other: Cell) -> str:
    differ = [factor for factor in {**one, **other} if one.get(factor) != other.get(factor)]
    row = ", ".join(one[factor] for factor in config.rows if factor in one)
    levels = " and ".join(
        ", ".join(f"{f}={cell[f]}" for f in differ if f in cell) or "neither" for cell in (one, other)
    )
    return (
        f"table '{name}': row '{row}' stands for several cells ({levels}); add {' or '.join(differ)} to its rows or "
        "split, or choose one level in where"
    )


def _entry(
    cell: Cell | None,
    position: int,
    column: Column,
    coverage: Coverage,
    values: Mapping[tuple[str, int], tuple[Source, ...]],
) -> Entry:
    if cell is None:
        return Entry("", None, 0, missing="–", detail="the study has no such cell")
    key = cell_key(cell)
    tasks = coverage.behind(cell, column.metrics)
    seeds = {task.task.seed for task in tasks}
    sources = tuple(source for source in values.get((key, position), ()) if source.seed in seeds)
    summary = summarize([source.value for source in sources])
    if summary is None and sources:
        return Entry(key, None, len(seeds), sources, missing="diverged", detail="every value is NaN or infinite")
    lacking = [task for task in tasks if task.state != "completed"]
    detail = "; ".join(f"seed {task.task.seed}: {task.text}" for task in lacking)
    if not tasks:
        detail = "no task of the study measures this here"
    missing = missing_text(lacking or tasks) if summary is None else ""
    return Entry(key, summary, len(seeds), sources, missing=missing, detail=detail)


def _with_deltas(rows: Sequence[Row], baseline: tuple[str, ...]) -> list[Row]:
    """Each mean less the mean of the baseline's row in the same column."""
    reference = next((row for row in rows if row.levels == baseline), None)
    if reference is None:
        return list(rows)

    def delta(entry: Entry, base: Entry) -> Entry:
        if entry.summary is None or base.summary is None:
            return entry
        return dataclasses.replace(entry, delta=entry.summary.mean - base.summary.mean)

    return [
        row
        if row is reference
        else Row(row.levels, tuple(delta(*pair) for pair in zip(row.entries, reference.entries, strict=True)))
        for row in rows
    ]


def _with_best(rows: Sequence[Row], columns: Sequence[Column]) -> list[Row]:
    """Mark the largest printed mean of each ranked column that has two numbers or more; ties share the mark."""
    best: dict[int, str] = {}
    for i, column in enumerate(columns):
        means = [row.entries[i].summary.mean for row in rows if row.entries[i].summary]  # type: ignore[union-attr]
        if column.ranked and len(means) > 1:
            best[i] = number(max(means), column.digits)

    def mark(i: int, entry: Entry) -> Entry:
        same = i in best and entry.summary and number(entry.summary.mean, columns[i].digits) == best[i]
        return dataclasses.replace(entry, best=True) if same else entry

    return [Row(row.levels, tuple(mark(i, entry) for i, entry in enumerate(row.entries))) for row in rows]


def _notes(config: TableConfig, rows: Sequence[Row], columns: Sequence[Column]) -> tuple[str, ...]:
    entries = [entry for row in rows for entry in row.entries]
    counts = sorted({entry.summary.n for entry in entries if entry.summary})
    notes = [config.note] if config.note else []
    if counts == [1]:
        notes.append("One seed (n = 1): no spread can be given.")
    elif counts:
        seeds = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
        notes.append(f"Mean ± sample standard deviation over seeds ({seeds}).")
    if any(entry.summary and entry.summary.n < entry.planned for entry in entries):
        notes.append("(k/m): k of m planned seeds.")
    if any(len(column.metrics) > 1 for column in columns):
        notes.append("Columns of several tasks: each seed's mean over all of them, only where it has every one.")
    if any(entry.delta is not None for entry in entries):
        notes.append("Signed numbers: difference of the means to the baseline's row.")
    if any(entry.best for entry in entries):
        notes.append("Bold: the largest mean of the column, which says nothing about significance.")
    if any(entry.missing == "–" for entry in entries):
        notes.append("–: does not exist.")
    return tuple(notes)
