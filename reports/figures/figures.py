"""Figures of a study: vector graphics that print well in two columns and in grey.

Every level has its colour, marker, line style and hatch by its place in the study file, so that it looks the same in
all figures. The same data gives the same bytes: no date, and ids that follow from the content.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablative.reports.figures.custom import draw_custom
from ablative.reports.figures.effects_figure import draw_effects
from ablative.reports.figures.figure_data import NONE, Curve, FigureData, Point
from ablative.reports.figures.heatmap import draw_heatmap, heatmap_size, varying
from ablative.reports.figures.panels import draw_panels
from ablative.reports.figures.style import (
    COLUMN_INCHES,
    FAINT,
    HATCHES,
    INK,
    LINES,
    MARKERS,
    METADATA,
    PAGE_INCHES,
    STYLE,
)
from ablative.study.spec.outputs import BY_METRIC

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def save_figure(data: FigureData, stem: Path) -> list[Path]:
    """Draw and write `stem` as PDF, SVG and PNG; the paths in this order."""
    return save(lambda: draw(data), stem)


def save(drawn: Callable[[], Figure], stem: Path) -> list[Path]:
    """Draw a figure by calling `drawn`, and write it as `save_figure` does."""
    import matplotlib

    matplotlib.use("Agg")
    paths = [stem.with_name(f"{stem.name}.{suffix}") for suffix in METADATA]
    stem.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(STYLE):
        figure = drawn()
        for path, metadata in zip(paths, METADATA.values(), strict=True):
            figure.savefig(path, metadata=metadata, transparent=path.suffix == ".svg")
    return paths


def draw(data: FigureData) -> Figure:
    """The figure, one panel for each level of its panel factor. Call it inside `rc_context(STYLE)`."""
    import seaborn
    from matplotlib.figure import Figure

    config = data.config
    if config.kind in OWN:
        return OWN[config.kind](data, partial(color, data))
    panels = _panels(data)
    figure = Figure(figsize=_size(data, len(panels)))
    shared = config.kind in ("bars", "lines") and config.panel != BY_METRIC
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=shared)[0]
    kinds: dict[str, Callable[[Axes, FigureData, list[Any]], None]] = {
        "bars": _bars,
        "lines": _lines,
        "scatter": _scatter,
        "curves": _curves,
        "heatmap": draw_heatmap,
    }
    for i, (axis, (title, items)) in enumerate(zip(axes, panels, strict=True)):
        kinds[config.kind](axis, data, items)
        axis.set_title(title)
        if i and shared:
            axis.set_ylabel("")
    if config.kind != "heatmap":
        seaborn.despine(fig=figure)
        _legend(figure, data)
    return figure


def _panels(data: FigureData) -> list[tuple[str, list[Any]]]:
    """Title and items of each panel."""
    config = data.config
    items: Sequence[Any] = data.curves if config.kind == "curves" else data.points
    if config.panel == BY_METRIC:
        return [("", [item for item in items if item.position == i]) for i in range(len(data.labels))]
    levels = [level for level in data.shown(config.panel) if level != NONE] if config.panel else []
    if not levels:
        return [("", list(items))]
    # A cell to which the panel's factor does not apply is the same in every panel.
    return [
        (f"{config.panel}: {level}", [item for item in items if item.cell.get(config.panel, level) == level])
        for level in levels
    ]


def color(data: FigureData, factor: str, level: str) -> Any:
    """The colour of a level in all figures of its study; grey where the factor does not apply."""
    import seaborn

    if level == NONE:
        return FAINT
    levels = data.levels.get(factor, ())
    name = "colorblind" if len(levels) <= 10 else "husl"
    palette = seaborn.color_palette(name, max(len(levels), 1))
    return palette[levels.index(level)] if level in levels else palette[0]


def _size(data: FigureData, panels: int) -> tuple[float, float]:
    if data.config.kind == "heatmap":
        return heatmap_size(data, panels)
    return (COLUMN_INCHES, 2.35) if panels == 1 else (min(PAGE_INCHES, 2.6 * panels), 2.5)


def _index(data: FigureData, factor: str, level: str) -> int:
    levels = data.levels.get(factor, ())
    return levels.index(level) if level in levels else 0


def _hues(data: FigureData, items: Sequence[Any]) -> Iterator[tuple[str, list[Any]]]:
    """(level, items) of the hue factor, in the study's order; one group where there is none."""
    factor = data.config.hue
    for level in data.shown(factor) if factor else [""]:
        yield level, [item for item in items if not factor or item.cell.get(factor, NONE) == level]


