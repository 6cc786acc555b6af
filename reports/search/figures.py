"""Figures of a search: history, weight map, importances, parallel coordinates, Pareto front.

Each shows one panel for each arm. What was tried first is a star, a pruned trial a cross, the winner has a ring.
"""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from ablative.reports.figures.style import COLUMN_INCHES, FAINT, INK, PAGE_INCHES, SEED, SMALLEST
from ablative.reports.search.results import ArmTrials, Trial, short_name, value_text
from ablative.reports.search.spread import comparable_values, seed_spread
from ablative.reports.search.surrogate import fit
from ablative.reports.stats.student import Floats
from ablative.study.spec.search import ParameterConfig

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = "cividis"
PAINT = "#0173b2"
"""The first colour of the figures' palette (seaborn's colorblind)."""
FEWEST = 4
"""Complete trials below which neither a map nor an importance means anything."""
GRID = 60


@dataclass(frozen=True)
class Kind:
    """One of the figures."""

    title: str
    note: str
    fits: Callable[[ArmTrials], bool]
    """Whether an arm has enough for a panel."""
    draws: tuple[Callable[[Axes, ArmTrials], None], ...]
    """One row of panels each."""
    title_pad: float = 6.0
    """Points between a panel and its title."""
    shared: bool = False
    """All panels of a row show the goal on one axis."""


def figure(kind: Kind, arms: Sequence[ArmTrials], page: float = PAGE_INCHES) -> Figure:
    """A panel for each of these arms, in as many rows as the kind draws. `page`: inches of the paper's text."""
    from matplotlib.figure import Figure

    width = min(COLUMN_INCHES, page) if len(arms) == 1 else min(page, 3.2 * len(arms))
    columns = min(len(arms), 3)
    rows = math.ceil(len(arms) / columns)
    drawn = Figure(figsize=(width, 2.4 * rows * len(kind.draws)))
    axes = drawn.subplots(rows * len(kind.draws), columns, squeeze=False, sharey=kind.shared)
    for i, draw in enumerate(kind.draws):
        own = axes[i * rows : (i + 1) * rows].ravel().tolist()
        for axis, arm in itertools.zip_longest(own, arms):
            if arm is None:
                axis.set_axis_off()
                continue
            draw(axis, arm)
            axis.set_title(arm.title if not i else "", pad=kind.title_pad)
            if kind.shared and own.index(axis) % columns:
                axis.set_ylabel("")
        _share_colors(drawn, own)
    return drawn


def _share_colors(drawn: Figure, axes: Sequence[Axes]) -> None:
    """One scale for the coloured surfaces of a row of panels and the dots on them, and one bar that shows it."""
    painted = [mappable for axis in axes for mappable in axis.collections if mappable.get_array() is not None]
    if not painted:
        return
    values = np.concatenate([np.ravel(np.asarray(mappable.get_array())) for mappable in painted])
    low = 0.0 if painted[0].get_label() == UNCERTAINTY else float(values.min())
    for mappable in painted:
        mappable.set_clim(low, float(values.max()))
    bar = drawn.colorbar(painted[0], ax=list(axes), shrink=0.9, aspect=25)
    bar.outline.set_visible(False)
    bar.set_label(textwrap.fill(str(painted[0].get_label()), 34))


def ranges(arm: ArmTrials) -> list[str]:
    """Parameters that are ranges and that every complete trial has, the most important first."""
    keys = [
        key
        for key, parameter in arm.search.parameters.items()
        if not parameter.choices and all(key in trial.values for trial in arm.complete)
    ]
    weights = importances(arm) if len(keys) > 2 else {}
    return sorted(keys, key=lambda key: -weights.get(key, 0.0))


def importances(arm: ArmTrials) -> dict[str, float]:
    """fANOVA's share of the (first) goal's variance that each parameter explains; sums to 1, largest first.

    Of the parameters that all complete trials have; computed by Optuna from the trials as the store has them.
    """
    import optuna
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if len(arm.complete) < FEWEST or len({trial.goal_values[0] for trial in arm.complete}) < 2:
        return {}
    study = optuna.create_study(direction=arm.search.objective[0].direction)  # type: ignore[arg-type]
    for trial in arm.complete:
        distributions = {key: _distribution(arm.search.parameters[key]) for key in trial.values}
        study.add_trial(
            optuna.trial.create_trial(
                value=trial.goal_values[0], params=dict(trial.values), distributions=distributions
            )
        )
    return get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))


