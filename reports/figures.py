"""Figures of a study: vector graphics that print well in two columns and in grey.

Every level has its colour, marker, line style and hatch by its place in the study file, so that it looks the same in
all figures. The same data gives the same bytes: no date, and ids that follow from the content.
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.series import NONE, Curve, FigureData, Point
from reports.stats.summary import Summary
from reports.style import COLUMN_INCHES, FAINT, HATCHES, INK, LINES, MARKERS, METADATA, PAGE_INCHES, STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def save_figure(data: FigureData, stem: Path) -> list[Path]:
    """Draw and write `stem` as PDF, SVG and PNG; the paths in this order."""
    return save(lambda: draw(data), stem)


def save(drawn: Callable[[], Figure], stem: Path) -> list[Path]:
    """Likewise, of whatever the function draws."""
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
    panels = data.shown(config.panel) if config.panel else []
    panels = [level for level in panels if level != NONE] or [""]
    figure = Figure(figsize=_size(data, len(panels)))
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=config.kind in ("bars", "lines"))[0]
    kinds: dict[str, Callable[[Axes, FigureData, list[Any]], None]] = {
        "bars": _bars,
        "lines": _lines,
        "scatter": _scatter,
        "curves": _curves,
        "heatmap": _heatmap,
    }
    for i, (axis, level) in enumerate(zip(axes, panels, strict=True)):
        items: Sequence[Any] = data.curves if config.kind == "curves" else data.points
        # A cell to which the panel's factor does not apply is the same in every panel.
        kinds[config.kind](axis, data, [item for item in items if item.cell.get(config.panel, level) == level])
        if level:
            axis.set_title(f"{config.panel}: {level}")
        if i and config.kind in ("bars", "lines"):
            axis.set_ylabel("")
    if config.kind != "heatmap":
        seaborn.despine(fig=figure)
        _legend(figure, data)
    return figure


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
        rows = len({str(point.cell) for point in data.points})
        return min(PAGE_INCHES, 1.6 + 0.55 * len(data.labels) * panels), 1.3 + 0.24 * rows
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
                x, point.summary.mean, width * 0.92, yerr=point.summary.sd, color=color(data, data.config.hue, level),
                edgecolor="white", linewidth=0, hatch=HATCHES[index % len(HATCHES)],
                error_kw={"elinewidth": 0.8, "capsize": 2, "capthick": 0.8, "ecolor": INK},
            )  # fmt: skip
    _categories(axis, data, ticks)
    axis.set_xlim(-0.5, len(ticks) - 0.5)


def _lines(axis: Axes, data: FigureData, points: list[Point]) -> None:
    ticks = data.shown(data.config.x) if data.config.x else [""]
    for level, members in _hues(data, points):
        index = _index(data, data.config.hue, level)
        found = sorted(
            (ticks.index(point.cell.get(data.config.x, NONE) if data.config.x else ""), point.summary)
            for point in members
            if point.summary
        )
        axis.errorbar(
            [x for x, _ in found], [summary.mean for _, summary in found], [summary.sd or 0.0 for _, summary in found],
            color=color(data, data.config.hue, level), marker=MARKERS[index % len(MARKERS)],
            linestyle=LINES[index % len(LINES)], capsize=2, elinewidth=0.8,
        )  # fmt: skip
    _categories(axis, data, ticks)
    axis.margins(x=0.12)


def _categories(axis: Axes, data: FigureData, ticks: list[str]) -> None:
    axis.set_xticks(range(len(ticks)), ticks)
    if sum(map(len, ticks)) > 30:
        axis.tick_params(axis="x", labelrotation=30)
    axis.set_xlabel(data.config.x)
    axis.set_ylabel(_wrapped(data.labels[0]))
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


def _heatmap(axis: Axes, data: FigureData, points: list[Point]) -> None:
    import numpy as np
    import seaborn

    rows = list({str(point.cell): point.cell for point in points}.values())
    order = data.shown(data.config.x)
    rows.sort(key=lambda cell: order.index(cell.get(data.config.x, NONE)) if data.config.x else 0)
    found = {(str(point.cell), point.position): point for point in points}
    means = [[_mean(found[str(cell), i].summary) for i in range(len(data.labels))] for cell in rows]
    shades = np.array([_scaled(column) for column in zip(*means, strict=True)]).T
    texts = np.array([["" if value != value else f"{value:.1f}" for value in row] for row in means])
    seaborn.heatmap(
        shades, annot=texts, fmt="", cmap="cividis", vmin=-0.15, vmax=1.15, cbar=False, ax=axis,
        annot_kws={"fontsize": 7},
    )  # fmt: skip
    for (i, cell), j in itertools.product(enumerate(rows), range(len(data.labels))):
        if found[str(cell), j].summary is None:
            axis.text(j + 0.5, i + 0.5, found[str(cell), j].missing, ha="center", va="center", fontsize=7, color=FAINT)
    axis.set_yticks([i + 0.5 for i in range(len(rows))], [_row_name(data, cell) for cell in rows], rotation=0)
    names = [label.removesuffix(" (%)") for label in _short(data.labels)]
    axis.set_xticks([i + 0.5 for i in range(len(names))], names, rotation=35, ha="right", rotation_mode="anchor")
    axis.tick_params(length=0)


def _wrapped(label: str) -> str:
    """An axis label in lines that fit beside a small panel."""
    return "\n".join(textwrap.wrap(label, 26))


def _mean(summary: Summary | None) -> float:
    return summary.mean if summary else float("nan")


def _scaled(column: Sequence[float]) -> list[float]:
    """Values between 0 (smallest of the column) and 1 (largest); 0.5 where all are the same."""
    finite = [value for value in column if value == value] or [0.0]
    low, high = min(finite), max(finite)
    return [(value - low) / (high - low) if high > low else value * 0 + 0.5 for value in column]


def _short(labels: Sequence[str]) -> list[str]:
    """Labels without the words that all of them share."""
    heads = {label.partition(", ")[0] for label in labels}
    return [label.partition(", ")[2] or label for label in labels] if len(heads) == 1 else list(labels)


def _row_name(data: FigureData, cell: dict[str, str]) -> str:
    """The row's level, and those of the other factors that tell the figure's rows apart."""
    names = [cell[factor] for factor in (data.config.x,) if factor in cell]
    rest = [cell[f] for f in _varying(data) if f in cell and f not in (data.config.x, data.config.panel)]
    return ", ".join(names + rest) or "all"


def _varying(data: FigureData) -> list[str]:
    return [f for f in data.levels if len([level for level in data.shown(f) if level != NONE]) > 1]


def _rest(data: FigureData, cell: dict[str, str]) -> str:
    """Levels that neither hue nor panel shows: they become the line style."""
    shown = (data.config.hue, data.config.panel)
    return ", ".join(cell[f] for f in _varying(data) if f in cell and f not in shown)


def _other_levels(data: FigureData) -> list[str]:
    return list(dict.fromkeys(["", *(_rest(data, curve.cell) for curve in data.curves)]))


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
        figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 4), handlelength=2.2)
