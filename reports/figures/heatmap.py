"""A figure's heat map: a row for each cell, a column for each task, columns under the heads of their groups."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ablative.reports.figures.figure_data import NONE, FigureData, Point
from ablative.reports.figures.style import FAINT, INK, PAGE_INCHES
from ablative.reports.stats.summary import Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes


UNIT = re.compile(r" \([^()]*\)$")
"""Finds the unit at the end of a label; no name of a metric has brackets."""


def heatmap_size(data: FigureData, panels: int) -> tuple[float, float]:
    """Inches."""
    rows = len({str(point.cell) for point in data.points})
    return min(PAGE_INCHES, 1.6 + 0.55 * len(data.labels) * panels), 1.3 + 0.24 * rows


def draw_heatmap(axis: Axes, data: FigureData, points: list[Point]) -> None:
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
    names = _short(_unless_shared(data.labels))
    axis.set_xticks([i + 0.5 for i in range(len(names))], names, rotation=35, ha="right", rotation_mode="anchor")
    axis.tick_params(length=0)
    _heads(axis, data)


def _heads(axis: Axes, data: FigureData) -> None:
    """Group names above their columns, and white gaps between the groups."""
    ends = list(itertools.accumulate(data.heads.values()))
    for name, end, width in zip(data.heads, ends, data.heads.values(), strict=True):
        if not name:
            continue
        axis.plot([end - width + 0.08, end - 0.08], [-0.12, -0.12], color=INK, linewidth=0.8, clip_on=False)
        axis.text(end - width / 2, -0.25, name, ha="center", va="bottom", fontsize=8)
    for end in ends[:-1]:
        axis.axvline(end, color="white", linewidth=3)


def _mean(summary: Summary | None) -> float:
    return summary.mean if summary else float("nan")


def _scaled(column: Sequence[float]) -> list[float]:
    """Values between 0 (smallest of the column) and 1 (largest); 0.5 where all are the same."""
    finite = [value for value in column if value == value] or [0.0]
    low, high = min(finite), max(finite)
    return [(value - low) / (high - low) if high > low else value * 0 + 0.5 for value in column]


def _unless_shared(labels: Sequence[str]) -> list[str]:
    """Labels without a unit that all of them end with."""
    units = {match.group() if (match := UNIT.search(label)) else "" for label in labels}
    return [UNIT.sub("", label) for label in labels] if len(units) == 1 else list(labels)


def _short(labels: Sequence[str]) -> list[str]:
    """Labels without the words that all of them share."""
    heads = {label.partition(", ")[0] for label in labels}
    return [label.partition(", ")[2] or label for label in labels] if len(heads) == 1 else list(labels)


def _row_name(data: FigureData, cell: dict[str, str]) -> str:
    """The row's level, and those of the other factors in which the figure's rows differ."""
    names = [cell[factor] for factor in (data.config.x,) if factor in cell]
    rest = [cell[f] for f in varying(data) if f in cell and f not in (data.config.x, data.config.panel)]
    return ", ".join(names + rest) or "all"


def varying(data: FigureData) -> list[str]:
    """Factors of which the figure shows more than one level."""
    return [f for f in data.levels if len([level for level in data.shown(f) if level != NONE]) > 1]
