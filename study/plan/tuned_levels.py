"""Levels that mean the best of a search, `tuned: {search: NAME}`: what they stand for once it is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ablative.study.core.errors import ConfigError
from ablative.study.core.files import read_json
from ablative.study.core.typed import plain
from ablative.study.home.paths import Home
from ablative.study.plan.search_arms import SearchArm
from ablative.study.spec.design import Cell, Design, cell_name
from ablative.study.spec.search import SEARCH_KEY, SearchConfig

RESULT = {
    "cell": {str: str},
    "key": str,
    "objective?": list,
    "budget": dict,
    "seeds": list,
    "confirm": {"seeds": list},
    "hours": float,
    "best": ({"values": dict}, None),
    "trials": [{"state": str}],
}
"""What is read of an arm's `result.json`."""


@dataclass(frozen=True)
class Searched:
    """What the search behind a level cost; it is printed below every table that shows the level."""

    level: str
    """`factor=level`."""
    study: str
    arm: str
    """Key of the arm whose search it was."""
    trials: int
    seeds: int
    """Seeds of each trial."""
    repeats: int
    """Seeds with which the best were repeated."""
    hours: float
    """Hours of the arm's trials and repeats together."""
    validated: bool = True
    """It chose by data that no table shows."""


@dataclass(frozen=True)
class Tuned:
    """Looks up, for each cell, what the search that its levels name has found."""

    design: Design
    study: str
    arms: tuple[SearchArm, ...]
    """Arms of the study's own search."""
    search: SearchConfig | None
    home: Home

    @cached_property
    def _searched(self) -> frozenset[tuple[str, str]]:
        """(factor, level) of the levels that mean a search."""
        factors = self.design.factors.items()
        return frozenset((f, name) for f, own in factors for name, means in own.items() if SEARCH_KEY in means)

    def names_search(self, cell: Cell) -> bool:
        """Whether a level of the cell means a search."""
        return bool(self._searched) and not self._searched.isdisjoint(cell.items())

    def fixed(self, levels: Mapping[str, str]) -> Cell:
        """The levels that mean overrides, not a search."""
        return {f: level for f, level in levels.items() if SEARCH_KEY not in self.design.factors[f][level]}

    def meaning(self, cell: Cell) -> dict[str, Any]:
        """The cell's overrides, with a searched level's values in its place; it must not be `waiting`."""
        overrides = self.design.overrides(cell)
        overrides.pop(SEARCH_KEY, None)
        return {**overrides, **self.values(cell)}

    def values(self, cell: Cell) -> dict[str, object]:
        """What the search has found for a cell; empty for a cell that is not searched."""
        name = self.design.overrides(cell).get(SEARCH_KEY)
        return {} if name is None else dict(self._best(cell, name)[0])

    def waiting(self, cell: Cell) -> str:
        """Why the cell's configuration is not known yet; empty where it is."""
        if not self.names_search(cell):
            return ""
        name = self.design.overrides(cell)[SEARCH_KEY]
        if self._best(cell, name):
            return ""
        done = "was done with another budget or other repeats" if self._found(cell, name) else "is not done"
        return f"the search of {name} {done}: ablate search {name}"

    def searched(self, cell: Cell) -> Searched | None:
        """The search behind a cell's searched level; None where the cell has none, or the search is not done."""
        if not self.names_search(cell):
            return None
        level = next(item for item in cell.items() if item in self._searched)
        name = self.design.factors[level[0]][level[1]][SEARCH_KEY]
        found = self._results(cell, name)
        if not found:
            return None
        trials = sum(trial["state"] != "waiting" for trial in found[0]["trials"])
        seeds, repeats = len(found[0]["seeds"]), len(found[0]["confirm"]["seeds"])
        validated, hours = found[0].get("validated", True), found[0]["hours"]
        return Searched("=".join(level), str(name), found[0]["key"], trials, seeds, repeats, hours, validated)

    def _results(self, cell: Cell, name: str) -> list[dict[str, Any]]:
        """What searches of the study have found for the cell.

        Of our own, only with the budget and the repeats that the section has now: arms are tuned equally or not at all.
        """
        found = self._found(cell, name)
        if name != self.study or self.search is None:
            return found
        wanted = {"budget": plain(self.search.budget), "confirm": plain(self.search.confirm)}
        return [result for result in found if {key: result[key] for key in wanted} == wanted]

    def _found(self, cell: Cell, name: str) -> list[dict[str, Any]]:
        search = self.home.study(name).search
        if name == self.study:
            found = [read_json(search.result(self._arm(cell).key), RESULT)]
        else:
            found = [read_json(path, RESULT) for path in sorted(search.root.glob("*/result.json"))]
        return [result for result in found if result is not None and result["cell"].items() <= cell.items()]

    def _best(self, cell: Cell, name: str) -> Sequence[dict[str, Any]]:
        """One set of values, or none."""
        fit = self._results(cell, name)
        for result in fit:
            if result["best"] is None:
                several = len(result.get("objective", ())) > 1
                reason = "has several goals and no single best" if several else "completed no trial"
                raise ConfigError(f"cell {cell_name(cell)}: the search of {name} {reason}")
        values = [result["best"]["values"] for result in fit]
        if any(other != values[0] for other in values):
            raise ConfigError(f"cell {cell_name(cell)}: the study {name} was searched in {len(fit)} ways that differ")
        return values[:1]

    def _arm(self, cell: Cell) -> SearchArm:
        per = self.search.per if self.search else ()
        levels = {factor: cell[factor] for factor in per if factor in cell}
        for arm in self.arms:
            if arm.cell == levels:
                return arm
        raise ConfigError(f"cell {cell_name(cell)} is to be tuned, but the search leaves it out (search.where)")
