"""Factors and levels to cells: full product, one factor at a time, leave one out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ablative.study.core.errors import ConfigError, unknown

Cell = dict[str, str]
"""Factor → level; a factor that does not apply is absent."""

DESIGNS = ("product", "one_at_a_time", "leave_one_out")


@dataclass(frozen=True)
class Design:
    """The grid of a study as its file declares it."""

    factors: Mapping[str, Mapping[str, Mapping[str, Any]]]
    """Factor → level → the overrides that the level means."""
    applies: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    """Factor → conditions (factor → levels) without which it does not exist."""
    drop: Sequence[Mapping[str, Sequence[str]]] = ()
    """Cells that are not run: conditions (factor → levels), all of which must hold."""
    baseline: Mapping[str, str] = field(default_factory=dict)
    kind: str = "product"

    def cells(self) -> list[Cell]:
        """Every cell, in the order of the file (leftmost factor slowest)."""
        if self.kind == "product":
            cells = self._product()
        else:
            around = self._around_baseline()
            cells = [cell for cell in self._product() if cell in around]
        kept = [cell for cell in cells if not any(satisfies(cell, condition) for condition in self.drop)]
        if not kept:
            raise ConfigError("drop: no cell is left to run")
        return kept

    def check(self) -> None:
        """Raise ConfigError for names that do not exist and for parts without effect."""
        self._check_levels()
        self._check_names()
        product = self._product()
        for name in self.factors:
            if not any(name in cell for cell in product):
                raise ConfigError(f"applies.{name}: the factor never applies")
        for condition in self.drop:
            if not any(satisfies(cell, condition) for cell in product):
                raise ConfigError(f"drop: {dict(condition)} matches no cell")
        for cell in product:
            self._check_collision(cell)
        if self.kind != "product" and not self.baseline:
            raise ConfigError(f"baseline: missing; the design {self.kind} starts from it")
        if self.baseline and dict(self.baseline) not in self.cells():
            near = [cell for cell in product if self.baseline.items() <= cell.items()]
            hint = f"; it lacks {', '.join(set(near[0]) - set(self.baseline))}" if near else ""
            raise ConfigError(f"baseline: {dict(self.baseline)} is not a cell of the grid{hint}")

    def overrides(self, cell: Cell) -> dict[str, Any]:
        """What the cell's levels mean, together: key or config group → value."""
        merged: dict[str, Any] = {}
        for factor, level in cell.items():
            merged.update(self.factors[factor][level])
        return merged

    def _product(self) -> list[Cell]:
        cells: list[Cell] = [{}]
        for factor in self._dependency_order():
            grown: list[Cell] = []
            for cell in cells:
                if satisfies(cell, self.applies.get(factor, {})):
                    grown.extend({**cell, factor: level} for level in self.factors[factor])
                else:
                    grown.append(cell)
            cells = grown
        rank = {factor: {level: i for i, level in enumerate(levels)} for factor, levels in self.factors.items()}
        ordered = [{factor: cell[factor] for factor in self.factors if factor in cell} for cell in cells]
        return sorted(ordered, key=lambda cell: [rank[f][cell[f]] if f in cell else -1 for f in self.factors])

    def _around_baseline(self) -> list[Cell]:
        """The baseline and its neighbours in one factor.

        Leave-one-out reads the baseline as the whole system and a factor's first level as "without it".
        """
        cells = [dict(self.baseline)]
        for factor, level in self.baseline.items():
            levels = list(self.factors[factor])
            if self.kind == "leave_one_out":
                if level == levels[0]:
                    raise ConfigError(
                        f"baseline.{factor}: '{level}' is the factor's first level, which leave_one_out reads as "
                        f"'without {factor}'; the baseline must hold another one"
                    )
                levels = levels[:1]
            for other in levels:
                cells.append(self._complete({**self.baseline, factor: other}))
        return cells

    def _complete(self, levels: Mapping[str, str]) -> Cell:
        """The cell of these levels: factors that do not exist there fall away, new ones take their first level."""
        cell: Cell = {}
        for factor in self._dependency_order():
            if satisfies(cell, self.applies.get(factor, {})):
                cell[factor] = levels.get(factor) or next(iter(self.factors[factor]))
        return {factor: cell[factor] for factor in self.factors if factor in cell}

    def _dependency_order(self) -> list[str]:
        order: list[str] = []
        waiting = list(self.factors)
        while waiting:
            ready = [name for name in waiting if all(other in order for other in self.applies.get(name, {}))]
            if not ready:
                raise ConfigError(f"applies: {', '.join(waiting)} depend on each other in a circle")
            order.extend(ready)
            waiting = [name for name in waiting if name not in ready]
        return order

    def _check_names(self) -> None:
        for name, condition in self.applies.items():
            if name not in self.factors:
                raise ConfigError(unknown("factor", name, self.factors, "applies"))
            self._check_condition(condition, f"applies.{name}")
        for condition in self.drop:
            self._check_condition(condition, "drop")
        self._check_condition({factor: [level] for factor, level in self.baseline.items()}, "baseline")

    def _check_condition(self, condition: Mapping[str, Sequence[str]], where: str) -> None:
        for factor, levels in condition.items():
            if factor not in self.factors:
                raise ConfigError(unknown("factor", factor, self.factors, where))
            for level in levels:
                if level not in self.factors[factor]:
                    raise ConfigError(unknown("level", level, self.factors[factor], f"{where}.{factor}"))

    def _check_levels(self) -> None:
        for factor, levels in self.factors.items():
            if not levels:
                raise ConfigError(f"factors.{factor}: no levels")
            seen: dict[str, str] = {}
            for level, meaning in levels.items():
                key = repr(sorted(meaning.items(), key=lambda item: item[0]))
                if key in seen:
                    raise ConfigError(
                        f"factors.{factor}.{level}: changes nothing, it means the same as '{seen[key]}' "
                        f"({dict(meaning)})"
                    )
                seen[key] = level

    def _check_collision(self, cell: Cell) -> None:
        owner: dict[str, str] = {}
        for factor, level in cell.items():
            for key in self.factors[factor][level]:
                if key in owner:
                    raise ConfigError(
                        f"factors: '{owner[key]}' and '{factor}' both set {key} in cell {cell_name(cell)}"
                    )
                owner[key] = factor


def satisfies(cell: Mapping[str, str], condition: Mapping[str, Sequence[str]]) -> bool:
    """Whether the cell has, for every factor of the condition, one of the levels named there.

    A factor that the cell lacks fails, so `applies` and `drop` mean only cells that have it; `allows` lets it pass.
    """
    return all(cell.get(factor) in levels for factor, levels in condition.items())


def allows(cell: Mapping[str, str], where: Mapping[str, Sequence[str]]) -> bool:
    """Whether a selection by levels (`where`) keeps the cell.

    A factor that the cell lacks passes, so a selection keeps cells to which the factor does not apply; in `satisfies`
    it fails.
    """
    return all(cell[factor] in levels for factor, levels in where.items() if factor in cell)


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


def cell_name(cell: Mapping[str, str]) -> str:
    """`method=clip,pooling=map`; the only cell of a study without factors is `all`."""
    return ",".join(f"{factor}={level}" for factor, level in cell.items()) or "all"