def _bars(axis: Axes, data: FigureData, points: list[Point]) -> None:
    ticks = data.shown(data.config.x) if data.config.x else [""]
    groups = list(_hues(data, points))
    width = 0.8 / len(groups)
    for i, (level, members) in enumerate(groups):
        index = _index(data, data.config.hue, level)
        for point in members:
            where = ticks.index(point.cell.get(data.config.x, NONE) if data.config.x else "")
            x = where + (i - (len(groups) - 1) / 2) * width
            if point.summary is None:
                axis.annotate(
                    point.missing, (x, 0), (0, 2), textcoords="offset points", rotation=90, ha="center", va="bottom",
                    fontsize=7, color=FAINT,
                )  # fmt: skip
                continue
            axis.bar(
                x, point.summary.mean, width * 0.92, yerr=point.whisker, color=color(data, data.config.hue, level),
                edgecolor="white", linewidth=0, hatch=HATCHES[index % len(HATCHES)],
                error_kw={"elinewidth": 0.8, "capsize": 2, "capthick": 0.8, "ecolor": INK},
            )  # fmt: skip
    _categories(axis, data, points, ticks)
    axis.set_xlim(-0.5, len(ticks) - 0.5)


def _lines(axis: Axes, data: FigureData, points: list[Point]) -> None:
    ticks = data.shown(data.config.x) if data.config.x else [""]
    places = data.places or {level: float(i) for i, level in enumerate(ticks)}
    hues = list(_hues(data, points))
    for i, (level, members) in enumerate(hues):
        index = _index(data, data.config.hue, level)
        found = sorted(
            ((places[point.cell.get(data.config.x, NONE) if data.config.x else ""], point) for point in members
             if point.summary),
            key=lambda pair: pair[0],
        )  # fmt: skip
        # Whiskers are shifted sideways: at the same place they would hide one another.
        aside = 0.05 * (i - (len(hues) - 1) / 2)
        span = max(places.values()) / min(places.values()) if data.places else 1.0
        xs = [x * span ** (aside / 3) if data.places else x + aside for x, _ in found]
        axis.errorbar(
            xs, [point.summary.mean for _, point in found if point.summary],
            [point.whisker or 0.0 for _, point in found],
            color=color(data, data.config.hue, level), marker=MARKERS[index % len(MARKERS)],
            linestyle=LINES[index % len(LINES)], capsize=2, elinewidth=0.8,
        )  # fmt: skip
    _categories(axis, data, points, ticks)
    if data.places:
        _numbers(axis, data, points)
    axis.margins(x=0.12)


def _numbers(axis: Axes, data: FigureData, points: list[Point]) -> None:
    """A logarithmic axis with the levels' own numbers, and a ring where two lines cross."""
    axis.set_xscale("log")
    axis.set_xticks(list(data.places.values()), [f"{place:,.15g}" for place in data.places.values()])
    axis.set_xticks([], minor=True)
    axis.set_xlabel(data.config.position)
    panels = {str(point.position) for point in points} if data.config.panel in ("", BY_METRIC) else set()
    panels |= {point.cell[data.config.panel] for point in points if data.config.panel in point.cell}
    for panel, found in data.meetings:
        if panel in panels:
            axis.plot([found.place], [found.value], marker="o", markersize=9, markerfacecolor="none", color=INK)


def _categories(axis: Axes, data: FigureData, points: list[Point], ticks: list[str]) -> None:
    axis.set_xticks(range(len(ticks)), ticks)
    if sum(map(len, ticks)) > 30:
        axis.tick_params(axis="x", labelrotation=30)
    axis.set_xlabel(data.config.x)
    axis.set_ylabel(_wrapped(data.labels[points[0].position if points else 0]))
    axis.grid(axis="y")


