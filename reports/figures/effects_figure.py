"""What each factor moves, drawn: differences with intervals, and shares of the variance, interactions included."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ablative.reports.figures.figure_data import FigureData
from ablative.reports.figures.style import FAINT, INK, SEED, SMALLEST, Color, nth_marker
from ablative.reports.stats.decide import ALPHA
from ablative.reports.stats.factorial import Analysis, Contrast, Grid
from ablative.reports.stats.student import Floats
from ablative.reports.store.labels import Labels
from ablative.reports.store.results import Results
from ablative.reports.store.warehouse import cell_key
from ablative.reports.tables.effects import analysis_of, grid_levels
from ablative.reports.tables.grid_tables import make_column
from ablative.study.plan.outputs.layout import effects_layout
from ablative.study.spec.outputs import EffectsConfig

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


ROW_INCHES = 0.17


@dataclass(frozen=True)
class EffectColumn:
    """One column of the study's effects, analysed."""

    label: str
    unit: str
    """Unit of differences."""
    analysis: Analysis


def effect_columns(config: EffectsConfig, results: Results) -> tuple[tuple[EffectColumn, ...], tuple[str, ...]]:
    """The columns that have a full grid of results, and the figure's notes."""
    columns = [make_column(column, "sd", results) for column in config.columns]
    places = effects_layout(config.title, config, results.cells)
    values = results.warehouse.values([column.metrics for column in columns], map(cell_key, places.values()))
    levels = grid_levels(config, results.study, places)
    found = [(column, analysis_of(column.metrics, levels, places, values, results.study)) for column in columns]
    measures = results.coverage.measures
    drawn = tuple(
        EffectColumn(
            " ".join(filter(None, column.heads or (column.name,))), measures.difference_unit(column.metrics), analysis
        )
        for column, analysis in found
        if analysis
    )
    lacking = [column.name for column, analysis in found if analysis is None]
    seeds = sorted({len(column.analysis.grid.seeds) for column in drawn})
    notes = [
        "Above: mean over the grid at one level less that at the baseline's"
        + (
            f", with 95 % interval (n = {_counted(seeds)}); filled: different from 0 at 5 % (Holm); small dots: single "
            "seeds."
            if seeds and seeds[0] > 1
            else "; one seed, so without interval."
        ),
        "Below: share of the variance of all runs; dark: 5 % by the F test.",
        f"No full grid of results yet: {', '.join(lacking)}." if lacking else "",
    ]
    return drawn, tuple(note for note in notes if note) if drawn else ()


def _counted(seeds: Sequence[int]) -> str:
    return str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"


def draw_effects(data: FigureData, color: Callable[[str, str], Color]) -> Figure:
    """A column of two panels for each metric: differences above, shares of the variance below.

    `color(factor, level)` is the colour of a level in all figures of the study.
    """
    from matplotlib.figure import Figure

    columns: tuple[EffectColumn, ...] = data.own
    contrasts = list(dict.fromkeys(name for column in columns for name in _differences(column.analysis, data.names)))
    shares = list(dict.fromkeys(name for column in columns for name in _shares(column.analysis, data.names)))
    one_unit = len({column.unit for column in columns}) == 1
    height = 1.1 + ROW_INCHES * (len(contrasts) + len(shares))
    figure = Figure(figsize=(min(data.page, 1.7 + 1.35 * len(columns)), height))
    axes = figure.subplots(
        2, len(columns), squeeze=False, height_ratios=[len(contrasts), len(shares)], sharey="row",
        sharex="row" if one_unit else False,
    )  # fmt: skip
    for place, column in enumerate(columns):
        _draw_differences(axes[0][place], column, contrasts, data, color)
        _draw_shares(axes[1][place], column.analysis, shares, data.names)
        axes[0][place].set_title(column.label)
    for axis in axes.flat:
        axis.tick_params(axis="y", length=0)
        axis.spines["left"].set_visible(False)
    return figure


def _differences(analysis: Analysis, names: Labels) -> dict[str, Contrast]:
    def name(one: Contrast) -> str:
        level, reference = (names.level(one.factor, level) for level in (one.level, one.reference))
        return f"{names.factor(one.factor)}: {level} − {reference}"

    return {name(one): one for one in analysis.contrasts}


def seed_differences(grid: Grid, contrast: Contrast) -> Floats:
    """The contrast of each seed by itself: the mean over the grid at one level less that at the other."""
    axis = list(grid.levels).index(contrast.factor)
    own = grid.levels[contrast.factor]
    by_level = grid.values.mean(axis=tuple(i for i in range(len(grid.levels)) if i != axis))
    difference: Floats = by_level[own.index(contrast.level)] - by_level[own.index(contrast.reference)]
    return difference


def _shares(analysis: Analysis, names: Labels) -> dict[str, tuple[float, float | None]]:
    """Name -> share of the variance in percent, and p of the F test where there is one."""
    named = {" × ".join(map(names.factor, term.factors)): (100 * term.share, term.p) for term in analysis.terms}
    if len(analysis.grid.levels) > 2:
        named["3 factors or more"] = (100 * analysis.higher, None)
    if len(analysis.grid.seeds) > 1:
        named["seeds"] = (100 * (analysis.seeds + analysis.within), None)
    return named


def _draw_differences(
    axis: Axes, column: EffectColumn, names: Sequence[str], data: FigureData, color: Callable[[str, str], Color]
) -> None:
    own = _differences(column.analysis, data.names)
    axis.axvline(0, color=FAINT, linewidth=0.8)
    for y, name in enumerate(names):
        if name not in own:
            continue
        one = own[name]
        paint = color(one.factor, one.level)
        sure = one.p is not None and one.p < ALPHA
        if one.low is not None and one.high is not None:
            axis.plot([one.low, one.high], [y, y], color=paint, linewidth=1.3)
            each = seed_differences(column.analysis.grid, one)
            axis.plot(each, [y + 0.3] * len(each), "o", color=paint, markersize=1.8, gid=SEED)
        marker = nth_marker(data.levels[one.factor].index(one.level))
        axis.plot([one.estimate], [y], marker=marker, color=paint, markerfacecolor=paint if sure else "white")
    _rows(axis, names)
    axis.set_xlabel(f"difference ({column.unit})" if column.unit else "difference")
    axis.grid(axis="x")


def _draw_shares(axis: Axes, analysis: Analysis, names: Sequence[str], printed: Labels) -> None:
    own = _shares(analysis, printed)
    for y, name in enumerate(names):
        share, p = own.get(name, (0.0, None))
        sure = p is not None and p < ALPHA
        axis.barh(y, share, height=0.7, color=INK if sure else FAINT, alpha=1 if sure else 0.55, linewidth=0)
        axis.annotate(f"{share:.0f}", (share, y), (2, 0), textcoords="offset points", va="center", fontsize=SMALLEST)
    _rows(axis, names)
    axis.set_xlim(0, 112)
    axis.set_xlabel("share of variance (%)")


def _rows(axis: Axes, names: Sequence[str]) -> None:
    """A name at each row, the first at the top."""
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.4, -0.6)
