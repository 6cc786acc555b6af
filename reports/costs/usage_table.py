"""What was spent and wasted, by table and cell, as the tasks' attempts reported it to MLflow."""

from __future__ import annotations

from dataclasses import dataclass

from ablative.reports.store.results import Results
from ablative.study.costs.usage import TaskUsage, Usage, amount
from ablative.study.costs.usage_totals import UsageTotals, usage_totals


@dataclass(frozen=True)
class BillTable:
    """A table for the page: columns that say nothing of this study are left out."""

    columns: tuple[str, ...]
    parts: tuple[tuple[str, tuple[str, ...]], ...]
    """Tables of the study, then the study: name and numbers."""
    cells: tuple[tuple[str, tuple[str, ...]], ...]
    words: str
    """The study's bill on one line."""


def billed(results: Results) -> BillTable | None:
    """Usage by table and cell; None where no attempt has reported its cost (stores of before attempts did)."""
    costs = {task_id: TaskUsage(*rest) for task_id, *rest in results.warehouse.rows(_SPENT)}
    return bill_table(usage_totals(results.plan, costs)) if costs else None


def bill_table(found: UsageTotals) -> BillTable:
    """Numbers as the page prints them."""
    whole = found.study
    columns = [name for name, used in _used(whole) if used]

    def row(bill: Usage) -> tuple[str, ...]:
        return tuple(_CELLS[name](bill) for name in columns)

    parts = [(name, row(bill)) for name, bill in found.tables.items()]
    cells = [(name, row(bill)) for name, bill in found.cells.items()]
    return BillTable(tuple(columns), (*parts, ("the study", row(whole))), tuple(cells), whole.describe())


def _used(bill: Usage) -> tuple[tuple[str, bool], ...]:
    return (
        ("GPU-hours", bill.gpu_hours > 0),
        ("wasted GPU-hours", bill.gpu_hours > 0),
        ("core-hours", bill.core_hours > 0),
        ("wasted core-hours", bill.core_hours > 0),
        ("hours in the queue", bill.queue_hours > 0),
        ("% of the GPUs' peak", bill.utilisation is not None),
    )


_CELLS = {
    "GPU-hours": lambda bill: amount(bill.gpu_hours),
    "wasted GPU-hours": lambda bill: amount(bill.gpu_wasted),
    "core-hours": lambda bill: amount(bill.core_hours),
    "wasted core-hours": lambda bill: amount(bill.core_wasted),
    "hours in the queue": lambda bill: amount(bill.queue_hours),
    "% of the GPUs' peak": lambda bill: "–" if bill.utilisation is None else f"{bill.utilisation:.0f}",
}

_SPENT = """
    select task_id, clock_seconds, coalesce(wasted_seconds, 0), coalesce(gpus, 0), coalesce(cores, 1),
           coalesce(device, ''), coalesce(queue_seconds, 0), flops_utilisation,
           case when state in ('completed', 'diverged') or clock_seconds is null then cpu_hours end
    from cost
    where planned and clock_seconds is not null
    order by task_id
"""
