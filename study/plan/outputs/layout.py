"""Layout of tables: which cell of the grid has which row and column, so that a plan can check it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ablative.study.core.errors import ConfigError, unknown
from ablative.study.plan.outputs.figure_checks import check_figure
from ablative.study.spec.design import Cell, allows, differences, put
from ablative.study.spec.labels import StudyLabels, check_labelled
from ablative.study.spec.outputs import EffectsConfig, FigureConfig, TableConfig
from ablative.study.spec.study_file import Study
from ablative.study.syntax.metric_patterns import expand
from ablative.study.trainers import Metric

STEP = "step"
"""The axis of curves."""
TableLayout = dict[tuple[str, ...], dict[str, Cell]]
"""Levels of the row factors (empty where one does not apply) -> level of the split factor -> the cell there."""


def check_outputs(study: Study, declared: Mapping[str, Metric], cells: Sequence[Cell]) -> None:
    """Refuse a table in which two cells share a place, and any output or label of what the study does not have."""
    metrics = list(declared)
    for kind, outputs in (("tables", study.tables), ("effects", study.effects), ("figures", study.figures)):
        for name, output in outputs.items():
            columns = (output,) if isinstance(output, FigureConfig) else output.columns
            for pattern in (pattern for column in columns for pattern in column.metric):
                if not expand(pattern, metrics):
                    raise ConfigError(unknown("metric", pattern, metrics, f"{study.where}: {kind}.{name}"))
    for name, table in study.tables.items():
        _check_compared(name, table, study, table_layout(name, table, study.factors, cells))
    for name, effects in study.effects.items():
        effects_layout(name, effects, cells)
    for name, figure in study.figures.items():
        check_figure(name, figure, study, cells, declared)
    check_labels(study, declared)


def baseline_row(config: TableConfig, baseline: Mapping[str, str] | None) -> tuple[str, ...]:
    """Levels of the row that `delta` and `relative` compare the others with."""
    return tuple((baseline or {}).get(factor, "") for factor in config.rows)


def _check_compared(name: str, config: TableConfig, study: Study, places: TableLayout) -> None:
    """Refuse `delta` and `relative` where the table has no row that they can compare with; an empty table has none."""
    asked = " and ".join(key for key in ("delta", "relative") if getattr(config, key))
    if not asked or not places or (study.baseline and baseline_row(config, study.baseline) in places):
        return
    where = f"{study.where}: tables.{name}: {asked}: "
    if not study.baseline:
        raise ConfigError(f"{where}the study has no baseline to compare with; add 'baseline: {{FACTOR: LEVEL, ...}}'")
    row = ", ".join(f"{factor}={study.baseline[factor]}" for factor in config.rows if factor in study.baseline)
    raise ConfigError(
        f"{where}no row of the table is the baseline's ({row}); let its where keep that row, or take {asked} away"
    )


def check_labels(study: Study, declared: Mapping[str, Metric]) -> None:
    """Refuse a label of a metric, column, unit or axis that the study does not have."""
    if study.labels == StudyLabels():
        return
    columns = [column for table in study.tables.values() for column in table.columns]
    columns += [column for effects in study.effects.values() for column in effects.columns]
    heads = [text for column in columns for text in (column.label, column.group)]
    for query in study.queries.values():
        heads += [text for name, own in query.columns.items() for text in (name, own.label, own.group)]
    keys = [key for levels in study.design.factors.values() for meaning in levels.values() for key in meaning]
    others: dict[str, Iterable[str]] = {
        "columns": filter(None, heads),
        "units": {unit for metric in declared.values() for unit in (metric.unit, metric.difference_unit) if unit},
        "axes": [STEP, *study.factors, *declared, *keys, *(study.search.parameters if study.search else ())],
    }
    check_labelled(study.labels, list(declared), others, f"{study.where}: labels")


def without_cells(study: Study, cells: Sequence[Cell]) -> list[str]:
    """Tables, effects and figures (`tables.main`) whose `where` keeps none of these cells, so that they stay empty."""
    outputs: dict[str, Mapping[str, TableConfig | EffectsConfig | FigureConfig]] = {
        "tables": study.tables,
        "effects": study.effects,
        "figures": study.figures,
    }
    return [
        f"{kind}.{name}"
        for kind, named in outputs.items()
        for name, output in named.items()
        if not any(allows(cell, output.where) for cell in cells)
    ]


def split_levels(config: TableConfig, factors: Mapping[str, Sequence[str]], cells: Sequence[Cell]) -> tuple[str, ...]:
    """Levels of the split factor that the table's cells have, in the study's order; `("",)` without a split."""
    present = {cell.get(config.split) for cell in cells if allows(cell, config.where)}
    return tuple(level for level in factors.get(config.split, ()) if level in present) or ("",)


def table_layout(
    name: str, config: TableConfig, factors: Mapping[str, Sequence[str]], cells: Sequence[Cell]
) -> TableLayout:
    """Lay the cells out: rows by the order of levels in the study, a factor that does not apply first.

    Raises ConfigError where two cells would share a place.
    """
    places: TableLayout = {}
    splits = split_levels(config, factors, cells)
    kept = [cell for cell in cells if allows(cell, config.where)]
    ranks = {factor: {"": -1} | {level: i for i, level in enumerate(factors[factor])} for factor in config.rows}
    for cell in sorted(kept, key=lambda cell: [ranks[factor][cell.get(factor, "")] for factor in config.rows]):
        row = places.setdefault(tuple(cell.get(factor, "") for factor in config.rows), {})
        # A cell to which the split factor does not apply is the same at each of its levels.
        for split in [cell[config.split]] if config.split in cell else splits:
            if split in row:
                raise ConfigError(_clash(name, config, row[split], cell))
            row[split] = cell
    return places


def effects_layout(name: str, config: EffectsConfig, cells: Sequence[Cell]) -> dict[tuple[str, ...], Cell]:
    """Levels of the factors, in their order -> the cell there; cells that lack one of the factors are left out.

    Raises ConfigError where two cells would share a place.
    """
    places: dict[tuple[str, ...], Cell] = {}
    for cell in cells:
        if not allows(cell, config.where) or any(factor not in cell for factor in config.factors):
            continue
        at = tuple(cell[factor] for factor in config.factors)
        put(places, at, cell, f"effects '{name}'", "add {} to its factors")
    return places


def _clash(name: str, config: TableConfig, one: Cell, other: Cell) -> str:
    differ = differences(one, other)
    row = ", ".join(one[factor] for factor in config.rows if factor in one)
    levels = " and ".join(
        ", ".join(f"{f}={cell[f]}" for f in differ if f in cell) or "neither" for cell in (one, other)
    )
    return (
        f"table '{name}': row '{row}' stands for several cells ({levels}); add {' or '.join(differ)} to its rows or "
        "split, or choose one level in where"
    )
