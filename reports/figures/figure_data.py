"""What a figure draws, as plain data, and a drawn figure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ablative.reports.figures.style import PAGE_INCHES
from ablative.reports.stats.crossings import Crossing
from ablative.reports.stats.summary import Summary
from ablative.reports.store.labels import Labels
from ablative.study.spec.design import Cell
from ablative.study.spec.outputs import FigureConfig

NONE = "–"
"""Level that is shown for a factor that does not apply."""


@dataclass(frozen=True)
class Point:
    """One cell and one metric (or mean over tasks) of it."""

    cell: Cell
    position: int
    """Index of the metric: columns of a heatmap, x and y of a scatter plot."""
    summary: Summary | None
    missing: str
    """State that explains the lack of a number."""
    seeds: Mapping[int, float] = dataclasses.field(default_factory=dict)
    whisker: float | None = None
    """Half the length of its error bar: one sample standard deviation, or half the 95 % interval of the mean."""


@dataclass(frozen=True)
class Curve:
    """A cell's metric over steps."""

    cell: Cell
    steps: tuple[int, ...]
    mean: tuple[float, ...]
    """Over the seeds that have the step."""
    smooth: tuple[float, ...]
    """Running mean of `mean`."""
    seeds: Mapping[int, tuple[float, ...]]
    """Seed -> its value at each step; NaN where it has none."""
    quantity: str = ""
    """What distinguishes this cell's metric from others of its name: different losses share no axis."""


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
    names: Labels
    units: tuple[str, ...] = ()
    """Unit of each metric; empty: none, or none that its metrics share."""
    what: str = ""
    """Heat map: what all columns measure, which their labels then leave out."""
    baseline: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """The study's; empty: it has none."""
    places: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Level of x -> place on a logarithmic axis; empty: levels stand at equal distances."""
    meetings: tuple[tuple[str, Crossing], ...] = ()
    """Level of the panel, and a crossing there, supported or not."""
    heads: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Heat map: head -> columns below it, from the left; empty: columns without one."""
    page: float = PAGE_INCHES
    """Inches of the paper's text, which no figure exceeds."""
    own: Any = None
    """What `effects`, `panels` and `custom` draw, each its own; None where there is nothing."""

    @property
    def title(self) -> str:
        return self.config.title or self.name

    @property
    def empty(self) -> bool:
        return self.own is None and not self.curves and not any(point.summary for point in self.points)

    def shown(self, factor: str) -> list[str]:
        """Levels of a factor that the figure's cells have, in the study's order; NONE last, where it does not apply."""
        cells = [point.cell for point in self.points] + [curve.cell for curve in self.curves]
        present = {cell.get(factor, NONE) for cell in cells}
        return [level for level in (*self.levels.get(factor, ()), NONE) if level in present]

    def varying(self) -> list[str]:
        """Factors of which the figure shows more than one level."""
        return [f for f in self.levels if len([level for level in self.shown(f) if level != NONE]) > 1]

    def rest(self, cell: Cell, *shown: str) -> str:
        """Names of the levels that distinguish this cell from the figure's others, without the factors `shown`."""
        own = {factor: cell[factor] for factor in self.varying() if factor not in shown and factor in cell}
        return self.names.cell(own) if own else ""


@dataclass(frozen=True)
class Drawing:
    """A figure of the page."""

    name: str
    title: str
    notes: tuple[str, ...]
    svg: str
    """Content of the SVG file; empty while there is nothing to draw."""
