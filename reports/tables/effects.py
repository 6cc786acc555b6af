"""Tables of what a grid says as a whole: which factor moves which metric by how much, and how arms do on a suite.

They are tables like others, whose numbers are texts: `reports.tables.renderers` prints them.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ablative.reports.stats.columns import Delta
from ablative.reports.stats.decide import ALPHA
from ablative.reports.stats.factorial import Analysis, Contrast, analyse, full_grid
from ablative.reports.stats.suite import Aggregate, aggregate, improves, interquartile_mean, suite_mean
from ablative.reports.stats.summary import Summary
from ablative.reports.store.labels import Labels
from ablative.reports.store.results import Results
from ablative.reports.store.warehouse import Values, cell_key
from ablative.reports.tables.grid_tables import make_column
from ablative.reports.tables.tables import Column, Entry, Row, Table, number
from ablative.study.core.plurals import counted
from ablative.study.plan.outputs.layout import effects_layout
from ablative.study.spec.design import Cell
from ablative.study.spec.labels import Label, joined
from ablative.study.spec.outputs import EffectsConfig
from ablative.study.spec.study_file import Study

Grid = Mapping[tuple[str, ...], Mapping[int, float]]
"""Levels -> seed -> value."""


def effects_tables(results: Results, names: Collection[str]) -> tuple[Table, ...]:
    """The declared effects of these names, with one query for all."""
    declared = {name: config for name, config in results.study.effects.items() if name in names}
    columns = {
        name: [make_column(column, "sd", results) for column in config.columns] for name, config in declared.items()
    }
    places = {name: effects_layout(name, config, results.cells) for name, config in declared.items()}
    groups = [column.metrics for own in columns.values() for column in own]
    values = results.warehouse.values(
        [*groups, *((metric,) for group in groups for metric in group)],
        (cell_key(cell) for own in places.values() for cell in own.values()),
    )
    kinds = {"factors": _factors, "suite": _suite}
    return tuple(
        kinds[config.kind](name, config, results, columns[name], places[name], values)
        for name, config in declared.items()
    )


def _seeds(values: Values, group: tuple[str, ...], cell: Cell) -> dict[int, float]:
    return {source.seed: source.value for source in values.of(group)(cell_key(cell)) if np.isfinite(source.value)}


def _factors(
    name: str,
    config: EffectsConfig,
    results: Results,
    columns: Sequence[Column],
    places: Mapping[tuple[str, ...], Cell],
    values: Values,
) -> Table:
    """A row for each contrast of levels and for each factor's and interaction's share of the variance."""
    study, labels = results.study, results.labels
    levels = grid_levels(config, study, places)
    found: list[dict[str, Entry]] = []
    shown: dict[str, Label] = {}
    notes = [config.note]
    for column in columns:
        analysis = analysis_of(column.metrics, levels, places, values, study)
        if analysis is None:
            found.append({})
            notes.append(f"{column.title}: no full grid of results yet.")
            continue
        grid = analysis.grid
        found.append(_entries(analysis, column))
        shown |= _shown(analysis, labels)
        sizes = " × ".join(f"{labels.factor(factor)} ({len(own)})" for factor, own in grid.levels.items())
        gone = (each.partition("=")[::2] for each in grid.left_out)
        lacking = ", ".join(f"{labels.factor(factor)}: {labels.level(factor, level)}" for factor, level in gone)
        left = f"; left out, since results are missing: {lacking}" if lacking else ""
        notes.append(f"{column.title}: {sizes}, {counted(len(grid.seeds), 'seed')}{left}.")
    rows = _rows(found, ("effect",), shown)
    return Table(name, config.title or name, ("effect",), "", tuple(columns), rows, _factor_notes(notes, found), True)


def grid_levels(config: EffectsConfig, study: Study, places: Mapping[tuple[str, ...], Cell]) -> dict[str, list[str]]:
    """Levels of each factor that some cell has, in the study's order."""
    present = [{at[i] for at in places} for i in range(len(config.factors))]
    return {
        factor: [level for level in study.factors[factor] if level in own]
        for factor, own in zip(config.factors, present, strict=True)
    }


