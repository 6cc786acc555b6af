"""The one model of a table, which every renderer prints: declared columns, results, and what is missing and why."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ablative.reports.stats.columns import Compared, Delta, compare_rows
from ablative.reports.stats.summary import Summary, summarize
from ablative.reports.store.coverage import Coverage, TaskState, missing_text
from ablative.reports.store.warehouse import Source, Values, Warehouse, cell_key, quoted, value_query
from ablative.reports.tables.notes import table_notes, tuning_notes
from ablative.study.plan.layout import split_levels, table_layout
from ablative.study.spec.design import Cell
from ablative.study.spec.metric_patterns import protocol_of
from ablative.study.spec.outputs import ColumnConfig, TableConfig
from ablative.study.spec.study_file import Study

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
    """One end is better, so that the best mean is bold."""
    lowest: bool = False
    """Smaller is better."""
    spread: str = "sd"
    """What stands after ±: `sd` over seeds, or `ci`, half the 95 % interval of the mean."""
    method: str = ""
    """How its rows were compared; empty where one seed allows no test."""
    pooled: bool = False
    """Its cells' intervals rest on the spread of all of them."""
    key: str = ""
    """Its part of the keys of its numbers, in place of group and label."""

    @functools.cached_property
    def protocols(self) -> tuple[str | None, ...]:
        """Protocols of its metrics, None for a pretraining's own."""
        return tuple(sorted({protocol_of(metric) for metric in self.metrics}, key=str))

    @property
    def order(self) -> int:
        """1 where larger is better, -1 where smaller is, 0 where neither."""
        return (-1 if self.lowest else 1) if self.ranked else 0

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
    """With two seeds or more: not distinguishable from the column's best mean; else, the best mean as printed."""
    missing: str = ""
    """State that explains the lack of a number; a dash where there can be none."""
    detail: str = ""
    """State of every seed that lacks."""
    beside: float | None = None
    """The number that a paper prints at this place, beside ours."""
    printed: str = ""
    """The text of the number, where it is given whole: in a paper's table, and of effects."""
    second: bool = False
    """Best of those that are not bold, and told apart from the others."""
    half: float | None = None
    """Half the 95 % interval of the mean; None for a single seed."""
    error: Delta | None = None
    """The difference to the baseline with its interval."""
    marks: str = ""
    """Signs of what keeps it from being final (`reports.provenance.findings.SIGNS`)."""


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
    """Its numbers stand as they are printed (a paper's, or effects of a whole grid): no cell's runs are behind one, and
    its rows' labels are no levels of factors."""
    sql: str = ""
    """The user's query, whose rows these are."""

    @property
    def grouped(self) -> bool:
        """Rows belong together by their first factor: its level is printed once, with a rule above."""
        return len(self.factors) > 1 and not self.printed

    def query(self, row: int, column: int) -> str:
        """The query of one number, ready to be run on the saved warehouse."""
        if self.sql:
            return self.sql
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


def make_column(config: ColumnConfig, split: str, spread: str, coverage: Coverage) -> Column:
    """A declared column, at one level of the split factor."""
    metrics = coverage.expected(config.metric)
    label = config.label or _label(config.metric)
    usual = all(protocol_of(name) and name.rpartition("/")[2] not in UNRANKED for name in metrics)
    ranked = bool(metrics) and (usual if config.better == "default" else config.better != "neither")
    lowest = config.better == "lower"
    return Column(label, config.group, split, config.digits, metrics, ranked, lowest, spread, key=config.key)


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
        columns = [make_column(column, split, config.spread, coverage) for split in splits for column in config.columns]
        slots = {
            row: {split: cell_key(cell) for split, cell in by_split.items()}
            for row, by_split in table_layout(name, config, study.factors, cells).items()
        }
        return cls(name, config, tuple(columns), slots)

    def fill(self, study: Study, coverage: Coverage, values: Values) -> Table:
        config = self.config
        baseline = tuple((study.baseline or {}).get(factor, "") for factor in config.rows)
        reference = list(self.slots).index(baseline) if config.delta and baseline in self.slots else None
        filled = [
            _fill([keys.get(column.split) for keys in self.slots.values()], column, coverage, values, reference)
            for column in self.columns
        ]
        columns = tuple(column for column, _ in filled)
        entries = zip(*(own for _, own in filled), strict=True)
        rows = tuple(Row(levels, row) for levels, row in zip(self.slots, entries, strict=True))
        shown = dict.fromkeys(entry.cell for row in rows for entry in row.entries if entry.summary)
        tuned = tuning_notes(coverage.tuned[cell] for cell in shown if cell in coverage.tuned)
        notes = (*table_notes(config, rows, columns), *tuned)
        return Table(self.name, config.title or self.name, config.rows, config.split, columns, rows, notes)


def _fill(
    keys: Sequence[str | None], column: Column, coverage: Coverage, values: Values, baseline: int | None
) -> tuple[Column, list[Entry]]:
    """A column's entries, compared with each other, and the column with the method that compared them."""
    lookup = values.of(column.metrics)
    behind = [coverage.behind(key, column.protocols) if key else () for key in keys]
    sources = [lookup(key) if key and tasks else () for key, tasks in zip(keys, behind, strict=True)]
    compared = compare_rows(_matrix(sources), lambda mean: number(mean, column.digits), column.order, baseline)
    entries = [
        _gap(key, tasks, coverage) if not own or not tasks else _entry(key or "", tasks, own, compared, i)
        for i, (key, tasks, own) in enumerate(zip(keys, behind, sources, strict=True))
    ]
    return dataclasses.replace(column, method=compared.method, pooled=compared.pooled), entries


def _matrix(sources: Sequence[Sequence[Source]]) -> NDArray[np.float64]:
    """Values (rows, seeds), NaN where missing."""
    seeds = {seed: i for i, seed in enumerate(sorted({source.seed for own in sources for source in own}))}
    values = np.full((len(sources), len(seeds)), np.nan)
    for row, own in enumerate(sources):
        for source in own:
            values[row, seeds[source.seed]] = source.value
    return values


def _gap(key: str | None, tasks: Sequence[TaskState], coverage: Coverage) -> Entry:
    """A number that is missing for every seed, and why."""
    if key is None:
        return Entry("", None, 0, missing="–", detail="the study has no such cell")
    if key in coverage.searched:
        return Entry(key, None, 0, missing="waiting", detail=coverage.searched[key])
    if not tasks:
        return Entry(key, None, 0, missing="–", detail="no task of the study measures this here")
    lacking = [task for task in tasks if task.state != "completed"]
    return Entry(key, None, _planned(tasks), missing=missing_text(lacking or tasks), detail=_detail(lacking))


def _entry(key: str, tasks: Sequence[TaskState], sources: tuple[Source, ...], compared: Compared, row: int) -> Entry:
    """A number with what its column's comparison says of it."""
    summary, planned = summarize([source.value for source in sources]), _planned(tasks)
    if summary is None:
        return Entry(key, None, planned, sources, missing="diverged", detail="every value is NaN or infinite")
    lacking = [task for task in tasks if task.state != "completed"] if summary.n < planned else []
    delta = compared.deltas[row]
    return Entry(
        key,
        summary,
        planned,
        sources,
        delta.estimate if delta else None,
        compared.best[row],
        detail=_detail(lacking),
        second=compared.second[row],
        half=compared.halves[row],
        error=delta,
    )


def _planned(tasks: Sequence[TaskState]) -> int:
    return len({task.task.seed for task in tasks})


def _detail(lacking: Sequence[TaskState]) -> str:
    return "; ".join(f"seed {task.task.seed}: {task.text}" for task in lacking)
