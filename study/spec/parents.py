"""Levels that start from another run, `from: {factor: level}`: the cell whose run a cell's run needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ablative.study.core.errors import ConfigError, unknown
from ablative.study.spec.design import Cell, Design, cell_name

PARENT_KEY = "from"
"""Key in a level's meaning: the run needs that of the same cell with these levels, of the same seed."""


def check_parents(design: Design, where: str) -> None:
    """Raise ConfigError for a `from` that names what the study does not have, or its own level."""
    for factor, levels in design.factors.items():
        for level, meaning in levels.items():
            if PARENT_KEY in meaning:
                _check(meaning[PARENT_KEY], factor, level, design, f"{where}: factors.{factor}.{level}.from")


def _check(named: Any, factor: str, level: str, design: Design, at: str) -> None:
    if not isinstance(named, Mapping) or not named:
        raise ConfigError(f"{at}: expected factor: level, found {named!r}")
    for other, its in named.items():
        if other not in design.factors:
            raise ConfigError(unknown("factor", str(other), design.factors, at))
        if str(its) not in design.factors[other]:
            raise ConfigError(unknown("level", str(its), design.factors[other], f"{at}.{other}"))
    if str(named.get(factor)) == level:
        raise ConfigError(f"{at}: '{level}' would start from itself")


def parents(design: Design, cells: Sequence[Cell], where: str) -> dict[str, Cell]:
    """Name of a cell → the cell whose run it starts from, of cells that start from one.

    Raises ConfigError where that cell is not in the grid, is not one, or starts from the first in the end.
    """
    found: dict[str, Cell] = {}
    for cell in cells:
        named = design.overrides(cell).get(PARENT_KEY)
        if named is not None:
            found[cell_name(cell)] = _parent(cell, {k: str(v) for k, v in named.items()}, cells, where)
    for name in found:
        trail = [name]
        while trail[-1] in found:
            trail.append(cell_name(found[trail[-1]]))
            if trail[-1] in trail[:-1]:
                raise ConfigError(f"{where}: factors: {' starts from '.join(trail)}; a run cannot start from itself")
    return found


def _parent(cell: Cell, named: Mapping[str, str], cells: Sequence[Cell], where: str) -> Cell:
    same = {factor: level for factor, level in cell.items() if factor not in named}
    fit = [
        other
        for other in cells
        if named.items() <= other.items() and all(other[f] == level for f, level in same.items() if f in other)
    ]
    if len(fit) != 1:
        found = " and ".join(map(cell_name, fit)) or "no cell of the grid"
        raise ConfigError(
            f"{where}: cell {cell_name(cell)} starts from the same cell with {cell_name(named)}, which is {found}; "
            "keep that cell in the grid (drop, design), and name a level of each factor in which they differ"
        )
    return fit[0]