def analysis_of(
    metrics: tuple[str, ...],
    levels: Mapping[str, Sequence[str]],
    places: Mapping[tuple[str, ...], Cell],
    values: Values,
    study: Study,
) -> Analysis | None:
    """The factorial analysis of one column; None while there is no full grid of results."""
    grid = full_grid(levels, {at: _seeds(values, metrics, cell) for at, cell in places.items()})
    return None if grid is None else analyse(grid, study.baseline or {}, study.paired)


def _factor_notes(notes: Sequence[str], found: Sequence[Mapping[str, Entry]]) -> tuple[str, ...]:
    grids = [note for note in notes[1:] if note]
    bodies = list(dict.fromkeys(note.partition(": ")[2] for note in grids))
    if len(bodies) == 1:
        grids = [f"Grid of every column: {bodies[0]}"]
    entries = [entry for own in found for entry in own.values()]
    told = [
        "Differences: mean over the grid at one level less that at the baseline's level, with 95 % interval "
        "(error: seeds within cells, seeds as blocks). Shares: of the variance of all runs, in percent (exact "
        "analysis of variance).",
        "Bold: different from 0 at 5 % (differences: Holm over the column; shares: F test)."
        if any(entry.error and entry.error.p is not None for entry in entries)
        else "One seed (n = 1): no interval and no test.",
    ]
    return tuple(note for note in (notes[0], *(told if entries else ()), *grids) if note)


def _entries(analysis: Analysis, column: Column) -> dict[str, Entry]:
    n = len(analysis.grid.seeds)
    entries: dict[str, Entry] = {}
    for contrast in analysis.contrasts:
        text = number(contrast.estimate, column.digits, sign=True)
        if contrast.low is not None and contrast.high is not None:
            ends = (number(end, column.digits, sign=True) for end in (contrast.low, contrast.high))
            text += f" [{', '.join(ends)}]"
        delta = Delta(contrast.estimate, contrast.low, contrast.high, contrast.p)
        entries[_contrast_name(contrast)] = _entry(text.replace("-", "−"), contrast.estimate, n, delta)
    for term in analysis.terms:
        entries[f"{' × '.join(term.factors)}, share"] = _share(term.share, n, term.p)
    if len(analysis.grid.levels) > 2:
        entries["interactions of three or more, share"] = _share(analysis.higher, n)
    if n > 1:
        entries["seeds, alike in all cells, share"] = _share(analysis.seeds, n)
        entries["seeds within cells, share"] = _share(analysis.within, n)
    return entries


def _contrast_name(contrast: Contrast) -> str:
    return f"{contrast.factor}: {contrast.level} − {contrast.reference}"


def _shown(analysis: Analysis, labels: Labels) -> dict[str, Label]:
    """Names of rows → their texts, with the labels of factors and levels."""
    found = {
        _contrast_name(own): joined(
            "",
            [
                labels.factor(own.factor),
                ": ",
                labels.level(own.factor, own.level),
                " − ",
                labels.level(own.factor, own.reference),
            ],
        )
        for own in analysis.contrasts
    }
    for term in analysis.terms:
        factors = joined(" × ", map(labels.factor, term.factors))
        found[f"{' × '.join(term.factors)}, share"] = joined(", ", [factors, "share"])
    return found


def _share(share: float, n: int, p: float | None = None) -> Entry:
    return _entry(f"{number(100 * share, 1)}", 100 * share, n, Delta(100 * share, p=p))


def _entry(text: str, value: float, n: int, delta: Delta) -> Entry:
    supported = delta.p is not None and delta.p < ALPHA
    return Entry("", Summary(n, value, None), n, best=supported, literal=text, error=delta)


def _rows(found: Sequence[Mapping[str, Entry]], factors: Sequence[str], shown: Mapping[str, str]) -> tuple[Row, ...]:
    names = dict.fromkeys(name for own in found for name in own)
    lacking = Entry("", None, 0, missing="–", detail="not in this column's grid")
    padding = ("",) * (len(factors) - 1)
    return tuple(
        Row((name, *padding), tuple(own.get(name, lacking) for own in found), (shown.get(name, name), *padding))
        for name in names
    )


