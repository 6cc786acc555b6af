"""What the page says besides tables and figures: how far the study is, what it cost, and on what it ran."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass

from ablative.reports.costs.environment import EnvironmentCounts, environment_counts
from ablative.reports.costs.stage_costs import CostRow, cost_rows, statement, wasted
from ablative.reports.costs.usage_table import UsageTable, study_usage
from ablative.reports.store.coverage import StoredState
from ablative.reports.store.labels import Labels
from ablative.reports.store.results import Results
from ablative.reports.store.warehouse import cell_key
from ablative.reports.tables.escape import bare


@dataclass(frozen=True)
class GridRow:
    """One cell of the study: its levels, and the states of its tasks in each stage, one for each seed."""

    levels: tuple[str, ...]
    """Level of each factor; empty where it does not apply."""
    stages: tuple[tuple[StoredState, ...], ...]
    """States of the tasks of each of `Overview.stages`; empty where the cell lacks the stage."""


@dataclass(frozen=True)
class Leftover:
    """A task in the store that the study, as it is now, does not name."""

    task_id: str
    cells: str
    """Labels of its cells."""
    stage: str
    seed: int | None
    state: str


@dataclass(frozen=True)
class Overview:
    """Everything on the page that is neither a table nor a figure of the study."""

    study: str
    title: str
    factors: tuple[str, ...]
    labels: Labels
    """How factors and levels are printed."""
    seeds: tuple[int, ...]
    cells: int
    runs: int
    counts: dict[str, int]
    """State -> tasks."""
    date: str
    """When the newest task of the study ended (UTC); empty before any did. Not when the page was written."""
    stages: tuple[str, ...]
    """Stages of the study, each after those that it needs."""
    grid: tuple[GridRow, ...]
    failures: tuple[tuple[str, int], ...]
    """Cause -> tasks."""
    cost: tuple[CostRow, ...]
    """Stages, then the search, then what the study no longer names, then the sum."""
    wasted: str
    """What came to nothing, in words."""
    compute: str
    """What it cost, in the words that a paper's checklist asks for."""
    environment: EnvironmentCounts
    leftovers: tuple[Leftover, ...]
    existing: tuple[str, ...]
    """What was found of results that exist already."""
    usage: UsageTable | None
    """What was spent and wasted, by table and cell; None where no attempt has reported it."""

    @property
    def large(self) -> bool:
        """So many cells that the grid of states is folded, and seeds of one state are one sign."""
        return len(self.grid) > 200

    @property
    def levels(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Levels that the cells have of each factor with more than one, in the order of the grid."""
        found = [
            tuple(dict.fromkeys(row.levels[i] for row in self.grid if row.levels[i])) for i in range(len(self.factors))
        ]
        return tuple((name, own) for name, own in zip(self.factors, found, strict=True) if len(own) > 1)

    @property
    def tasks(self) -> int:
        return sum(self.counts.values())

    @property
    def finished(self) -> int:
        return self.counts.get("completed", 0) + self.counts.get("diverged", 0)


def survey(results: Results) -> Overview:
    """The overview, from the plan, the states of its tasks and the marts."""
    plan, coverage, warehouse = results.plan, results.coverage, results.warehouse
    factors = tuple(plan.study.factors)
    stages = plan.stages
    grid = tuple(
        GridRow(
            tuple(cell.get(factor, "") for factor in factors),
            tuple(coverage.tasks.get((cell_key(cell), stage), ()) for stage in stages),
        )
        for cell in plan.cells
    )
    failures = Counter(state.cause for state in coverage.states.values() if state.state == "failed")
    [(newest,)] = warehouse.rows("select max(finished) from runs where planned")
    environment = environment_counts(results)
    devices = dict(next((values for name, values in environment if name == "device"), ()))
    cost, waste = cost_rows(warehouse), wasted(warehouse)
    return Overview(
        study=plan.study.name,
        title=plan.study.title,
        factors=factors,
        labels=results.labels,
        seeds=plan.study.seeds,
        cells=len(plan.cells),
        runs=len(plan.runs),
        counts=coverage.counts(),
        date=f"{newest:%Y-%m-%d %H:%M} UTC" if newest else "",
        stages=stages,
        grid=grid,
        failures=tuple(failures.most_common()),
        cost=cost,
        wasted=waste,
        compute=statement(cost, devices, waste),
        environment=environment,
        leftovers=tuple(
            Leftover(task, _cells(cells, results.labels), *rest) for task, cells, *rest in warehouse.rows(_LEFTOVERS)
        ),
        existing=tuple(plan.existing.notes) if plan.existing is not None else (),
        usage=study_usage(results),
    )


def _cells(tag: str, labels: Labels) -> str:
    """The cells of a task, from the tag of its run; a tag that is no list of cells is printed as it is."""
    try:
        found = json.loads(tag)
        return "; ".join(bare(labels.cell(cell)) for cell in found)
    except (ValueError, TypeError, AttributeError):
        return tag


_LEFTOVERS = """
    select task_id, coalesce(cells, ''), stage, seed, coalesce(state, '')
    from runs where not planned and not searched order by cells, seed, task_id <> run_id, stage, task_id
"""
