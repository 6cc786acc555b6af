"""Which part of a study to submit: what a table still lacks, and what of it a budget pays for.

A unit is what is missing of one run: its tasks, or those of them that are left. What they need of other runs, or share
with them, is bought with it, once. Bought are, in this order and each as far as the budget goes: the baseline's units;
whole rows of tables, the cheapest first, so that there are as many as can be; whole cells, those first that stand in
most rows; and single units in plan order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ablative.study.core.errors import ConfigError, unknown
from ablative.study.core.plurals import counted
from ablative.study.costs.estimate import Costs, estimated
from ablative.study.plan.outputs.claim_cells import resolve
from ablative.study.plan.outputs.layout import effects_layout, table_layout
from ablative.study.plan.plan import Plan
from ablative.study.plan.task import Task
from ablative.study.spec.design import allows, cell_name
from ablative.study.spec.outputs import ESTIMANDS, EffectsConfig, TableConfig
from ablative.study.syntax.metric_patterns import expand

UNITS = {"gpuh": "GPU-hours", "cpuh": "core-hours"}
CELLS_NAMED = 5
"""Cells that are named as left out."""

CellStages = dict[str, frozenset[str]]
"""Cell (its name) → names of stages of which something is wanted there; what they need always is."""


@dataclass(frozen=True)
class Budget:
    """Hours that a submission may cost."""

    hours: float
    unit: str
    """One of `UNITS`."""


@dataclass(frozen=True)
class MissingRun:
    """What is missing of one run."""

    run: Task
    tasks: tuple[Task, ...]
    price: float


@dataclass(frozen=True)
class Selection:
    """What of a plan to submit."""

    plan: Plan
    """The study without the tasks that are left out."""
    budget: Budget | None
    chosen: tuple[MissingRun, ...]
    left: tuple[MissingRun, ...]
    """What the budget does not pay for."""
    rows: tuple[int, int]
    """Table rows that the budget completes, and rows that lack something."""
    currency: str = ""
    """What prices are in: `A100-hours`."""
    costs: Costs | None = None
    """Costs of all tasks of the study; None where everything is submitted."""

    def describe(self) -> list[str]:
        """Lines for people: what is submitted, what is left out, and what that would cost."""
        if self.budget is None:
            return []
        spent, rest = (sum(each.price for each in units) for units in (self.chosen, self.left))
        rows = f", and completes {self.rows[0]} of {self.rows[1]} table rows" if self.rows[1] else ""
        what = f"{counted(len(self.chosen), 'run')} for about {estimated(spent)} {self.currency}{rows}"
        lines = [f"a budget of {self.budget.hours:,g} pays for {what}"]
        if self.left:
            cells: dict[str, list[int]] = {}
            for each in self.left:
                cells.setdefault(cell_name(each.run.cells[0]), []).append(each.run.seed)
            named = [f"{name} seed={','.join(map(str, seeds))}" for name, seeds in cells.items()]
            more = [f"and {len(named) - CELLS_NAMED} more cells"] if len(named) > CELLS_NAMED else []
            what = f"left out {counted(len(self.left), 'run')} for about {estimated(rest)} {self.currency} more"
            lines.append(f"{what}: {'; '.join([*named[:CELLS_NAMED], *more])}")
        return lines

    def to_json(self) -> dict[str, Any]:
        if self.budget is None:
            return {}
        return {
            "hours": self.budget.hours,
            "unit": self.budget.unit,
            "currency": self.currency,
            "price": sum(each.price for each in self.chosen),
            "rows": {"whole": self.rows[0], "incomplete": self.rows[1]},
            "left": [
                {"run_id": each.run.run_id, "cell": each.run.cells[0], "seed": each.run.seed, "price": each.price}
                for each in self.left
            ],
        }


def parse_budget(text: str) -> Budget:
    """`200gpuh` or `12.5cpuh`.

    Raises ConfigError for anything else.
    """
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+) ?([A-Za-z]*)", text.strip())
    if found is None:
        raise ConfigError(f"--budget: '{text}' is no number of hours with a unit, such as 200gpuh or 50cpuh")
    if found[2] not in UNITS:
        raise ConfigError(unknown("unit", found[2], UNITS, f"--budget {text}"))
    return Budget(float(found[1]), found[2])


def wanted(plan: Plan, output: str) -> CellStages:
    """Cells and stages behind the numbers of a table (or of a table of effects), or behind a claim.

    Raises ConfigError for a name that is neither, and for a claim that no number of seeds decides.
    """
    study = plan.study
    outputs: Mapping[str, TableConfig | EffectsConfig] = {**study.tables, **study.effects}
    config = outputs.get(output)
    if config is None and output in study.claims:
        return claim_stages(plan, output)
    if config is None:
        raise ConfigError(unknown("table or claim", output, [*outputs, *study.claims], f"--for: study '{study.name}'"))
    stages = _stages(plan, (pattern for column in config.columns for pattern in column.metric))
    if isinstance(config, EffectsConfig):
        cells = list(effects_layout(output, config, plan.cells).values())
    else:
        cells = [cell for cell in plan.cells if allows(cell, config.where)]
    return {cell_name(cell): stages for cell in cells}


def claim_stages(plan: Plan, name: str) -> CellStages:
    """Cells and stages that a claim compares; raises ConfigError for one that no number of seeds decides."""
    claim, at = plan.study.claims[name], f"--for: study '{plan.study.name}': claim '{name}'"
    if claim.estimand == ESTIMANDS[1]:
        raise ConfigError(f"{at} is about {ESTIMANDS[1]}: no number of seeds decides it, more tasks do")
    comparisons = resolve(claim, plan.study.factors, plan.cells, at)
    stages = _stages(plan, claim.metric)
    return {cell_name(cell): stages for comparison in comparisons for cell in comparison.cells}


def _stages(plan: Plan, patterns: Iterable[str]) -> frozenset[str]:
    """The stages that yield the metrics that are meant."""
    names = list(plan.metrics)
    return frozenset(plan.declared[metric].stage for pattern in patterns for metric in expand(pattern, names))


def restrict(tasks: Sequence[Task], places: CellStages) -> tuple[Task, ...]:
    """Those of `tasks` that some of the places want, and all that these need."""
    known = {task.task_id: task for task in tasks}
    wanted = [task for task in tasks if any(task.stage in places.get(cell_name(cell), ()) for cell in task.cells)]
    kept: set[str] = set()
    while wanted:
        task = wanted.pop()
        if task.task_id not in kept:
            kept.add(task.task_id)
            wanted += [known[need] for need in task.needs if need in known]
    return tuple(task for task in tasks if task.task_id in kept)


def rows_of(plan: Plan, tables: Sequence[str]) -> list[frozenset[str]]:
    """Run ids behind each row of these tables."""
    runs: dict[str, list[str]] = {}
    for task in plan.runs:
        for cell in task.cells:
            runs.setdefault(cell_name(cell), []).append(task.run_id)
    rows = []
    for name in tables:
        placed = table_layout(name, plan.study.tables[name], plan.study.factors, plan.cells)
        for cells in placed.values():
            rows.append(frozenset(run for cell in cells.values() for run in runs.get(cell_name(cell), ())))
    return rows


def choose_runs(
    prices: Mapping[str, float],
    baseline: frozenset[str],
    rows: Sequence[frozenset[str]],
    cells: Sequence[frozenset[str]],
    budget: float,
    needs: Mapping[str, frozenset[str]] | None = None,
) -> list[str]:
    """Units that so many hours pay for, in the order in which they are bought.

    Args:
        prices: unit → its hours, in plan order; also of what is bought for units alone, not by itself.
        baseline: its units.
        rows: units that each incomplete row lacks.
        cells: units that each incomplete cell lacks, in plan order.
        budget: hours.
        needs: unit → all that has to be bought with it, of units that are bought by themselves; None: nothing.
    """
    purse = _Budget(prices, budget, needs or {})
    purse.take(baseline)
    lacking = {i: purse.price(row) for i, row in enumerate(rows)}
    standing: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        for unit in row:
            standing.setdefault(unit, []).append(i)
    while lacking:
        cheapest = min(lacking, key=lambda i: (lacking[i], i))
        taken = purse.take(rows[cheapest])
        if taken is None:
            break
        del lacking[cheapest]
        # What has just been bought is missing no more in other rows.
        for i in {i for unit in taken for i in standing.get(unit, ())} & lacking.keys():
            lacking[i] = purse.price(rows[i])
    rank = {cell: -len({i for unit in cell for i in standing.get(unit, ())}) for cell in cells}
    for cell in sorted(cells, key=lambda cell: rank[cell]):
        purse.take(cell)
    for unit in prices if needs is None else needs:
        purse.take(frozenset([unit]))
    return list(purse.bought)


class _Budget:
    """What is bought, and the hours that are left."""

    def __init__(self, prices: Mapping[str, float], budget: float, needs: Mapping[str, frozenset[str]]) -> None:
        self.prices = prices
        self.bought: dict[str, None] = {}
        # A budget that is the sum of all prices pays for them, in whatever order they are summed.
        self.left = budget * (1 + 1e-9)
        self._needs = needs

    def price(self, units: frozenset[str]) -> float:
        """Hours of those among `units`, and of what they need, that are not bought yet."""
        return sum(self.prices[unit] for unit in self._open(units))

    def take(self, units: frozenset[str]) -> list[str] | None:
        """Buy what is missing of `units` and of what they need, or None where it costs too much."""
        price = self.price(units)
        if price > self.left:
            return None
        new = self._open(units)
        self.bought.update(dict.fromkeys(new))
        self.left -= price
        return new

    def _open(self, units: frozenset[str]) -> list[str]:
        found = units.union(*(self._needs.get(unit, ()) for unit in units))
        return [unit for unit in found if unit not in self.bought]
