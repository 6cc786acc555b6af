"""What a study has cost: hours by stage, an estimate of the energy, what came to nothing, and a paper's statement."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from ablative.reports.costs.task_usage import PART, stored_usage
from ablative.reports.store.warehouse import Warehouse
from ablative.study.core.plurals import counted
from ablative.study.costs.usage import TaskUsage, amount, total


@dataclass(frozen=True)
class CostRow:
    """What one stage has used; None where nothing was recorded."""

    stage: str
    tasks: int
    hours: float | None
    cpu_hours: float | None
    gpu_hours: float | None
    peak_memory_gib: float | None
    energy_kwh: float | None
    """An estimate (`study.costs.usage.ENERGY_METHOD`)."""


def cost_rows(warehouse: Warehouse) -> tuple[CostRow, ...]:
    """Stages, then the search, then what the study no longer names, then the sum; nothing where nothing was spent.

    GPU-hours and energy are those of `study.costs.usage`: all attempts count, as in `ablate status`.
    """
    usages: dict[str, list[TaskUsage]] = defaultdict(list)
    for task in stored_usage(warehouse):
        usages[task.stage].append(task.usage)
        usages["all"].append(task.usage)
    rows = []
    for stage, tasks, hours, cpu_hours, memory in warehouse.rows(_COST):
        usage = total(usages[stage]) if stage in usages else None
        gpu_hours, kwh = (None, None) if usage is None else (usage.gpu_hours, usage.kwh or 0.0)
        rows.append(CostRow(stage, tasks, hours, cpu_hours, gpu_hours, memory, kwh))
    return tuple(rows) if len(rows) > 1 else ()  # the sum alone says that nothing was spent


def wasted(warehouse: Warehouse) -> str:
    """What came to nothing, in words; empty where nothing did."""
    [(gpu, cores)] = warehouse.rows(_WASTED)
    [(failed, hours)] = warehouse.rows(_FAILED)
    parts = []
    if gpu or cores:
        amounts = [f"{amount(spent)} {unit}" for spent, unit in ((gpu, "GPU-hours"), (cores, "core-hours")) if spent]
        parts.append(f"{' and '.join(amounts)} in attempts that led to nothing")
    if failed:
        parts.append(f"{counted(failed, 'failed task')}, at most {amount(hours)} hours from start to end")
    [(left, cpu, gpu)] = warehouse.rows(_LEFT)
    if left:
        parts.append(
            f"{counted(left, 'task')} that the study no longer names, {amount(cpu)} CPU-hours and {amount(gpu)} "
            "GPU-hours"
        )
    return f"Wasted: {'; '.join(parts)}." if parts else ""


def statement(rows: tuple[CostRow, ...], devices: Mapping[str, int], waste: str) -> str:
    """The sentences that a paper's checklist asks for: kind of machines, time, memory and energy; what is included."""
    if not rows:
        return ""
    total = rows[-1]
    stages = [row for row in rows[:-1] if row.tasks]
    kinds = " and ".join(sorted(devices)) or "machines that were not recorded"
    parts = ", ".join(f"{amount(row.hours)} in {row.stage} ({counted(row.tasks, 'task')})" for row in stages)
    peak = total.peak_memory_gib
    memory = "" if peak is None else f"A task used at most {amount(peak)} GiB of memory. "
    text = (
        f"All experiments took {amount(total.cpu_hours)} CPU-hours and {amount(total.gpu_hours)} GPU-hours on {kinds}: "
        f"in hours by the clock, {parts}. {memory}The estimated energy is {amount(total.energy_kwh)} kWh."
    )
    return f"{text} {waste}".strip()


_COST = f"""
    with parts as (select {PART} as part, task_id = run_id as opens, * from cost),

    sums as (
        select part, count(*) as tasks, sum(seconds) / 3600 as hours, sum(cpu_hours) as cpu_hours,
               max(peak_memory_gib) as peak_memory_gib, bool_or(opens) as opens
        from parts group by part
        union all
        select 'all', count(*), sum(seconds) / 3600, sum(cpu_hours), max(peak_memory_gib), false from cost
    )

    select part, tasks, hours, cpu_hours, peak_memory_gib from sums
    order by part = 'all', part = 'no longer in the study', part = 'search', not opens, part
"""

_WASTED = """
    select coalesce(sum(wasted_seconds * gpus) / 3600, 0),
           coalesce(sum(wasted_seconds * cores) filter (coalesce(gpus, 0) = 0) / 3600, 0)
    from cost where planned or searched
"""
"""GPU-hours, and the core-hours of tasks without GPUs, that attempts have reported as wasted."""

_FAILED = """
    select count(*), sum(epoch(finished - started)) / 3600
    from runs anti join (select task_id from cost where clock_seconds is not null) using (task_id)
    where state = 'failed'
"""
"""Number and hours of failed tasks whose attempts reported no usage: only their start and end are known."""

_LEFT = "select count(*), sum(cpu_hours), sum(gpu_hours) from cost where not planned and not searched"
