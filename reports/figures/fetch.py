"""Declared factors and results as a figure's data, fetched here so that drawing never queries."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ablative.reports.figures.crossings import Crossing, crossings
from ablative.reports.figures.custom import frame
from ablative.reports.figures.effects_figure import effect_columns
from ablative.reports.figures.figure_data import NONE, Curve, FigureData, Point
from ablative.reports.figures.panels import pictures
from ablative.reports.stats.columns import compare_rows
from ablative.reports.stats.summary import mean, summarize
from ablative.reports.store.coverage import Coverage, StoredState, missing_text
from ablative.reports.store.results import Results
from ablative.reports.store.warehouse import Warehouse, cell_key
from ablative.study.plan.figure_checks import FIGURE_METRICS, positions
from ablative.study.spec.design import Cell, allows
from ablative.study.spec.outputs import BY_METRIC, FigureConfig


def figure_data(
    name: str,
    config: FigureConfig,
    results: Results,
) -> FigureData:
    """Fetch what a declared figure draws; the plan has checked that it can be drawn. Raises ConfigError for its SQL."""
    study, coverage, warehouse = results.study, results.coverage, results.warehouse
    kept = [cell for cell in results.cells if allows(cell, config.where)]
    levels = study.factors
    if config.kind == "effects":
        effects, notes = effect_columns(study.effects[config.effects], results)
        return FigureData(name, config, levels, (), (), (), notes, own=effects or None)
    if config.kind == "custom":
        return FigureData(name, config, levels, (), (), (), (), own=frame(config.sql, warehouse, f"figure '{name}'"))
    if config.kind == "panels":
        shown, notes = pictures(config.show, kept, results)
        return FigureData(name, config, levels, (), (), (), notes, own=shown or None)
    groups = _metric_groups(config, coverage)
    labels = tuple(_label(group, coverage.measures.unit(group)) for group in groups)
    if config.kind == "curves":
        curves = _curves(kept, groups[0], warehouse)
        return FigureData(name, config, levels, labels, (), curves, _curve_notes(curves))
    if config.kind != "heatmap":  # a cell that no task can measure has no gap to show
        kept = [cell for cell in kept if all(_behind(cell, group, coverage) for group in groups)]
    points = _points(config, groups, kept, results)
    places = positions(f"figure '{name}'", config, study.design.factors) if config.position else {}
    meetings = _meetings(config, points, places)
    notes = (*_notes(config, points), *(_crossing_note(config, panel, found) for panel, found in meetings))
    heads = _head_widths(config, groups) if config.kind == "heatmap" else {}
    return FigureData(name, config, levels, labels, points, (), notes, places, meetings, heads)


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


def _meetings(
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
        for found in crossings(lines[one], lines[other])
    )


def _crossing_note(config: FigureConfig, panel: str, found: Crossing) -> str:
    """`gap: clip and mae_clip cross near 3,400 data.pairs (2 of 2 seeds, at 2,900 to 4,100).`"""
    where = f"{panel}: " if config.panel not in ("", BY_METRIC) else ""
    ends = f", at {_rounded(found.single[0])} to {_rounded(found.single[-1])}" if found.single else ""
    seeds = f"single seeds cross once in {len(found.single)} of {found.seeds}{ends}"
    return f"{where}{' and '.join(found.lines)} cross near {_rounded(found.place)} {config.position} ({seeds})."


def _rounded(value: float) -> str:
    """Three significant digits: `1,810`."""
    return f"{float(f'{value:.3g}'):,.15g}"


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


def _curves(cells: Sequence[Cell], metrics: Sequence[str], warehouse: Warehouse) -> tuple[Curve, ...]:
    by_key = {cell_key(cell): cell for cell in cells}
    rows = [row for row in warehouse.curves(metrics) if row[0] in by_key]
    points: dict[str, dict[int, list[float]]] = {}
    for key, _, _, step, value in rows:
        points.setdefault(key, {}).setdefault(step, []).append(value)
    return tuple(_curve(cell, points[key]) for key, cell in by_key.items() if key in points)


def _curve(cell: Cell, points: Mapping[int, list[float]]) -> Curve:
    steps = tuple(sorted(points))
    columns: Any = [(mean(points[step]), min(points[step]), max(points[step])) for step in steps]
    means, lows, highs = zip(*columns, strict=True)
    return Curve(cell, steps, means, lows, highs)


def _label(metrics: tuple[str, ...], unit: str) -> str:
    """What an axis is called: the metric's parts, `mean of k tasks` where it averages, and the unit."""
    if not metrics:
        return ""
    kinds = sorted({(name.split("/")[0], name.split("/")[-1]) for name in metrics})
    words = " + ".join(" ".join(kind).replace("_", " ") for kind in kinds)
    tail = f" ({unit})" if unit else ""
    if len(metrics) > 1:
        return f"{words}, mean of {len(metrics)} tasks{tail}"
    middle = metrics[0].split("/")[1:-1]
    return ", ".join([words, *(part.replace("_", " ") for part in middle)]) + tail


def _notes(config: FigureConfig, points: Sequence[Point]) -> tuple[str, ...]:
    counts = sorted({point.summary.n for point in points if point.summary})
    if not counts:
        return ()
    seeds = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
    if config.kind == "heatmap":
        return (f"Mean over seeds ({seeds}); shade: place between the smallest and the largest value of the column.",)
    if counts == [1]:
        return ("One seed (n = 1): no spread can be given.",)
    whiskers = "one sample standard deviation" if config.spread == "sd" else "95 % interval, as in the tables"
    return (f"Mean over seeds ({seeds}); whiskers: {whiskers}.",)


def _curve_notes(curves: Sequence[Curve]) -> tuple[str, ...]:
    spread = any(curve.low != curve.high for curve in curves)
    return ("Line: mean over seeds; band: smallest to largest seed.",) if spread else ()
