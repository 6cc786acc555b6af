"""What a declared figure needs, so that a plan can refuse one that cannot be drawn."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ablative.study.core.errors import ConfigError, unknown
from ablative.study.core.plurals import plural
from ablative.study.spec.design import Cell, allows, put
from ablative.study.spec.outputs import BY_METRIC, FigureConfig
from ablative.study.spec.study_file import Study
from ablative.study.syntax.metric_patterns import expand
from ablative.study.trainers import Metric

FIGURE_METRICS = {"scatter": 2, "curves": 1, "effects": 0, "custom": 0, "panels": 0}
"""How many metrics a kind of figure draws, where it is not any number."""
OWN_KEYS = {"effects": ("effects",), "custom": ("function", "sql"), "panels": ("show",)}
"""Keys that one kind alone has, and needs."""
MAX_PANELS = 6
"""Cells whose pictures stand side by side: more would be too small to see in print."""


def check_figure(
    name: str,
    config: FigureConfig,
    study: Study,
    cells: Sequence[Cell],
    declared: Mapping[str, Metric] | None = None,
) -> None:
    """Refuse a figure that cannot be drawn as declared: raises ConfigError. `declared`: metrics by name."""
    where = f"figure '{name}'"
    _check_keys(where, config)
    _check_units(where, config, declared or {})
    if config.kind == "effects":
        _check_effects(where, config, study)
    if config.kind == "custom" and not re.fullmatch(r"[\w./-]+:\w+", config.function):
        raise ConfigError(f"{where}: function '{config.function}': expected FILE.py:NAME or MODULE:NAME")
    kept = [cell for cell in cells if allows(cell, config.where)]
    if config.shade == "difference":
        _check_baseline(where, config, study, kept)
    if config.kind == "panels" and len(kept) > MAX_PANELS:
        raise ConfigError(f"{where}: {len(kept)} cells, but panels show up to {MAX_PANELS}; choose some in where")
    if config.position:
        positions(where, config, study.design.factors)
    if config.kind in ("bars", "lines"):
        factors = (config.panel if config.panel != BY_METRIC else "", config.hue, config.x)
        places: dict[tuple[str, ...], Cell] = {}
        for cell in kept:
            at = tuple(cell.get(factor, "–") for factor in factors if factor)
            put(places, at, cell, where, "use {} as x, hue or panel")


def positions(where: str, config: FigureConfig, factors: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Level of the horizontal factor -> its place on a logarithmic axis; raises ConfigError where one has none."""
    found: dict[str, float] = {}
    for level, meaning in factors.get(config.x, {}).items():
        value = meaning.get(config.position)
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise ConfigError(
                f"{where}: position: level '{level}' of '{config.x}' sets no positive number as {config.position}"
            )
        found[level] = float(value)
    return found


def _check_keys(where: str, config: FigureConfig) -> None:
    for kind, key in itertools.chain.from_iterable([(kind, key) for key in keys] for kind, keys in OWN_KEYS.items()):
        if kind == config.kind and not getattr(config, key):
            raise ConfigError(f"{where}: kind {kind} needs '{key}'")
        if kind != config.kind and getattr(config, key):
            raise ConfigError(f"{where}: '{key}' belongs to kind {kind}, not to {config.kind}")
    if config.position and (config.kind != "lines" or not config.x):
        raise ConfigError(f"{where}: 'position' belongs to kind lines with a factor as x")
    if config.panel == BY_METRIC and config.kind not in ("bars", "lines"):
        raise ConfigError(f"{where}: kind {config.kind} has no panel for each metric; bars and lines have")
    needed = FIGURE_METRICS.get(config.kind, max(1, len(config.metric)))
    if len(config.metric) != needed:
        wanted = f"{needed or 'no'} {plural('metric', needed)}"
        raise ConfigError(f"{where}: kind {config.kind} needs {wanted}, found {len(config.metric)}")


def _check_units(where: str, config: FigureConfig, declared: Mapping[str, Metric]) -> None:
    """Refuse an axis over a mean of metrics whose units differ: it would have none, and the mean no meaning."""
    if config.kind not in ("bars", "lines", "scatter", "curves"):
        return
    apart = config.panel == BY_METRIC or config.kind in FIGURE_METRICS
    axes = [(pattern,) for pattern in config.metric] if apart else [config.metric]
    for patterns in axes:
        names = {name for pattern in patterns for name in expand(pattern, list(declared))}
        units = sorted({declared[name].unit or "none" for name in names})
        if len(units) > 1:
            raise ConfigError(
                f"{where}: metric: one axis shows the mean over {len(names)} metrics with the units "
                f"{', '.join(units)}; choose metrics of one unit, or 'panel: metric' with one pattern for each"
            )


def _check_baseline(where: str, config: FigureConfig, study: Study, kept: Sequence[Cell]) -> None:
    """Refuse differences to a baseline that the study lacks, or that is in no panel."""
    if config.kind != "heatmap":
        raise ConfigError(f"{where}: 'shade: difference' belongs to kind heatmap, not to {config.kind}")
    if not study.baseline:
        raise ConfigError(f"{where}: 'shade: difference' needs a study with a baseline")
    own = {factor: level for factor, level in study.baseline.items() if factor != config.panel}
    panels = {cell.get(config.panel, "") for cell in kept if not config.panel or config.panel in cell}
    with_one = {cell.get(config.panel, "") for cell in kept if all(cell.get(f) == own[f] for f in own)}
    lacking = sorted(panels - with_one)
    if lacking:
        at = f" in the panel {lacking[0]}" if lacking[0] else ""
        raise ConfigError(f"{where}: 'shade: difference' needs the baseline {own} among the rows{at}")


def _check_effects(where: str, config: FigureConfig, study: Study) -> None:
    known = [name for name, effects in study.effects.items() if effects.kind == "factors"]
    if config.effects not in known:
        raise ConfigError(unknown("effects of kind factors", config.effects, known, where))
