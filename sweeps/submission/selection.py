"""`--budget` and `--for`: the part of a study that a submission takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping

from ablative.study.core.errors import AblateError, ConfigError
from ablative.study.core.plurals import counted
from ablative.study.costs.budget import (
    UNITS,
    Budget,
    MissingRun,
    Selection,
    choose_runs,
    parse_budget,
    restrict,
    rows_of,
    wanted,
)
from ablative.study.costs.estimate import MEASURE, Costs, estimate, estimated
from ablative.study.plan.plan import Plan
from ablative.study.plan.task import Task
from ablative.study.spec.design import cell_name
from ablative.sweeps.queue import job_code
from ablative.sweeps.status.task_states import Survey, survey
from ablative.sweeps.submission.submit import choose


def select(plan: Plan, budget: str | None = None, output: str | None = None) -> Selection:
    """The plan without what a table or claim does not need and what a budget does not pay for.

    What is done, runs or is queued costs nothing more, and stays in the plan.

    Raises:
        ConfigError: a budget that cannot be read or is in hours of the wrong device; no such table or claim; no price
            is known of what is missing.
        AblateError: the budget does not pay for a single run.
    """
    limit = parse_budget(budget) if budget is not None else None
    if limit is None and output is None:
        return Selection(plan, None, (), (), (0, 0))
    states = survey(plan)
    # For the whole plan: finished tasks outside the output give prices for open ones in it.
    costs = estimate(plan, {state.task.task_id: state.detail or {} for state in states.states if state.finished})
    if output is not None:
        places = wanted(plan, output)
        waiting = {cell: reason for cell, reason in plan.waiting.items() if cell in places}
        cells = [cell for cell in plan.cells if cell_name(cell) in places]
        arms = tuple(arm for arm in plan.arms if any(arm.cell.items() <= cell.items() for cell in cells))
        plan = dataclasses.replace(_part(plan, restrict(plan.tasks, places)), waiting=waiting, arms=arms)
        states = Survey(tuple(states.by_id[task.task_id] for task in plan.tasks))
    if limit is None:
        return Selection(plan, None, (), (), (0, 0), costs=costs)
    missing = tuple(state.task for state in choose(plan, states, job_code.current(plan).digest).new)
    units = _units(plan, missing, costs, limit)
    if unknown := costs.unknown(missing):
        raise ConfigError(
            f"--budget {budget}: no price is known of {counted(len(unknown), 'task')}, such as {unknown[0].name}; "
            f"{MEASURE}"
        )
    shared = {task.task_id: task for task in missing if task.run_id not in units}
    prices = {key: costs.price([task], limit.unit) for key, task in shared.items()}
    prices |= {run: unit.price for run, unit in units.items()}
    needs = _needs(units, shared)
    rows = _incomplete(plan, states, missing, [output] if output in plan.study.tables else list(plan.study.tables))
    bought = set(_buy(plan, units, prices, needs, rows, limit))
    if units and not bought & units.keys():
        whole_price = {run: prices[run] + sum(prices[need] for need in needs[run]) for run in units}
        cheapest = min(units, key=lambda run: whole_price[run])
        raise AblateError(
            f"--budget {budget}: pays for none of {len(units)} runs; the cheapest, {units[cheapest].run.name}, costs "
            f"about {estimated(whole_price[cheapest])} {_currency(costs, limit)}"
        )
    units = _with_shared(units, shared, needs, prices, bought)
    chosen = tuple(unit for run, unit in units.items() if run in bought)
    left = tuple(unit for run, unit in units.items() if run not in bought)
    out = {task.task_id for unit in left for task in unit.tasks}
    part = _part(plan, [task for task in plan.tasks if task.task_id not in out])
    whole = sum(row <= bought for row in rows)
    return Selection(part, limit, chosen, left, (whole, len(rows)), _currency(costs, limit), costs)


def _part(plan: Plan, tasks: Iterable[Task]) -> Plan:
    return dataclasses.replace(plan, tasks=tuple(tasks), whole=plan.whole or plan)


def _currency(costs: Costs, limit: Budget) -> str:
    if limit.unit == "gpuh" and (len(costs.gpus) == 1 or costs.either):
        return f"{costs.gpus[0]}-hours"
    return UNITS[limit.unit]


def _units(plan: Plan, missing: tuple[Task, ...], costs: Costs, limit: Budget) -> dict[str, MissingRun]:
    """What is missing of each run that lacks something, by run id and in plan order."""
    if limit.unit == "gpuh" and not costs.gpus:
        raise ConfigError(
            f"--budget: study '{plan.study.name}' would run on CPUs here (cluster={plan.cluster.name}); give "
            f"core-hours, such as {limit.hours:g}cpuh"
        )
    tasks: dict[str, list[Task]] = {}
    for task in missing:
        tasks.setdefault(task.run_id, []).append(task)
    return {
        run.run_id: MissingRun(run, tuple(tasks[run.run_id]), costs.price(tasks[run.run_id], limit.unit))
        for run in plan.runs
        if run.run_id in tasks
    }


def _needs(units: Mapping[str, MissingRun], shared: Mapping[str, Task]) -> dict[str, frozenset[str]]:
    """Run → what is missing of what it needs, directly or not: other runs, and tasks that belong to none."""
    missing = {task.task_id: task for unit in units.values() for task in unit.tasks} | dict(shared)
    found: dict[str, frozenset[str]] = {}
    for run, unit in units.items():
        tasks, needed = list(unit.tasks), set[str]()
        while tasks:
            for other in {missing[need].run_id for need in tasks.pop().needs if need in missing} - needed - {run}:
                needed.add(other)
                tasks += [shared[other]] if other in shared else units[other].tasks
        found[run] = frozenset(needed)
    return found


def _with_shared(
    units: Mapping[str, MissingRun],
    shared: Mapping[str, Task],
    needs: Mapping[str, frozenset[str]],
    prices: Mapping[str, float],
    bought: Collection[str],
) -> dict[str, MissingRun]:
    """The units, with each task that belongs to no run in the first that needs it, bought ones before others."""
    found, counted = dict(units), set[str]()
    for run in sorted(units, key=lambda run: run not in bought):
        own = [key for key in shared if key in needs[run] and key not in counted]
        counted.update(own)
        tasks = (*(shared[key] for key in own), *units[run].tasks)
        found[run] = dataclasses.replace(units[run], tasks=tasks, price=units[run].price + sum(prices[k] for k in own))
    return found


def _incomplete(plan: Plan, states: Survey, missing: tuple[Task, ...], tables: list[str]) -> list[frozenset[str]]:
    """Runs that each incomplete row lacks; rows that cannot become whole, since something failed, are left out."""
    new = {task.task_id for task in missing}
    lacking = {task.run_id for task in missing}
    idle = states.having("eligible", "waiting", "failed")
    stuck = {state.task.run_id for state in idle if state.task.task_id not in new}
    return [row & lacking for row in rows_of(plan, tables) if row & lacking and not row & stuck]


def _buy(
    plan: Plan,
    units: Mapping[str, MissingRun],
    prices: Mapping[str, float],
    needs: Mapping[str, frozenset[str]],
    rows: list[frozenset[str]],
    limit: Budget,
) -> list[str]:
    cells: dict[str, set[str]] = {}
    for run, unit in units.items():
        for cell in unit.run.cells:
            cells.setdefault(cell_name(cell), set()).add(run)
    baseline = cells.get(cell_name(plan.study.baseline), set()) if plan.study.baseline else set()
    sets = [frozenset(cell) for cell in cells.values()]
    return choose_runs(prices, frozenset(baseline), rows, sets, limit.hours, needs)