def _distribution(parameter: ParameterConfig) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if parameter.choices:
        return CategoricalDistribution(parameter.choices)
    assert parameter.low is not None and parameter.high is not None
    return FloatDistribution(parameter.low, parameter.high, log=parameter.log)


def _history(axis: Axes, arm: ArmTrials) -> None:
    better = max if arm.search.objective[0].direction == "maximize" else min
    numbers = [trial.number for trial in arm.complete]
    values = [trial.goal_values[0] for trial in arm.complete]
    axis.step(numbers, list(itertools.accumulate(values, better)), where="post", color=FAINT, linewidth=1)
    for trial in arm.complete:
        each = [own[0] for own in trial.seeds.values()]
        if len(each) > 1:
            axis.plot([trial.number] * len(each), each, ".", color=PAINT, markersize=2.5, gid=SEED)
        again = [own[0] for own in trial.repeats.values()]
        if again:
            # To the right of the trial, not over it.
            axis.plot(
                [trial.number + 0.3] * len(again), again, "D", color=INK, fillstyle="none", markersize=3, gid=SEED
            )
            axis.plot([trial.number, trial.number + 0.3], [trial.goal_values[0], fmean(again)], "-", color=INK, lw=0.6)
    _points(axis, arm, {trial.number: (trial.number, trial.goal_values[0]) for trial in arm.complete})
    if (best := arm.best) is not None:
        aside = 0.3 if best.repeats else 0.0
        axis.plot([best.number + aside], [best.value], "o", color=INK, fillstyle="none", markersize=9, mew=1.1)
    if (spread := seed_spread(arm)) is not None:
        middle, after = fmean(values), max(trial.number for trial in arm.trials) + 2
        axis.errorbar(
            [after],
            [middle],
            [spread.sd],
            marker="_",
            color=INK,
            capsize=3,
            elinewidth=1.2,
            linestyle="",
            label="seeds",
        )
    lost = [trial.number for trial in arm.trials if not trial.goal_values]
    if values and lost:
        axis.plot(lost, [axis.get_ylim()[0]] * len(lost), "x", color=FAINT, markersize=4, clip_on=False)
    axis.set_xlabel("trial")
    axis.set_ylabel(textwrap.fill(arm.goals[0], 28))
    axis.grid(axis="y")


UNCERTAINTY = "standard error of the surface"


def _map(axis: Axes, arm: ArmTrials) -> None:
    """The surface's mean, and the trials in the colours of their values."""
    keys, x, y, mean, _ = surface(arm)
    values = comparable_values(arm)
    axis.pcolormesh(x, y, mean, cmap=COLORS, shading="nearest", label=arm.goals[0], rasterized=True)
    for first, marker, size in ((False, "o", 14), (True, "*", 60)):
        own = [trial for trial in arm.complete if trial.first == first]
        axis.scatter(
            [trial.values[keys[0]] for trial in own], [trial.values[keys[1]] for trial in own],
            [size * (1.6 if trial.count > 1 else 1) for trial in own], c=[values[trial.number] for trial in own],
            cmap=COLORS, marker=marker, edgecolors="white", linewidths=0.6, zorder=3,
        )  # fmt: skip
    _frame_map(axis, arm, keys)


def _uncertainty(axis: Axes, arm: ArmTrials) -> None:
    """The surface's standard error."""
    keys, x, y, _, error = surface(arm)
    axis.pcolormesh(x, y, error, cmap="Greys", shading="nearest", label=UNCERTAINTY, rasterized=True)
    xs, ys = ([trial.values[key] for trial in arm.complete] for key in keys)
    axis.plot(xs, ys, "o", color=PAINT, markersize=2.5)
    _frame_map(axis, arm, keys)


def surface(arm: ArmTrials) -> tuple[list[str], Floats, Floats, Floats, Floats]:
    """The two parameters of a map, their values on a grid, and the surface's mean and standard error (y, x) there."""
    keys = ranges(arm)[:2]
    parameters = [arm.search.parameters[key] for key in keys]
    points = np.array([[place(p, t.values[k]) for k, p in zip(keys, parameters, strict=True)] for t in arm.complete])
    values = np.array(list(comparable_values(arm).values()))
    counts = np.array([trial.count for trial in arm.complete], dtype=np.float64)
    spread = seed_spread(arm) if len(arm.search.parameters) == len(keys) else None
    # Where there are further parameters, what they do counts as noise, of which the seeds' is a part.
    found = fit(points, values, counts, (spread.sd, spread.df) if spread else (0.0, 0))
    lines = np.linspace(0, 1, GRID)
    across, up = np.meshgrid(lines, lines)
    mean, error = found.at(np.column_stack([across.ravel(), up.ravel()]))
    x, y = (np.array([value_at(parameter, at) for at in lines]) for parameter in parameters)
    return keys, x, y, mean.reshape(GRID, GRID), error.reshape(GRID, GRID)