def _suite(
    name: str,
    config: EffectsConfig,
    results: Results,
    columns: Sequence[Column],
    places: Mapping[tuple[str, ...], Cell],
    values: Values,
) -> Table:
    """A row for each arm; mean, interquartile mean and P(better than the baseline's arm) of each column's tasks."""
    base = tuple((results.study.baseline or {}).get(factor, "") for factor in config.factors)
    texts = {at: results.labels.cell(dict(zip(config.factors, at, strict=True))) for at in places}
    parts: list[Column] = []
    found: list[dict[str, Entry]] = []
    for column in columns:
        arms = {at: _complete(values, column.metrics, cell) for at, cell in places.items()}
        kinds = {"mean": suite_mean, "IQM": interquartile_mean}
        for label, what in kinds.items():
            parts.append(_part(column, label, label))
            found.append(
                {_arm(at): _aggregate_entry(aggregate(own, what, _rng(name, at)), own, column.digits)
                 for at, own in arms.items() if own.size}
            )  # fmt: skip
        if base in arms and arms[base].size:
            order = -1 if column.lowest else 1
            sign = "<" if column.lowest else ">"
            parts.append(_part(column, f"P({sign} {_arm(base)})", joined("", [f"P({sign} ", texts[base], ")"])))
            found.append(
                {_arm(at): _aggregate_entry(improves(order * own, order * arms[base], _rng(name, at)), own, 2)
                 for at, own in arms.items() if own.size and at != base}
            )  # fmt: skip
    notes = (config.note, *_suite_notes(columns))
    title = config.title or name
    return Table(
        name,
        title,
        ("arm",),
        "",
        tuple(parts),
        _rows(found, ("arm",), {_arm(at): text for at, text in texts.items()}),
        tuple(n for n in notes if n),
        True,
    )


def _suite_notes(columns: Sequence[Column]) -> tuple[str, ...]:
    return (
        "Interval: 95 % percentile bootstrap over seeds, each with all its tasks (these tasks). At two or three seeds "
        "it is too narrow: it shows, and decides nothing. IQM: interquartile mean of all tasks and seeds. "
        f"{_chances(columns)}: chance of being better than that arm on a task.",
        "Only seeds that have every task.",
    )


def _part(column: Column, label: str, shown: str) -> Column:
    heads = ("", column.printed[-1], shown)
    return dataclasses.replace(column, label=label, group=column.label, key="", heads=heads)


def _chances(columns: Sequence[Column]) -> str:
    lowest = [column.lowest for column in columns]
    return " and ".join(["P(> arm)"] * (not all(lowest)) + ["P(< arm)"] * any(lowest)) or "P(> arm)"


def _arm(levels: Sequence[str]) -> str:
    return ", ".join(levels)


def _complete(values: Values, metrics: Sequence[str], cell: Cell) -> NDArray[np.float64]:
    """Values (tasks, seeds) of the seeds that have every task; empty where none has."""
    tasks = [_seeds(values, (metric,), cell) for metric in metrics]
    seeds = sorted(set.intersection(*(set(own) for own in tasks))) if tasks else []
    return np.array([[own[seed] for seed in seeds] for own in tasks], dtype=np.float64)


def _rng(name: str, levels: Sequence[str]) -> np.random.Generator:
    """The same draws for the same arm of the same table."""
    return np.random.default_rng(zlib.crc32("\n".join([name, *levels]).encode()))


def _aggregate_entry(found: Aggregate, own: NDArray[np.float64], digits: int) -> Entry:
    text = number(found.value, digits)
    if found.low is not None and found.high is not None:
        text += f" [{number(found.low, digits)}, {number(found.high, digits)}]"
    n = own.shape[1]
    delta = Delta(found.value, found.low, found.high)
    return Entry("", Summary(n, found.value, None), n, literal=text.replace("-", "−"), error=delta)
