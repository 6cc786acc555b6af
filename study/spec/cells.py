"""Cells chosen by their levels, and put into places of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ablative.study.core.errors import ConfigError
from ablative.study.spec.design import Cell


def keep(cell: Mapping[str, str], where: Mapping[str, Sequence[str]]) -> bool:
    """Whether a cell has the wanted levels; a factor that it lacks does not exclude it."""
    return all(cell.get(factor, None) in (None, *levels) for factor, levels in where.items())


def put(places: dict[tuple[str, ...], Cell], at: tuple[str, ...], cell: Cell, where: str, remedy: str) -> None:
    """Give a cell its place; raises ConfigError where another has it: averaging over a factor unasked would hide it."""
    if at in places:
        differ = " or ".join(differences(places[at], cell))
        raise ConfigError(
            f"{where}: several cells share the place '{', '.join(at)}'; {remedy.format(differ)}, or choose one level "
            "in where"
        )
    places[at] = cell


def differences(one: Cell, other: Cell) -> list[str]:
    """Factors in which two cells differ."""
    return [factor for factor in {**one, **other} if one.get(factor) != other.get(factor)]
