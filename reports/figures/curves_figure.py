"""Curves over steps, drawn: a row of panels for each quantity, a column for each level of the panel's factor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ablative.reports.figures.figure_data import NONE, Curve, FigureData
from ablative.reports.figures.legends import legend_inches
from ablative.reports.figures.signs import color, hue, style_index, wrapped
from ablative.reports.figures.style import COLUMN_INCHES, SEED, nth_line
from ablative.study.plan.outputs.layout import STEP

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_curves(data: FigureData) -> Figure:
    """Panels of a quantity share their axes; those of different quantities share the steps alone."""
    from matplotlib.figure import Figure

    quantities = list(dict.fromkeys(curve.quantity for curve in data.curves))
    levels = [level for level in data.shown(data.config.panel) if level != NONE] if data.config.panel else []
    columns: list[str] = levels or [""]
    width = min(COLUMN_INCHES, data.page) if len(columns) == 1 else min(data.page, 2.6 * len(columns))
    height = 1.9 if len(quantities) == 1 else 0.35 + 1.25 * len(quantities)
    figure = Figure(figsize=(width, height + legend_inches(width, data)))
    axes = figure.subplots(len(quantities), len(columns), squeeze=False, sharex=True, sharey="row")
    shown = [[_members(data, quantity, level) for level in columns] for quantity in quantities]
    for i, quantity in enumerate(quantities):
        for axis, curves in zip(axes[i], shown[i], strict=True):
            _draw_panel(axis, data, curves)
        label = ", ".join(filter(None, (data.labels[0], quantity)))
        first = axes[i][next(j for j, curves in enumerate(shown[i]) if curves)]
        first.set_ylabel(wrapped(label, 24 if len(quantities) == 1 else 16))
        first.tick_params(axis="y", labelleft=True)
    for j, level in enumerate(columns):
        filled = [axes[i][j] for i in range(len(quantities)) if shown[i][j]]
        if level:
            filled[0].set_title(f"{data.names.factor(data.config.panel)}: {data.names.level(data.config.panel, level)}")
        filled[-1].set_xlabel(data.names.axis(STEP))
        filled[-1].tick_params(axis="x", labelbottom=True)
    return figure


def _members(data: FigureData, quantity: str, level: str) -> list[Curve]:
    """The curves of a panel; one to which the panel's factor does not apply is in all of its row."""
    panel = data.config.panel
    return [c for c in data.curves if c.quantity == quantity and c.cell.get(panel, level) == level]


def _draw_panel(axis: Axes, data: FigureData, curves: Sequence[Curve]) -> None:
    smoothed = any(curve.smooth != curve.mean for curve in curves)
    for curve in curves:
        paint = color(data, data.config.hue, hue(data, curve.cell))
        line = nth_line(style_index(data, curve.cell))
        if smoothed or len(curve.seeds) > 1:
            for values in curve.seeds.values():
                axis.plot(curve.steps, values, color=paint, alpha=0.3, linewidth=0.5, gid=SEED, zorder=1)
        axis.plot(curve.steps, curve.smooth, color=paint, linestyle=line, linewidth=1.2, zorder=2)
    if not curves:
        axis.set_axis_off()
    axis.grid()
