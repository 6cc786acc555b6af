"""A heat map: a row for each cell, a column for each task below the head of its group, a colour bar for each unit."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ablative.reports.figures.figure_data import NONE, FigureData, Point
from ablative.reports.figures.signs import wrapped
from ablative.reports.figures.style import FAINT, INK, ON_PALE, SMALLEST
from ablative.reports.stats.student import Floats
from ablative.study.spec.design import Cell

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

NUMBER_INCHES = 0.36
"""Width that a printed number needs."""
COLUMN_WIDTH = 0.55
SIDE_INCHES = 2.2
"""Room for the names of the rows and the colour bar."""


@dataclass(frozen=True)
class _Grid:
    """The numbers of one panel."""

    title: str
    rows: list[Cell]
    means: Floats
    """(rows, columns), NaN where missing."""
    shades: Floats
    """What is coloured: the means, or their differences to the baseline's row."""
    missing: list[list[str]]


def draw_heatmap(data: FigureData, panels: Sequence[tuple[str, list[Point]]]) -> Figure:
    """Panels side by side, or one below the other where their columns would be too narrow for numbers."""
    from matplotlib.figure import Figure

    grids = [_grid(data, title, points) for title, points in panels]
    columns = len(data.labels)
    in_a_row = (data.page - SIDE_INCHES) / (columns * len(grids)) >= NUMBER_INCHES
    across, down = (len(grids), 1) if in_a_row else (1, len(grids))
    width = min(data.page, SIDE_INCHES + COLUMN_WIDTH * columns * across)
    numbers = (width - SIDE_INCHES) / (columns * across) >= NUMBER_INCHES
    heights = [len(grid.rows) for grid in grids]
    figure = Figure(figsize=(width, 0.9 + 0.45 * down + 0.22 * (sum(heights) if down > 1 else max(heights))))
    names = [[_row_name(data, cell) for cell in grid.rows] for grid in grids]
    same = across > 1 and all(own == names[0] for own in names)
    axes = figure.subplots(down, across, squeeze=False, sharey=same, sharex=True).ravel().tolist()
    scales = _scales(data, grids)
    for i, (axis, grid) in enumerate(zip(axes, grids, strict=True)):
        meshes = _draw_grid(axis, data, grid, scales, numbers)
        if not same or not i:
            axis.set_yticks([y + 0.5 for y in range(len(names[i]))], names[i])
            axis.invert_yaxis()
        axis.set_title(grid.title, pad=20.0 if data.heads else 6.0)
    if across > 1:  # rows of one height in all panels
        for axis in axes:
            axis.set_ylim(max(heights), 0)
    for unit, mesh in reversed(meshes.items()):  # the first is put nearest to the panels
        _color_bar(figure, axes, data, unit, mesh)
    return figure


def _grid(data: FigureData, title: str, points: Sequence[Point]) -> _Grid:
    rows = list({str(point.cell): point.cell for point in points}.values())
    order = data.shown(data.config.x)
    rows.sort(key=lambda cell: order.index(cell.get(data.config.x, NONE)) if data.config.x else 0)
    found = {(str(point.cell), point.position): point for point in points}
    table = [[found[str(cell), i] for i in range(len(data.labels))] for cell in rows]
    means = np.array([[point.summary.mean if point.summary else np.nan for point in row] for row in table])
    shades = means - means[_baseline(data, rows)] if data.config.shade == "difference" else means
    return _Grid(title, rows, means, shades, [[point.missing for point in row] for row in table])


def _baseline(data: FigureData, rows: Sequence[Cell]) -> int:
    """The row with the baseline's levels, as far as the panel's rows differ; the plan has checked that there is one."""
    factors = [factor for factor in data.baseline if factor != data.config.panel]
    return max(range(len(rows)), key=lambda i: sum(rows[i].get(f) == data.baseline[f] for f in factors))


