"""Declared factors and results as a figure's data, fetched here so that drawing never queries."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ablative.reports.figures.curve_data import curve_notes, curves_of
from ablative.reports.figures.custom import frame
from ablative.reports.figures.effects_figure import effect_columns
from ablative.reports.figures.figure_data import NONE, FigureData, Point
from ablative.reports.figures.panels import pictures
from ablative.reports.figures.style import page_inches
from ablative.reports.stats.columns import compare_rows
from ablative.reports.stats.compare import difference
from ablative.reports.stats.crossings import Crossing, Line, crossings
from ablative.reports.stats.summary import summarize
from ablative.reports.store.coverage import Coverage, StoredState, missing_text
from ablative.reports.store.labels import Labels
from ablative.reports.store.results import Results
from ablative.reports.store.warehouse import cell_key
from ablative.study.plan.outputs.figure_checks import FIGURE_METRICS, OWN_KEYS, positions
from ablative.study.spec.design import Cell, allows
from ablative.study.spec.outputs import BY_METRIC, FigureConfig


def figure_data(
    name: str,
    config: FigureConfig,
    results: Results,
) -> FigureData:
    """Fetch what a declared figure draws; the plan has checked that it can be drawn. Raises ConfigError for its SQL."""
    study, coverage = results.study, results.coverage
    kept = [cell for cell in results.cells if allows(cell, config.where)]
    names = results.labels
    bare = FigureData(
        name,
        config,
        study.factors,
        (),
        (),
        (),
        (),
        names,
        baseline=study.baseline or {},
        page=page_inches(study.report.width),
    )
    if config.kind in OWN_KEYS:
        return _with_own(bare, kept, results)
    groups = _metric_groups(config, coverage)
    what, labels = _columns(groups, results) if config.kind == "heatmap" else ("", tuple(map(names.quantity, groups)))
    if config.kind == "curves":
        curves = curves_of(kept, groups[0], results)
        return dataclasses.replace(bare, labels=labels, curves=curves, notes=curve_notes(curves))
    if config.kind != "heatmap":  # a cell that no task can measure has no gap to show
        kept = [cell for cell in kept if all(_behind(cell, group, coverage) for group in groups)]
    points = _points(config, groups, kept, results)
    places = positions(f"figure '{name}'", config, study.design.factors) if config.position else {}
    meetings = line_crossings(config, points, places)
    unit = coverage.measures.difference_unit if config.shade == "difference" else coverage.measures.unit
    return dataclasses.replace(
        bare,
        labels=labels,
        points=points,
        notes=(*_notes(config, points), *_crossing_notes(config, meetings, names)),
        what=what,
        units=tuple(unit(group) for group in groups),
        places=places,
        meetings=meetings,
        heads=_head_widths(config, groups) if config.kind == "heatmap" else {},
    )


def _with_own(bare: FigureData, kept: Sequence[Cell], results: Results) -> FigureData:
    """The data of a kind that lays out its figure by itself."""
    config = bare.config
    if config.kind == "effects":
        effects, notes = effect_columns(results.study.effects[config.effects], results)
        return dataclasses.replace(bare, notes=notes, own=effects or None)
    if config.kind == "custom":
        return dataclasses.replace(bare, own=frame(config.sql, results.warehouse, f"figure '{bare.name}'"))
    shown, notes = pictures(config.show, kept, results, results.labels)
    return dataclasses.replace(bare, notes=notes, own=shown or None)


def _points(
    config: FigureConfig,
    groups: Sequence[tuple[str, ...]],
    kept: Sequence[Cell],
    results: Results,
) -> tuple[Point, ...]:
    """A point for each cell and group of metrics."""
    values = results.warehouse.values(groups, map(cell_key, kept))
    points = []
    for cell, (position, metrics) in itertools.product(kept, enumerate(groups)):
        tasks = _behind(cell, metrics, results.coverage)
        seeds = {source.seed: source.value for source in values.of(metrics)(cell_key(cell))}
        summary = summarize(list(seeds.values()))
        lacking = [task for task in tasks if task.state != "completed"]
        missing = "" if summary else missing_text(lacking or tasks)
        points.append(Point(cell, position, summary, missing, seeds, summary.sd if summary else None))
    return tuple(points) if config.spread == "sd" else _with_intervals(points)


def _with_intervals(points: Sequence[Point]) -> tuple[Point, ...]:
    """Whiskers are 95 % intervals, by the method of the tables: the points of a metric share their spread."""
    widths: dict[int, float | None] = {}
    for position in {point.position for point in points}:
        own = [point for point in points if point.position == position]
        seeds = sorted({seed for point in own for seed in point.seeds})
        matrix = np.array([[point.seeds.get(seed, np.nan) for seed in seeds] for point in own])
        if matrix.size:
            halves = compare_rows(matrix, str, 0, None).halves
            widths |= {id(point): half for point, half in zip(own, halves, strict=True)}
    return tuple(dataclasses.replace(point, whisker=widths.get(id(point))) for point in points)


def line_crossings(
    config: FigureConfig, points: Sequence[Point], places: Mapping[str, float]
) -> tuple[tuple[str, Crossing], ...]:
    """Crossings of every two lines of a panel, where the horizontal axis has numbers."""
    lines: dict[tuple[str, str], dict[float, Mapping[int, float]]] = {}
    for point in points if places else ():
        at = point.cell.get(config.panel, str(point.position)), point.cell.get(config.hue, NONE)
        if config.x in point.cell:
            lines.setdefault(at, {})[places[point.cell[config.x]]] = point.seeds
    return tuple(
        (one[0], dataclasses.replace(found, lines=(one[1], other[1])))
        for one, other in itertools.combinations(lines, 2)
        if one[0] == other[0]
        for found in crossings(lines[one], lines[other], _order(lines, one, other))
    )


def _order(
    lines: Mapping[tuple[str, str], Line], one: tuple[str, str], other: tuple[str, str]
) -> Callable[[float], int]:
    """Which of two lines of a panel is higher at a place, as far as the 95 % interval of their difference says.

    The panel's other points help to estimate the spread.
    """

    def order(place: float) -> int:
        rest = [
            {"": line[x]} for at, line in lines.items() if at[0] == one[0] for x in line
            if (at, x) not in ((one, place), (other, place))
        ]  # fmt: skip
        found = difference({"": lines[one][place]}, {"": lines[other][place]}, paired=True, others=rest)
        if found.low is None or found.high is None:
            return 0
        return int(found.low > 0) - int(found.high < 0)

    return order


def _crossing_notes(config: FigureConfig, meetings: Sequence[tuple[str, Crossing]], names: Labels) -> tuple[str, ...]:
    notes = [_crossing_note(config, panel, found, names) for panel, found in meetings if found.supported]
    if notes:
        notes[0] = f"Ring: {notes[0]}"
    if len(notes) < len(meetings):
        notes.append(
            "Lines that cross without a ring: not on both sides of the crossing does the 95 % interval of their "
            "difference exclude 0."
        )
    return tuple(notes)


def _crossing_note(config: FigureConfig, panel: str, found: Crossing, names: Labels) -> str:
    """`gap: clip and mae_clip cross near 3,400 data.pairs (2 of 2 seeds, at 2,900 to 4,100).`"""
    where = f"{names.level(config.panel, panel)}: " if config.panel not in ("", BY_METRIC) else ""
    ends = f", at {_rounded(found.single[0])} to {_rounded(found.single[-1])}" if found.single else ""
    seeds = f"single seeds cross once in {len(found.single)} of {found.seeds}{ends}"
    lines = " and ".join(names.level(config.hue, level) for level in found.lines)
    return f"{where}{lines} cross near {_rounded(found.place)} {names.axis(config.position)} ({seeds})."


def _rounded(value: float) -> str:
    """Three significant digits: `1,810`."""
    return f"{float(f'{value:.3g}'):,.15g}"


def _columns(groups: Sequence[tuple[str, ...]], results: Results) -> tuple[str, tuple[str, ...]]:
    """What all columns of a heat map measure, and their labels without it, with units where they differ."""
    names, measures = results.labels, results.coverage.measures
    whole = [names.metrics(group) for group in groups]
    on = [names.data_set(group[0]) for group in groups]
    whats = {text.removesuffix(f", {own}") for text, own in zip(whole, on, strict=True)}
    units = [measures.unit(group) for group in groups]
    [what] = whats if len(whats) == 1 else [""]
    tails = [f" ({names.unit(unit)})" if unit and len(set(units)) > 1 else "" for unit in units]
    return what, tuple(f"{text}{tail}" for text, tail in zip(on if what else whole, tails, strict=True))


def _head_widths(config: FigureConfig, groups: Sequence[tuple[str, ...]]) -> dict[str, int]:
    """Head -> its columns, in the order of `_metric_groups`; a column goes below the first head that names it."""
    widths: dict[str, int] = {}
    for (metric,) in groups:
        head = next((name for name, metrics in config.groups.items() if metric in metrics), "")
        widths[head] = widths.get(head, 0) + 1
    return widths if config.groups else {}


def _behind(cell: Cell, metrics: Sequence[str], coverage: Coverage) -> tuple[StoredState, ...]:
    return coverage.behind(cell_key(cell), coverage.measures.stages_of(metrics))


def _metric_groups(config: FigureConfig, coverage: Coverage) -> list[tuple[str, ...]]:
    """The metrics of each column of values."""
    if config.kind == "heatmap":
        heads = [coverage.expected(metrics) for metrics in config.groups.values()]
        rest = [name for name in coverage.expected(config.metric) if not any(name in head for head in heads)]
        return [(metric,) for metric in dict.fromkeys([*itertools.chain(*heads), *rest])]
    if config.panel == BY_METRIC:
        heads = list(config.groups.values())
        single = [(name,) for name in config.metric if not any(name in head for head in heads)]
        return [coverage.expected(metrics) for metrics in (*single, *heads)]
    if config.kind in FIGURE_METRICS:
        return [coverage.expected([pattern]) for pattern in config.metric]
    return [coverage.expected(config.metric)]


def _notes(config: FigureConfig, points: Sequence[Point]) -> tuple[str, ...]:
    counts = sorted({point.summary.n for point in points if point.summary})
    if not counts:
        return ()
    seeds = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
    if config.kind == "heatmap":
        shade = "difference to the baseline's row" if config.shade == "difference" else "the number"
        return (f"Mean over seeds ({seeds}); shade: {shade}, on one scale for all columns of a unit.",)
    if counts == [1]:
        return ("One seed (n = 1): no spread can be given.",)
    whiskers = "one sample standard deviation" if config.spread == "sd" else "95 % interval, as in the tables"
    return (f"Mean over seeds ({seeds}); small dots: single seeds; whiskers: {whiskers}.",)
