"""The declared tables: rows and columns of the study's grid, filled with results, compared and explained."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ablative.reports.stats.columns import Compared, compare_rows
from ablative.reports.stats.decide import DIRECTIONS
from ablative.reports.stats.summary import DECIMALS, decimals, summarize
from ablative.reports.store.coverage import Coverage, StoredState, missing_text
from ablative.reports.store.results import Results
from ablative.reports.store.warehouse import Source, Values, cell_key
from ablative.reports.tables.escape import bare
from ablative.reports.tables.notes import same_run_notes, table_notes, tuning_notes
from ablative.reports.tables.printed import block_levels, blocks
from ablative.reports.tables.tables import Column, Entry, Row, Table, Tested, number
from ablative.study.plan.outputs.layout import baseline_row, split_levels, table_layout
from ablative.study.spec.design import DESIGNS
from ablative.study.spec.labels import Label
from ablative.study.spec.outputs import ColumnConfig, TableConfig

PRODUCT = DESIGNS[0]
BLOCK_HEADS = ("Changed", "Level")
"""Heads of the rows of a design around its baseline."""
BASELINE = "baseline"


def build_tables(configs: Mapping[str, TableConfig], results: Results) -> tuple[Table, ...]:
    """Fill declared tables, with one query for all."""
    drafts = [_Draft.of(name, config, results) for name, config in configs.items()]
    values = results.warehouse.values(
        (column.metrics for draft in drafts for column in draft.columns),
        (key for draft in drafts for row in draft.slots.values() for key in row.values()),
    )
    return tuple(draft.fill(results, values) for draft in drafts)


def make_column(config: ColumnConfig, spread: str, results: Results, factor: str = "", split: str = "") -> Column:
    """A declared column, at one level of the split factor."""
    coverage, labels = results.coverage, results.labels
    metrics = coverage.expected(config.metric)
    label = config.label or _label(config.metric)
    shown = labels.column(label) if config.label else labels.quantity(metrics)
    better = coverage.measures.better(metrics) if config.better == "default" else config.better
    ranked, lowest = bool(metrics) and better in DIRECTIONS, better == "lower"
    stages = coverage.measures.stages_of(metrics)
    return Column(
        label,
        config.group,
        split,
        _digits(config, metrics, results),
        metrics,
        ranked,
        lowest,
        spread,
        key=config.key,
        stages=stages,
        heads=(labels.level(factor, split), labels.column(config.group), shown or Label(label)),
    )


def _digits(config: ColumnConfig, metrics: tuple[str, ...], results: Results) -> int:
    """Decimals of a column, the same in all parts of a table and all tables: of what has no unit, as its values are."""
    if config.digits is not None:
        return config.digits
    if not metrics or any(results.coverage.measures.metric(name).unit for name in metrics):
        return DECIMALS
    keys = list(map(cell_key, results.cells))
    lookup = results.warehouse.values([metrics], keys).of(metrics)
    return decimals([[source.value for source in lookup(key)] for key in keys])


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
    def of(cls, name: str, config: TableConfig, results: Results) -> _Draft:
        factors, cells = results.study.factors, results.cells
        splits = split_levels(config, factors, cells)
        columns = [
            make_column(column, config.spread, results, config.split, split)
            for split in splits
            for column in config.columns
        ]
        slots = {
            row: {split: cell_key(cell) for split, cell in by_split.items()}
            for row, by_split in table_layout(name, config, factors, cells).items()
        }
        if results.study.design.kind != PRODUCT:
            slots = {row: slots[row] for row in blocks(list(slots), config.rows, results.study.baseline or {})}
        return cls(name, config, tuple(columns), slots)

    def fill(self, results: Results, values: Values) -> Table:
        config, study, coverage = self.config, results.study, results.coverage
        baseline = baseline_row(config, study.baseline)
        compared = (config.delta or config.relative) and baseline in self.slots
        reference = list(self.slots).index(baseline) if compared else None
        names = [bare(results.labels.cell(dict(zip(config.rows, levels, strict=True)))) for levels in self.slots]
        marks = config.marks or study.report.marks
        planned = functools.cache(functools.partial(_planned, self.slots, coverage))
        filled = [
            _fill(planned(column.split, column.stages), names, column, coverage, values, reference, marks, study.paired)
            for column in self.columns
        ]
        columns = tuple(column for column, _ in filled)
        entries = zip(*(_compared(own, reference, config) for _, own in filled), strict=True)
        rows = tuple(Row(levels, row) for levels, row in zip(self.slots, entries, strict=True))
        shown = dict.fromkeys(entry.cell for row in rows for entry in row.entries if entry.summary)
        tuned = tuning_notes((coverage.tuned[cell] for cell in shown if cell in coverage.tuned), results.labels)
        same = same_run_notes(config.rows, self.slots, config.split, results)
        notes = (*table_notes(config, rows, columns), *tuned, *same)
        table = Table(self.name, config.title or self.name, config.rows, config.split, columns, rows, notes)
        return _labelled(table, results)


class _Planned(NamedTuple):
    """What the study plans for one number."""

    key: str | None
    """Key of its cell; None: the study has no such cell."""
    tasks: Sequence[StoredState]
    """The tasks behind it."""
    seeds: int


def _planned(
    slots: Mapping[tuple[str, ...], Mapping[str, str]], coverage: Coverage, split: str, stages: tuple[str, ...]
) -> list[_Planned]:
    """What is planned for each row of a column; columns of the same stages have it alike."""
    keys = [by_split.get(split) for by_split in slots.values()]
    behind = [coverage.behind(key, stages) if key else () for key in keys]
    return [_Planned(key, own, len({state.task.seed for state in own})) for key, own in zip(keys, behind, strict=True)]


def _fill(
    rows: Sequence[_Planned],
    names: Sequence[str],
    column: Column,
    coverage: Coverage,
    values: Values,
    baseline: int | None,
    marks: str,
    paired: bool,
) -> tuple[Column, list[Entry]]:
    """A column's entries, compared with each other, and the column with the method that compared them.

    `names`: of the rows, as they are printed.
    """
    lookup = values.of(column.metrics)
    sources = [lookup(row.key) if row.key and row.tasks else () for row in rows]
    matrix = _matrix(sources)
    exact = coverage.measures.exact(column.metrics)
    compared = compare_rows(
        matrix, lambda mean: number(mean, column.digits), column.order, baseline, paired, marks, exact
    )
    tested = [None if test is None else Tested(test, names, column.digits) for test in compared.tests]
    entries = [
        _entry(row, own, compared, i, tested[i]) if own and row.tasks else _gap(row, coverage)
        for i, (row, own) in enumerate(zip(rows, sources, strict=True))
    ]
    return column.compared(compared), entries


def _compared(entries: Sequence[Entry], reference: int | None, config: TableConfig) -> list[Entry]:
    """Entries with what the table asks for of their comparison with the baseline: difference, ratio, or both."""
    base = entries[reference].summary if reference is not None else None
    kept = entries
    if reference is not None and not config.delta:
        kept = [dataclasses.replace(entry, delta=None, error=None) for entry in entries]
    if not config.relative or base is None or not base.mean:
        return list(kept)
    return [
        dataclasses.replace(entry, ratio=entry.summary.mean / base.mean) if entry.summary and i != reference else entry
        for i, entry in enumerate(kept)
    ]


def _labelled(table: Table, results: Results) -> Table:
    """The table with what is printed in place of its factors and levels; around a baseline, a block for each factor."""
    labels, study = results.labels, results.study
    heads: tuple[str, ...] = tuple(labels.factor(name) for name in table.factors)
    split_head = labels.factor(table.split) if table.split else ""
    texts = [
        {name: labels.level(name, level) for name, level in zip(table.factors, row.levels, strict=True)}
        for row in table.rows
    ]
    shown = [tuple(own[name] if own[name] else "" for name in table.factors) for own in texts]
    if study.design.kind != PRODUCT and len(table.factors) > 1:
        base = study.baseline or {}
        changed = list(blocks([row.levels for row in table.rows], table.factors, base).values())
        heads = BLOCK_HEADS
        shown = [
            (labels.factor(name) if name else BASELINE, block_levels(row, table.factors, name, base, own))
            for row, name, own in zip(table.rows, changed, texts, strict=True)
        ]
    rows = tuple(dataclasses.replace(row, labels=own) for row, own in zip(table.rows, shown, strict=True))
    return dataclasses.replace(table, rows=rows, heads=heads, split_head=split_head)


def _matrix(sources: Sequence[Sequence[Source]]) -> NDArray[np.float64]:
    """Values (rows, seeds), NaN where missing."""
    seeds = {seed: i for i, seed in enumerate(sorted({source.seed for own in sources for source in own}))}
    values = np.full((len(sources), len(seeds)), np.nan)
    for row, own in enumerate(sources):
        for source in own:
            values[row, seeds[source.seed]] = source.value
    return values


def _gap(row: _Planned, coverage: Coverage) -> Entry:
    """A number that is missing for every seed, and why."""
    key, tasks, planned = row
    if key is None:
        return Entry("", None, 0, missing="–", detail="the study has no such cell")
    if key in coverage.searched:
        return Entry(key, None, 0, missing="waiting", detail=coverage.searched[key])
    if not tasks:
        return Entry(key, None, 0, missing="–", detail="no task of the study measures this here")
    lacking = [task for task in tasks if task.state != "completed"]
    return Entry(key, None, planned, missing=missing_text(lacking or tasks), detail=_detail(lacking))


def _entry(
    planned: _Planned, sources: tuple[Source, ...], compared: Compared, row: int, tested: Tested | None
) -> Entry:
    """A number with what its column's comparison says of it."""
    key, tasks, seeds = planned.key or "", planned.tasks, planned.seeds
    summary = summarize([source.value for source in sources])
    if summary is None:
        return Entry(key, None, seeds, sources, missing="diverged", detail="every value is NaN or infinite")
    lacking = [task for task in tasks if task.state != "completed"] if summary.n < seeds else []
    delta = compared.deltas[row]
    return Entry(
        key,
        summary,
        seeds,
        sources,
        delta.estimate if delta else None,
        compared.best[row],
        detail=_detail(lacking),
        ci_half_width=compared.halves[row],
        error=delta,
        tested=tested,
    )


def _detail(lacking: Sequence[StoredState]) -> str:
    return "; ".join(f"seed {task.task.seed}: {task.text}" for task in lacking)
