"""Figures of a study: vector graphics that print well in two columns and in grey.

Every level has its colour, marker, line style and hatch by its place in the study file, so that it looks the same in
all figures. The same data gives the same bytes: no date, and ids that follow from the content.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ablative.reports.figures.charts import draw_bars, draw_lines, draw_scatter
from ablative.reports.figures.curves_figure import draw_curves
from ablative.reports.figures.custom import draw_custom
from ablative.reports.figures.effects_figure import draw_effects
from ablative.reports.figures.figure_data import NONE, FigureData, Point
from ablative.reports.figures.heatmap_figure import draw_heatmap
from ablative.reports.figures.legends import add_legends, legend_inches
from ablative.reports.figures.panels import draw_panels
from ablative.reports.figures.signs import color
from ablative.reports.figures.style import COLUMN_INCHES, METADATA, STYLE, Color
from ablative.study.spec.outputs import BY_METRIC

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def save_figure(data: FigureData, stem: Path, page_alone: bool = False) -> list[Path]:
    """Draw and write `stem` as PDF, SVG and PNG; the paths in this order. `page_alone`: as SVG alone, for the page."""
    return save(lambda: draw(data), stem, page_alone)


def save(drawn: Callable[[], Figure], stem: Path, page_alone: bool = False) -> list[Path]:
    """Draw a figure by calling `drawn`, and write it as `save_figure` does."""
    import matplotlib

    matplotlib.use("Agg")
    written = {suffix: own for suffix, own in METADATA.items() if suffix == "svg" or not page_alone}
    paths = [stem.with_name(f"{stem.name}.{suffix}") for suffix in written]
    stem.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(STYLE):
        figure = drawn()
        _close_lines(figure)
        for path, metadata in zip(paths, written.values(), strict=True):
            figure.savefig(path, metadata=metadata, transparent=path.suffix == ".svg")
            _keep_layout(figure)
    return paths


def _keep_layout(figure: Figure) -> None:
    """Have the next format placed as the first one was: to lay a figure out takes longer than to draw it."""
    import matplotlib

    with matplotlib.rc_context({"figure.constrained_layout.use": False}):
        figure.set_layout_engine(None)


def _close_lines(figure: Figure) -> None:
    """The font's own distance of lines is that of a book's text: too far for a label of two lines."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        if isinstance(text, Text):
            text.set_linespacing(1.0)


def draw(data: FigureData) -> Figure:
    """The figure, one panel for each level of its panel factor. Call it inside `rc_context(STYLE)`."""
    kind = data.config.kind
    if kind in OWN:
        return OWN[kind](data, partial(color, data))
    if kind == "heatmap":
        return draw_heatmap(data, panels(data))
    figure = draw_curves(data) if kind == "curves" else _draw_charts(data)
    add_legends(figure, data)
    return figure


def _draw_charts(data: FigureData) -> Figure:
    """Panels side by side; those that show the same metric, or bars of the same unit, share their axes."""
    from matplotlib.figure import Figure

    charts: dict[str, Callable[[Axes, FigureData, Sequence[Point]], None]] = {
        "bars": draw_bars,
        "lines": draw_lines,
        "scatter": draw_scatter,
    }
    kind, shown = data.config.kind, panels(data)
    one_metric = data.config.panel != BY_METRIC
    # Bars begin at 0, so that a common axis costs no room in which to see differences.
    share_y = one_metric or (kind == "bars" and len(set(data.units)) == 1 and bool(data.units[0]))
    width = min(COLUMN_INCHES, data.page) if len(shown) == 1 else min(data.page, 2.6 * len(shown))
    figure = Figure(figsize=(width, 2.1 + legend_inches(width, data)))
    axes = figure.subplots(1, len(shown), squeeze=False, sharey=share_y, sharex=kind == "scatter")[0]
    for i, (axis, (title, items)) in enumerate(zip(axes, shown, strict=True)):
        charts[kind](axis, data, items)
        axis.set_title(title)
        if i and one_metric:
            axis.set_ylabel("")
    return figure


def panels(data: FigureData) -> list[tuple[str, list[Point]]]:
    """Title and points of each panel."""
    config = data.config
    if config.panel == BY_METRIC:
        return [("", [point for point in data.points if point.position == i]) for i in range(len(data.labels))]
    levels = [level for level in data.shown(config.panel) if level != NONE] if config.panel else []
    if not levels:
        return [("", list(data.points))]
    # A cell to which the panel's factor does not apply is the same in every panel.
    return [
        (
            f"{data.names.factor(config.panel)}: {data.names.level(config.panel, level)}",
            [point for point in data.points if point.cell.get(config.panel, level) == level],
        )
        for level in levels
    ]


OWN: dict[str, Callable[[FigureData, Callable[[str, str], Color]], Figure]] = {
    "effects": draw_effects,
    "panels": draw_panels,
    "custom": draw_custom,
}
"""Kinds that lay out their figure by themselves, given the colour of (factor, level)."""
