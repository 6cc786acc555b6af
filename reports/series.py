"""What a figure draws: declared factors and results as plain data, fetched here so that drawing never queries."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports.coverage import Coverage, missing_text, protocol_of
from reports.stats.summary import Summary, mean, summarize
from reports.warehouse import Warehouse, cell_key
from study.design import Cell
from study.outputs import FigureConfig
from study.places import FIGURE_METRICS, keep
from study.study import Study

NONE = "–"
"""Stands for the level of a factor that does not apply."""


@dataclass(frozen=True)
class Point:
    """One cell and one metric (or mean over tasks) of it."""

    cell: Cell
    position: int
    """Index of the metric: columns of a heatmap, x and y of a scatter plot."""
    summary: Summary | None
    missing: str
    """State that explains the lack of a number."""


@dataclass(frozen=True)
class Curve:
    """A cell's metric over steps."""

    cell: Cell
    steps: tuple[int, ...]
    mean: tuple[float, ...]
    """Over the seeds that have the step."""
    low: tuple[float, ...]
    high: tuple[float, ...]
    """Smallest and largest value of any seed."""


@dataclass(frozen=True)
class FigureData:
    """All that a figure needs."""

    name: str
    config: FigureConfig
    levels: Mapping[str, tuple[str, ...]]
    """Factor -> all its levels in the study's order: colours and markers follow it in every figure."""
    labels: tuple[str, ...]
    """Axis label of each metric."""
    points: tuple[Point, ...]
    curves: tuple[Curve, ...]
    notes: tuple[str, ...]

    @property
    def title(self) -> str:
        return self.config.title or self.name

    @property
    def empty(self) -> bool:
        return not self.curves and not any(point.summary for point in self.points)

    def shown(self, factor: str) -> list[str]:
        """Levels of a factor that the figure's cells have, in the study's order; NONE last, where it does not apply."""
        cells = [point.cell for point in self.points] + [curve.cell for curve in self.curves]
        present = {cell.get(factor, NONE) for cell in cells}
        return [level for level in (*self.levels.get(factor, ()), NONE) if level in present]


def figure_data(
    name: str, config: FigureConfig, study: Study, cells: Sequence[Cell], coverage: Coverage, warehouse: Warehouse
) -> FigureData:
    """Fetch what a declared figure draws; the plan has checked that it can be drawn."""
    kept = [cell for cell in cells if keep(cell, config.where)]
    groups = _metric_groups(config, coverage)
    if config.kind == "curves":
        curves = _curves(kept, groups[0], warehouse)
        notes = _curve_notes(curves)
        return FigureData(name, config, study.factors, _labels(groups), (), curves, notes)
    values = warehouse.values(groups, map(cell_key, kept))
    points = []
    if config.kind != "heatmap":  # a cell that no task can measure has no gap to show
        kept = [cell for cell in kept if all(coverage.behind(cell_key(cell), _protocols(group)) for group in groups)]
    for cell, (position, metrics) in itertools.product(kept, enumerate(groups)):
        tasks = coverage.behind(cell_key(cell), _protocols(metrics))
        summary = summarize([source.value for source in values.of(metrics)(cell_key(cell))])
        lacking = [task for task in tasks if task.state != "completed"]
        points.append(Point(cell, position, summary, "" if summary else missing_text(lacking or tasks)))
    notes = _notes(config, points)
    return FigureData(name, config, study.factors, _labels(groups), tuple(points), (), notes)


def _protocols(metrics: Sequence[str]) -> set[str | None]:
    return {protocol_of(metric) for metric in metrics}


def _metric_groups(config: FigureConfig, coverage: Coverage) -> list[tuple[str, ...]]:
    """The metrics of each column of values."""
    if config.kind == "heatmap":
        return [(metric,) for metric in coverage.expected(config.metric)]
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


def _labels(groups: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """What an axis is called: the metric's parts, `mean of k tasks` where it averages, and the unit."""
    return tuple(_label(group) for group in groups)


def _label(metrics: tuple[str, ...]) -> str:
    if not metrics:
        return ""
    kinds = sorted({(name.split("/")[0], name.split("/")[-1]) for name in metrics})
    words = " + ".join(" ".join(kind).replace("_", " ") for kind in kinds)
    unit = " (%)" if metrics[0].count("/") == 2 else ""
    if len(metrics) > 1:
        return f"{words}, mean of {len(metrics)} tasks{unit}"
    middle = metrics[0].split("/")[1:-1]
    return ", ".join([words, *(part.replace("_", " ") for part in middle)]) + unit


def _notes(config: FigureConfig, points: Sequence[Point]) -> tuple[str, ...]:
    counts = sorted({point.summary.n for point in points if point.summary})
    if not counts:
        return ()
    seeds = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
    if config.kind == "heatmap":
        return (f"Mean over seeds ({seeds}); shade: place between the smallest and the largest value of the column.",)
    if counts == [1]:
        return ("One seed (n = 1): no spread can be given.",)
    return (f"Mean over seeds ({seeds}); whiskers: one sample standard deviation.",)


def _curve_notes(curves: Sequence[Curve]) -> tuple[str, ...]:
    spread = any(curve.low != curve.high for curve in curves)
    return ("Line: mean over seeds; band: smallest to largest seed.",) if spread else ()