def _frame_map(axis: Axes, arm: ArmTrials, keys: Sequence[str]) -> None:
    """The winner's ring, what has no value, and the axes of the two parameters."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    lost = [trial for trial in arm.trials if not trial.goal_values and all(key in trial.values for key in keys)]
    axis.plot(*([trial.values[key] for trial in lost] for key in keys), "x", color=INK, markersize=3, mew=0.6)
    if (best := arm.best) is not None:
        ring = [best.values[key] for key in keys]
        axis.plot([ring[0]], [ring[1]], "o", color="white", fillstyle="none", markersize=11, markeredgewidth=2.4)
        axis.plot([ring[0]], [ring[1]], "o", color=INK, fillstyle="none", markersize=11, markeredgewidth=1.1)
    for name, key in zip("xy", keys, strict=True):
        parameter = arm.search.parameters[key]
        limits = (value_at(parameter, -0.03), value_at(parameter, 1.03))
        scale = "log" if parameter.log else "linear"
        axis.set(**{f"{name}scale": scale, f"{name}lim": limits, f"{name}label": arm.names.get(key, short_name(key))})
    # Texts are printed as they are (STYLE), so powers of ten would show their markup.
    for own in (axis.xaxis, axis.yaxis):
        own.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        own.set_minor_formatter(NullFormatter())


def _points(axis: Axes, arm: ArmTrials, places: Mapping[int, tuple[float, float]]) -> None:
    """Complete trials: dots, and stars where they were tried first."""
    for first, marker, size in ((False, "o", 3.5), (True, "*", 8.0)):
        own = [places[trial.number] for trial in arm.complete if trial.first == first]
        axis.plot(
            [x for x, _ in own], [y for _, y in own], marker, color=PAINT, markersize=size, markeredgecolor="white",
            markeredgewidth=0.4,
        )  # fmt: skip


def _importance(axis: Axes, arm: ArmTrials) -> None:
    found = importances(arm)
    names = [arm.names.get(key, short_name(key)) for key in found]
    axis.barh(range(len(found)), [100 * share for share in found.values()], color=PAINT, height=0.6)
    axis.set_yticks(range(len(found)), names)
    axis.invert_yaxis()
    axis.set_xlim(0, 100)
    axis.set_xlabel("share of the variance (%)")
    axis.grid(axis="x")


def _parallel(axis: Axes, arm: ArmTrials) -> None:
    from matplotlib import colormaps

    keys = list(arm.search.parameters)
    values = [trial.value for trial in arm.complete]
    low, high = min(values), max(values)
    width = (high - low) or 1.0
    for trial in sorted(arm.complete, key=lambda trial: trial.value):
        heights = [height(arm, trial, key) for key in keys]
        share = (trial.value - low) / width
        axis.plot(range(len(keys) + 1), [*heights, share], color=colormaps[COLORS](share), linewidth=0.9, alpha=0.9)
    if (best := arm.best) is not None:
        heights = [*(height(arm, best, key) for key in keys), (best.value - low) / width]
        axis.plot(range(len(heights)), heights, "o", color=INK, fillstyle="none", markersize=5)
    for i, key in enumerate(keys):
        axis.axvline(i, color=INK, linewidth=0.6)
        _ends(axis, i, [value_text(value) for value in extremes(arm.search.parameters[key])])
    axis.axvline(len(keys), color=INK, linewidth=0.6)
    _ends(axis, len(keys), [f"{low:.1f}", f"{high:.1f}"])
    axis.set_xticks(
        range(len(keys) + 1), [*(textwrap.fill(arm.names.get(key, short_name(key)), 12) for key in keys), "goal"]
    )
    axis.tick_params(axis="x", length=0, pad=11)
    axis.set_yticks([])
    axis.set_ylim(-0.02, 1.02)
    axis.margins(x=0.12)
    for side in ("left", "bottom"):
        axis.spines[side].set_visible(False)


def _ends(axis: Axes, x: float, texts: Sequence[str]) -> None:
    """What the lower and the upper end of an axis mean."""
    for y, text, side in ((0, texts[0], "top"), (1, texts[1], "bottom")):
        offset = (0, -3 if side == "top" else 3)
        axis.annotate(
            text, (x, y), offset, textcoords="offset points", ha="center", va=side, fontsize=SMALLEST, color=FAINT
        )


def _front(axis: Axes, arm: ArmTrials) -> None:
    points = {trial.number: (trial.goal_values[0], trial.goal_values[1]) for trial in arm.complete}
    front = sorted(points[trial.number] for trial in arm.front)
    axis.plot([x for x, _ in front], [y for _, y in front], "-", color=FAINT, linewidth=1)
    _points(axis, arm, points)
    for trial in arm.front:
        axis.plot(*points[trial.number], "o", color=INK, fillstyle="none", markersize=9, markeredgewidth=1.1)
    axis.set_xlabel(textwrap.fill(arm.goals[0], 34))
    axis.set_ylabel(textwrap.fill(arm.goals[1], 28))
    axis.grid()


def _spread_out(arm: ArmTrials) -> bool:
    """Whether complete trials span an area of the two parameters that a map shows."""
    keys = ranges(arm)[:2]
    if len(keys) < 2 or len(arm.search.objective) > 1 or len(arm.complete) < FEWEST:
        return False
    if len({trial.goal_values for trial in arm.complete}) < 2:
        return False
    points = np.array([[place(arm.search.parameters[k], t.values[k]) for k in keys] for t in arm.complete])
    return bool(np.linalg.matrix_rank(points - points.mean(axis=0), tol=1e-6) == 2)


KINDS = {
    "history": Kind(
        "History",
        "Grey: the best so far. Diamonds: repeats of the best, and of what was tried first, with other seeds. "
        "Bar at the right: one standard deviation of the seeds within a trial, around the mean of all. Crosses: trials "
        "that were pruned, or have no value.",
        lambda arm: bool(arm.complete) and len(arm.search.objective) == 1,
        (_history,),
        shared=True,
    ),
    "map": Kind(
        "Map",
        "Above: mean of a Gaussian process through all trials, each with the mean over its repeats where it has any "
        "(large signs), else over the search's seeds, moved by what the repeated trials have moved by on average, and "
        "with the error that the seeds' spread gives it; a sign has the colour of its trial's value. Below: the "
        "standard error of that surface.",
        _spread_out,
        (_map, _uncertainty),
    ),
    "importance": Kind(
        "Importance of the parameters",
        "fANOVA (a random forest over the complete trials), the first goal's.",
        lambda arm: len(arm.search.parameters) > 1 and bool(importances(arm)),
        (_importance,),
    ),
    "parallel": Kind(
        "Parallel coordinates",
        "A line for each complete trial, the lighter the larger its goal's value: the mean over its repeats, where it "
        "has any. Rings: the winner.",
        lambda arm: len(arm.complete) > 1 and len(arm.search.objective) == 1,
        (_parallel,),
        title_pad=14.0,
    ),
    "front": Kind(
        "Pareto front",
        "Rings: no other trial is as good in every goal and better in one.",
        lambda arm: bool(arm.complete) and len(arm.search.objective) > 1,
        (_front,),
    ),
}
"""Kinds of figures, by the name of the file."""


def extremes(parameter: ParameterConfig) -> tuple[Any, Any]:
    """Values at the two ends of the parameter's axis."""
    if parameter.choices:
        return parameter.choices[0], parameter.choices[-1]
    return parameter.low, parameter.high


def height(arm: ArmTrials, trial: Trial, key: str) -> float:
    """Where a trial's line meets a parameter's axis; NaN where it has no such parameter."""
    parameter = arm.search.parameters[key]
    if key not in trial.values:
        return math.nan
    if parameter.choices:
        return parameter.choices.index(trial.values[key]) / (len(parameter.choices) - 1)
    return place(parameter, trial.values[key])


def place(parameter: ParameterConfig, value: float) -> float:
    """Place of a value in its range, 0 to 1."""
    low, high, own = (_scale(parameter, x) for x in (parameter.low, parameter.high, value))
    return (own - low) / (high - low)


def value_at(parameter: ParameterConfig, place: float) -> float:
    """The value at a place of its range."""
    low, high = (_scale(parameter, x) for x in (parameter.low, parameter.high))
    own = low + place * (high - low)
    return math.exp(own) if parameter.log else own


def _scale(parameter: ParameterConfig, value: float | None) -> float:
    assert value is not None
    return math.log(value) if parameter.log else float(value)
