"""Legends: which colour is which level of the hue's factor, and which line style or marker is which of the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from ablative.reports.figures.figure_data import FigureData
from ablative.reports.figures.signs import color, hatch, line, marker, style_factors, styles
from ablative.reports.figures.style import FAINT, LineStyle, nth_line, nth_marker

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

Place = Literal["outside lower left", "outside lower center", "outside lower right"]
HANDLE_INCHES = 0.55
"""Width of a legend's sign with its gaps."""
LETTER_INCHES = 0.062
"""Mean width of a letter at 8 points."""


ROW_INCHES = 0.17


def add_legends(figure: Figure, data: FigureData) -> None:
    """Legends below the panels, each with its factor as its title: one of colours, and one of lines or markers."""
    found = _legends(data)
    rows = _rows(float(figure.get_size_inches()[0]), found)
    places: tuple[Place, ...] = (
        ("outside lower center",) if len(found) == 1 else ("outside lower left", "outside lower right")
    )
    for (title, handles), place in zip(found, places, strict=False):
        columns = -(-len(handles) // rows)
        figure.legend(
            handles=handles, title=title, loc=place, ncols=columns, handlelength=2.2, columnspacing=1.2,
            title_fontsize=8,
        )  # fmt: skip


def legend_inches(width: float, data: FigureData) -> float:
    """Height of the legends of a figure of this width."""
    found = _legends(data)
    return 0.2 + ROW_INCHES * (1 + _rows(width, found)) if found else 0.0


def _legends(data: FigureData) -> list[tuple[str, list[Artist]]]:
    return [(title, handles) for title, handles in (_colors(data), _signs(data)) if handles]


def _rows(width: float, found: Sequence[tuple[str, Sequence[Artist]]]) -> int:
    """Rows that the legends need side by side: as many in each, so that their titles are at one height."""
    share = width / max(len(found), 1)
    return max((-(-len(handles) // _columns(share, handles)) for _, handles in found), default=0)


def _colors(data: FigureData) -> tuple[str, list[Artist]]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    factor, kind = data.config.hue, data.config.kind
    handles: list[Artist] = []
    for level in data.shown(factor) if factor else []:
        paint, name = color(data, factor, level), data.names.level(factor, level)
        several = kind == "scatter" and len(styles(data)) > 1
        if kind == "bars" or several:  # a marker would be one of the other legend's
            own = "" if several else hatch(data, level)
            handles.append(Patch(facecolor=paint, hatch=own, edgecolor="white", linewidth=0, label=name))
            continue
        lines = {"lines": line(data, level), "curves": "-"}.get(kind, "")
        sign = "" if kind == "curves" else marker(data, level)
        handles.append(Line2D([], [], color=paint, linestyle=lines, marker=sign, label=name))
    return (data.names.factor(factor) if factor else ""), handles


def _signs(data: FigureData) -> tuple[str, list[Artist]]:
    """Line styles of curves and markers of scatter plots, where they differ."""
    from matplotlib.lines import Line2D

    kind, found = data.config.kind, styles(data) if data.config.kind in ("curves", "scatter") else []
    if len(found) < 2:
        return "", []
    title = ", ".join(data.names.factor(factor) for factor in style_factors(data))
    handles: list[Artist] = []
    for i, name in enumerate(found):
        own: LineStyle = nth_line(i) if kind == "curves" else ""
        sign = "" if kind == "curves" else nth_marker(i)
        handles.append(Line2D([], [], color=FAINT, linestyle=own, marker=sign, label=name or "none"))
    return title, handles


def _columns(width: float, handles: Sequence[Artist]) -> int:
    """Number of legend columns that fit into a width in inches, four at most."""
    inches = HANDLE_INCHES + LETTER_INCHES * max(len(str(handle.get_label())) for handle in handles)
    return max(1, min(len(handles), 4, int(width / inches)))
