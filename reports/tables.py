"""The one model of a table, which every renderer prints: declared columns, results, and what is missing and why."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from reports.coverage import Coverage, missing_text, protocol_of
from reports.stats.summary import Summary, summarize
from reports.warehouse import Source, Values, Warehouse, cell_key, quoted, value_query
from study.design import Cell
from study.outputs import ColumnConfig, TableConfig
from study.places import place, split_levels
from study.study import Study

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

    @functools.cached_property
    def protocols(self) -> tuple[str | None, ...]:
        """Protocols of its metrics, None for a pretraining's own."""
        return tuple(sorted({protocol_of(metric) for metric in self.metrics}, key=str))

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
    beside: float | None = None
    """The number that a paper prints at this place, beside ours."""
    printed: str = ""
    """In a paper's table, the number exactly as it is printed."""


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
    printed: bool = False
    """A paper's table as printed: no runs are behind its numbers, and its rows' labels are no levels of factors."""

    @property
    def grouped(self) -> bool:
        """Rows belong together by their first factor: its level is printed once, with a rule above."""
        return len(self.factors) > 1 and not self.printed

    def query(self, row: int, column: int) -> str:
        """The query of one number, ready to be run on the saved warehouse."""
        return self.columns[column].query.replace("$cell", quoted(self.rows[row].entries[column].cell))


def build_tables(
    configs: Mapping[str, TableConfig], study: Study, cells: Sequence[Cell], coverage: Coverage, warehouse: Warehouse
) -> tuple[Table, ...]:
    """Fill declared tables, with one query for all."""
    drafts = [_Draft.of(name, config, study, cells, coverage) for name, config in configs.items()]
    values = warehouse.values(
        (column.metrics for draft in drafts for column in draft.columns),
        (key for draft in drafts for row in draft.slots.values() for key in row.values()),
    )
    return tuple(draft.fill(study, coverage, values) for draft in drafts)


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


@dataclass(frozen=True)
class _Draft:
    """A table without its numbers."""

    name: str
    config: TableConfig
    columns: tuple[Column, ...]
    slots: Mapping[tuple[str, ...], Mapping[str, str]]
    """Row levels -> split level -> key of the cell there."""

    @classmethod
    def of(cls, name: str, config: TableConfig, study: Study, cells: Sequence[Cell], coverage: Coverage) -> _Draft:
        splits = split_levels(config, study.factors, cells)
        columns = [_column(column, split, coverage) for split in splits for column in config.columns]
        slots = {
            row: {split: cell_key(cell) for split, cell in by_split.items()}
            for row, by_split in place(name, config, study.factors, cells).items()
        }
        return cls(name, config, tuple(columns), slots)

    def fill(self, study: Study, coverage: Coverage, values: Values) -> Table:
        config = self.config
        lookups = [(column, values.of(column.metrics)) for column in self.columns]
        entries = {
            levels: tuple(_entry(keys.get(column.split), column, coverage, lookup) for column, lookup in lookups)
            for levels, keys in self.slots.items()
        }
        baseline = tuple((study.baseline or {}).get(factor, "") for factor in config.rows)
        if config.delta and baseline in entries:
            base = entries[baseline]
            entries = {levels: _with_deltas(row, base, levels == baseline) for levels, row in entries.items()}
        rows = tuple(Row(levels, row) for levels, row in _with_best(entries, self.columns).items())
        notes = _notes(config, rows, self.columns)
        return Table(self.name, config.title or self.name, config.rows, config.split, self.columns, rows, notes)


def _entry(key: str | None, column: Column, coverage: Coverage, lookup: Callable[[str], tuple[Source, ...]]) -> Entry:
    """One number or gap, before it is compared with others."""
    if key is None:
        return Entry("", None, 0, missing="–", detail="the study has no such cell")
    tasks = coverage.behind(key, column.protocols)
    if not tasks:
        return Entry(key, None, 0, missing="–", detail="no task of the study measures this here")
    planned = len({task.task.seed for task in tasks})
    sources = lookup(key)
    summary = summarize([source.value for source in sources])
    if summary is not None and summary.n == planned:
        return Entry(key, summary, planned, sources)
    if summary is None and sources:
        return Entry(key, None, planned, sources, missing="diverged", detail="every value is NaN or infinite")
    lacking = [task for task in tasks if task.state != "completed"]
    detail = "; ".join(f"seed {task.task.seed}: {task.text}" for task in lacking)
    missing = "" if summary else missing_text(lacking or tasks)
    return Entry(key, summary, planned, sources, missing=missing, detail=detail)


def _with_deltas(entries: Sequence[Entry], baseline: Sequence[Entry], same: bool) -> tuple[Entry, ...]:
    """Each mean less the mean of the baseline's row in the same column; the baseline has none to itself."""
    return tuple(
        entry
        if same or entry.summary is None or base.summary is None
        else dataclasses.replace(entry, delta=entry.summary.mean - base.summary.mean)
        for entry, base in zip(entries, baseline, strict=True)
    )


def _with_best(
    rows: Mapping[tuple[str, ...], tuple[Entry, ...]], columns: Sequence[Column]
) -> dict[tuple[str, ...], tuple[Entry, ...]]:
    """Mark the largest printed mean of each ranked column that has two numbers or more; ties share the mark."""
    marked = {levels: list(entries) for levels, entries in rows.items()}
    for i, column in enumerate(columns):
        means = {levels: entries[i].summary.mean for levels, entries in rows.items() if entries[i].summary}  # type: ignore[union-attr]
        if not column.ranked or len(means) < 2:
            continue
        largest = max(means.values())
        for levels, mean in means.items():
            # Means that are further apart than a digit cannot look the same.
            if largest - mean <= 10**-column.digits and number(mean, column.digits) == number(largest, column.digits):
                marked[levels][i] = dataclasses.replace(marked[levels][i], best=True)
    return {levels: tuple(entries) for levels, entries in marked.items()}


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