def _scales(data: FigureData, grids: Sequence[_Grid]) -> dict[str, Normalize]:
    """Unit -> the one scale on which all its columns, of all panels, are coloured."""
    from matplotlib.colors import Normalize

    found: dict[str, Normalize] = {}
    for unit in dict.fromkeys(data.units):
        columns = [j for j, own in enumerate(data.units) if own == unit]
        values = np.concatenate([grid.shades[:, columns].ravel() for grid in grids])
        values = values[np.isfinite(values)]
        low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
        if data.config.shade == "difference":
            high = max(abs(low), abs(high))
            low = -high
        found[unit] = Normalize(low, high if high > low else low + 1.0)
    return found


def _draw_grid(
    axis: Axes, data: FigureData, grid: _Grid, scales: dict[str, Normalize], numbers: bool
) -> dict[str, QuadMesh]:
    """Colour and number of each cell; the drawn colours of each unit."""
    from matplotlib import colormaps

    shades = colormaps["RdBu" if data.config.shade == "difference" else "cividis"]
    units, meshes = np.array(data.units), {}
    for unit, scale in scales.items():
        own = np.ma.masked_invalid(np.where(units == unit, grid.shades, np.nan))
        meshes[unit] = axis.pcolormesh(own, cmap=shades, norm=scale, edgecolor="white", linewidth=0.3, rasterized=False)
    for i, j in itertools.product(range(len(grid.rows)), range(len(data.labels))):
        if grid.missing[i][j]:
            axis.text(j + 0.5, i + 0.5, grid.missing[i][j], ha="center", va="center", fontsize=SMALLEST, color=FAINT)
        elif numbers:
            red, green, blue, _ = shades(scales[data.units[j]](grid.shades[i, j]))
            ink = ON_PALE if 0.3 * red + 0.59 * green + 0.11 * blue > 0.45 else "white"
            text = _text(grid.means[i, j], data.units[j])
            axis.text(j + 0.5, i + 0.5, text, ha="center", va="center", fontsize=SMALLEST, color=ink)
    axis.spines[:].set_visible(False)
    axis.set_xticks(
        [i + 0.5 for i in range(len(data.labels))], data.labels, rotation=35, ha="right", rotation_mode="anchor"
    )
    axis.tick_params(length=0)
    _heads(axis, data, len(grid.rows))
    return meshes


def _text(mean: float, unit: str) -> str:
    """One decimal, and of small values that are no percentages two digits."""
    return f"{mean:.1f}" if unit in ("%", "points") or abs(mean) >= 1 else f"{mean:.2g}"


def _color_bar(figure: Figure, axes: Sequence[Axes], data: FigureData, unit: str, mesh: QuadMesh) -> None:
    """A bar at the panels' side, with the unit that its scale is in."""
    words = data.what or "value"
    if data.config.shade == "difference":
        words = f"{words}, difference to the baseline" if data.what else "difference to the baseline"
    bar = figure.colorbar(mesh, ax=list(axes), shrink=0.9, pad=0.02, aspect=25)
    bar.outline.set_visible(False)
    bar.set_label(wrapped(f"{words} ({data.names.unit(unit)})" if unit else words, 40))


def _heads(axis: Axes, data: FigureData, rows: int) -> None:
    """Group names above their columns, and white gaps between the groups."""
    ends = list(itertools.accumulate(data.heads.values()))
    for name, end, width in zip(data.heads, ends, data.heads.values(), strict=True):
        if not name:
            continue
        axis.plot([end - width + 0.08, end - 0.08], [-0.12, -0.12], color=INK, linewidth=0.8, clip_on=False)
        axis.text(end - width / 2, -0.25, name, ha="center", va="bottom", fontsize=8)
    for end in ends[:-1]:
        axis.plot([end, end], [0, rows], color="white", linewidth=3, solid_capstyle="butt")


def _row_name(data: FigureData, cell: Cell) -> str:
    """The row's level, and those of the other factors in which the figure's rows differ."""
    own = data.names.level(data.config.x, cell[data.config.x]) if data.config.x in cell else ""
    return ", ".join(filter(None, (own, data.rest(cell, data.config.x, data.config.panel)))) or "all"