def _scatter(axis: Axes, data: FigureData, points: list[Point]) -> None:
    for x, y in zip(points[::2], points[1::2], strict=True):
        if x.summary is None or y.summary is None:
            continue
        level = x.cell.get(data.config.hue, NONE) if data.config.hue else ""
        axis.errorbar(
            x.summary.mean, y.summary.mean, y.summary.sd, x.summary.sd, color=color(data, data.config.hue, level),
            marker=MARKERS[_index(data, data.config.hue, level) % len(MARKERS)], capsize=2, elinewidth=0.8,
            linestyle="",
        )  # fmt: skip
    axis.set_xlabel(_wrapped(data.labels[0]))
    axis.set_ylabel(_wrapped(data.labels[1]))
    axis.grid()


def _curves(axis: Axes, data: FigureData, curves: list[Curve]) -> None:
    styles = _other_levels(data)
    for curve in curves:
        level = curve.cell.get(data.config.hue, NONE) if data.config.hue else ""
        paint = color(data, data.config.hue, level)
        line = LINES[styles.index(_rest(data, curve.cell)) % len(LINES)]
        axis.plot(curve.steps, curve.mean, color=paint, linestyle=line, linewidth=1.1)
        axis.fill_between(curve.steps, curve.low, curve.high, color=paint, alpha=0.15, linewidth=0)
    axis.set_xlabel("step")
    axis.set_ylabel(data.labels[0])
    axis.grid()


def _wrapped(label: str) -> str:
    """An axis label in lines that fit the side of a small panel."""
    return "\n".join(textwrap.wrap(label, 26))


def _rest(data: FigureData, cell: dict[str, str]) -> str:
    """Levels that neither hue nor panel shows: they become the line style."""
    shown = (data.config.hue, data.config.panel)
    return ", ".join(cell[f] for f in varying(data) if f in cell and f not in shown)


def _other_levels(data: FigureData) -> list[str]:
    return list(dict.fromkeys(["", *(_rest(data, curve.cell) for curve in data.curves)]))


OWN: dict[str, Callable[[FigureData, Callable[[str, str], Any]], Figure]] = {
    "effects": draw_effects,
    "panels": draw_panels,
    "custom": draw_custom,
}
"""Kinds that lay out their figure by themselves, given the colour of (factor, level)."""


def _legend(figure: Figure, data: FigureData) -> None:
    """One entry for each level of the hue, and for each line style of curves, below the panels."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    factor, kind = data.config.hue, data.config.kind
    handles: list[Any] = []
    for level in data.shown(factor) if factor else []:
        index, paint = _index(data, factor, level), color(data, factor, level)
        if kind == "bars":
            hatch = HATCHES[index % len(HATCHES)]
            handles.append(Patch(facecolor=paint, hatch=hatch, edgecolor="white", linewidth=0, label=level))
        else:
            line = {"lines": LINES[index % len(LINES)], "curves": "-"}.get(kind, "")
            marker = "" if kind == "curves" else MARKERS[index % len(MARKERS)]
            handles.append(Line2D([], [], color=paint, linestyle=line, marker=marker, label=level))
    if kind == "curves":
        styles = _other_levels(data)
        handles += [
            Line2D([], [], color=FAINT, linestyle=LINES[i % len(LINES)], label=style)
            for i, style in enumerate(styles)
            if style
        ]
    if handles:
        figure.legend(
            handles=handles, loc="outside lower center", ncols=_legend_columns(figure, handles), handlelength=2.2
        )


def _legend_columns(figure: Figure, handles: Sequence[Any]) -> int:
    """Number of legend columns that fit into the figure's width, four at most."""
    inches = 0.62 + 0.062 * max(len(handle.get_label()) for handle in handles)  # sign, gap and 8 pt letters
    return max(1, min(len(handles), 4, int(figure.get_size_inches()[0] / inches)))
