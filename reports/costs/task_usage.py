"""What each task has used as the tracking store has it: the rows behind the page's table and the statement of cost."""

from __future__ import annotations

from dataclasses import dataclass

from ablative.reports.store.warehouse import Warehouse
from ablative.study.costs.usage import TaskUsage

PART = """
    case when searched then 'search' when not planned then 'no longer in the study'
         else stage end
"""
"""SQL: what a row of the mart `cost` counts as: its stage, or why it is no task of the study."""


@dataclass(frozen=True)
class StoredUsage:
    """Usage of one task."""

    task_id: str
    stage: str
    planned: bool
    timed: bool
    """The task's attempts reported their cost; without, the usage is estimated from the metrics of its result."""
    usage: TaskUsage


def stored_usage(warehouse: Warehouse) -> tuple[StoredUsage, ...]:
    """Usage of each task that has reported any, by task id."""
    return tuple(
        StoredUsage(task_id, stage, planned, timed, TaskUsage(*usage))
        for task_id, stage, planned, timed, *usage in warehouse.rows(_USAGE)
    )


_USAGE = f"""
    select task_id, {PART} as stage, planned, clock_seconds is not null as timed,
           coalesce(clock_seconds, seconds, 3600 * gpu_hours, 0), coalesce(wasted_seconds, 0),
           coalesce(gpus, round(3600 * gpu_hours / nullif(coalesce(seconds, 3600 * gpu_hours), 0))::integer, 0),
           coalesce(cores, 1), coalesce(device, ''), coalesce(queue_seconds, 0), flops_utilisation,
           case when state in ('completed', 'diverged') or clock_seconds is null then cpu_hours end
    from cost where coalesce(clock_seconds, seconds, cpu_hours, gpu_hours) is not null
    order by task_id
"""
"""Stores of early versions lack the tags of attempts, but have the metrics."""
