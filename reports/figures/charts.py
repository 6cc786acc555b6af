"""Bars, lines and scatter plots over cells: means with their whiskers, and each single seed as a dot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ablative.reports.figures.figure_data import NONE, FigureData, Point
from ablative.reports.figures.signs import color, hatch, hue, hues, line, marker, style_index, styles, wrapped
from ablative.reports.figures.style import FAINT, INK, SEED, SMALLEST, nth_marker
from ablative.study.spec.outputs import BY_METRIC

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_bars(axis: Axes, data: FigureData, points: Sequence[Point]) -> None:
    ticks = data.shown(data.config.x) if data.config.x else [""]
    groups = list(hues(data, points))
    width = 0.8 / len(groups)
    for i, (level, members) in enumerate(groups):
        for point in members:
            where = ticks.index(point.cell.get(data.config.x, NONE) if data.config.x else "")
            x = where + (i - (len(groups) - 1) / 2) * width
            if point.summary is None:
                axis.annotate(
                    point.missing, (x, 0), (0, 2), textcoords="offset points", rotation=90, ha="center", va="bottom",
                    fontsize=SMALLEST, color=FAINT,
                )  # fmt: skip
                continue
            axis.bar(
                x, point.summary.mean, width * 0.92, yerr=point.whisker, color=color(data, data.config.hue, level),
                edgecolor="white", linewidth=0, hatch=hatch(data, level),
                error_kw={"elinewidth": 0.8, "capsize": 2, "capthick": 0.8, "ecolor": INK},
            )  # fmt: skip
            _seed_dots(axis, _spread(x, width * 0.5, point.seeds), list(point.seeds.values()))
    _categories(axis, data, points, ticks)
    axis.set_xlim(-0.5, len(ticks) - 0.5)


def draw_lines(axis: Axes, data: FigureData, points: Sequence[Point]) -> None:
    ticks = data.shown(data.config.x) if data.config.x else [""]
    places = data.places or {level: float(i) for i, level in enumerate(ticks)}
    groups = list(hues(data, points))
    for i, (level, members) in enumerate(groups):
        pairs = [(places[p.cell.get(data.config.x, NONE) if data.config.x else ""], p) for p in members if p.summary]
        found = sorted(pairs, key=lambda pair: pair[0])
        # Lines are shifted sideways: at the same place their whiskers and dots would hide one another.
        aside = 0.07 * (i - (len(groups) - 1) / 2)
        span = max(places.values()) / min(places.values()) if data.places else 1.0
        xs = [x * span ** (aside / 3) if data.places else x + aside for x, _ in found]
        paint = color(data, data.config.hue, level)
        axis.errorbar(
            xs, [point.summary.mean for _, point in found if point.summary],
            [point.whisker or 0.0 for _, point in found],
            color=paint, marker=marker(data, level), linestyle=line(data, level), capsize=2, elinewidth=0.8,
        )  # fmt: skip
        for x, (_, point) in zip(xs, found, strict=True):
            _seed_dots(axis, [x] * len(point.seeds), list(point.seeds.values()), paint)
    _categories(axis, data, points, ticks)
    if data.places:
        _numbers(axis, data, points)
    axis.margins(x=0.12)


def draw_scatter(axis: Axes, data: FigureData, points: Sequence[Point]) -> None:
    """Two metrics of each cell: colours for the hue, markers for the levels that neither hue nor panel shows."""
    several = len(styles(data)) > 1
    by_cell = {str(point.cell): point for point in points if point.position == 1}
    for x in points:
        y = by_cell[str(x.cell)]
        if x.position or x.summary is None or y.summary is None:
            continue
        level = hue(data, x.cell)
        paint = color(data, data.config.hue, level)
        sign = nth_marker(style_index(data, x.cell)) if several else marker(data, level)
        axis.errorbar(
            x.summary.mean, y.summary.mean, y.whisker, x.whisker, color=paint, marker=sign, capsize=2, elinewidth=0.8,
            linestyle="",
        )  # fmt: skip
        both = [seed for seed in x.seeds if seed in y.seeds]
        _seed_dots(axis, [x.seeds[seed] for seed in both], [y.seeds[seed] for seed in both], paint)
    axis.set_xlabel(wrapped(data.labels[0]))
    axis.set_ylabel(wrapped(data.labels[1]))
    axis.grid()


def _seed_dots(axis: Axes, xs: Sequence[float], ys: Sequence[float], paint: object = INK) -> None:
    """Single seeds; none for a mean of one, which is that seed."""
    if len(ys) > 1:
        axis.plot(
            xs, ys, "o", markersize=2.6, markerfacecolor="white", markeredgecolor=paint, markeredgewidth=0.6, gid=SEED,
            zorder=4,
        )  # fmt: skip


def _spread(x: float, width: float, seeds: Mapping[int, float]) -> list[float]:
    """Places of the seeds' dots, side by side in their order around `x`."""
    step = width / max(len(seeds), 2)
    return [x + (i - (len(seeds) - 1) / 2) * step for i in range(len(seeds))]


def _numbers(axis: Axes, data: FigureData, points: Sequence[Point]) -> None:
    """A logarithmic axis with the levels' own numbers, and a ring where two lines cross for sure."""
    axis.set_xscale("log")
    axis.set_xticks(list(data.places.values()), [f"{place:,.15g}" for place in data.places.values()])
    axis.set_xticks([], minor=True)
    axis.set_xlabel(data.names.axis(data.config.position))
    panels = {str(point.position) for point in points} if data.config.panel in ("", BY_METRIC) else set()
    panels |= {point.cell[data.config.panel] for point in points if data.config.panel in point.cell}
    for panel, found in data.meetings:
        if panel in panels and found.supported:
            axis.plot([found.place], [found.value], marker="o", markersize=9, markerfacecolor="none", color=INK)


def _categories(axis: Axes, data: FigureData, points: Sequence[Point], ticks: Sequence[str]) -> None:
    names = [data.names.level(data.config.x, level) for level in ticks]
    axis.set_xticks(range(len(ticks)), names)
    if sum(map(len, names)) > 30:
        for label in axis.get_xticklabels():
            label.set(rotation=30, ha="right", rotation_mode="anchor")
    axis.set_xlabel(data.names.axis(data.config.x) if data.config.x else "")
    axis.set_ylabel(wrapped(data.labels[points[0].position if points else 0]))
    axis.grid(axis="y")
