"""How levels look: the colour, marker, line and hatch that a level has in all figures of its study."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from ablative.reports.figures.figure_data import NONE, Curve, FigureData, Point
from ablative.reports.figures.style import (
    FAINT,
    HATCHES,
    Color,
    LineStyle,
    Marker,
    nth_line,
    nth_marker,
    palette,
)


def color(data: FigureData, factor: str, level: str) -> Color:
    """The colour of a level in all figures of its study; grey where the factor does not apply."""
    if level == NONE:
        return FAINT
    levels = data.levels.get(factor, ())
    colors = palette(max(len(levels), 1))
    return colors[levels.index(level)] if level in levels else colors[0]


def hue(data: FigureData, cell: dict[str, str]) -> str:
    """The level of the hue factor that a cell has."""
    return cell.get(data.config.hue, NONE) if data.config.hue else ""


def hatch(data: FigureData, level: str) -> str:
    return HATCHES[_index(data, level) % len(HATCHES)]


def marker(data: FigureData, level: str) -> Marker:
    return nth_marker(_index(data, level))


def line(data: FigureData, level: str) -> LineStyle:
    return nth_line(_index(data, level))


def _index(data: FigureData, level: str) -> int:
    """Place of a level of the hue factor in the study file."""
    levels = data.levels.get(data.config.hue, ())
    return levels.index(level) if level in levels else 0


def hues(data: FigureData, items: Sequence[Point]) -> Iterator[tuple[str, list[Point]]]:
    """(level, items) of the hue factor, in the study's order; one group where there is none."""
    factor = data.config.hue
    for level in data.shown(factor) if factor else [""]:
        yield level, [item for item in items if not factor or hue(data, item.cell) == level]


def styles(data: FigureData) -> list[str]:
    """What neither colour nor panel shows, in the order of the cells: it becomes the line style or the marker.

    Empty for cells to which none of these factors applies; they look as the first does, where no colour has both.
    """
    items: Sequence[Curve | Point] = (*data.curves, *data.points)
    found = list(dict.fromkeys(style(data, item.cell) for item in items))
    plain = {hue(data, item.cell) for item in items if not style(data, item.cell)}
    both = plain & {hue(data, item.cell) for item in items if style(data, item.cell)}
    named = [name for name in found if name]
    return ["", *named] if both else named or [""]


def style(data: FigureData, cell: dict[str, str]) -> str:
    return data.rest(cell, data.config.hue, data.config.panel)


def style_index(data: FigureData, cell: dict[str, str]) -> int:
    """Place of a cell's line style or marker."""
    found, own = styles(data), style(data, cell)
    return found.index(own) if own in found else 0


def style_factors(data: FigureData) -> list[str]:
    """The factors that `style` shows."""
    return [factor for factor in data.varying() if factor not in (data.config.hue, data.config.panel)]


def wrapped(label: str, width: int = 24) -> str:
    """A text in lines that fit the side of a small panel."""
    return "\n".join(textwrap.wrap(label, width))
