"""What was spent and wasted, by table and cell, as the tasks' attempts reported it to MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ablative.reports.costs.task_usage import stored_usage
from ablative.reports.store.results import Results
from ablative.reports.tables.escape import bare
from ablative.study.costs.usage import Usage, amount
from ablative.study.costs.usage_totals import UsageTotals, usage_totals
from ablative.study.spec.design import cell_name


@dataclass(frozen=True)
class UsageTable:
    """A table for the page: columns that say nothing of this study are left out."""

    columns: tuple[str, ...]
    parts: tuple[tuple[str, tuple[str, ...]], ...]
    """Tables of the study, then the study: name and numbers."""
    cells: tuple[tuple[str, tuple[str, ...]], ...]
    words: str
    """Usage of the whole study, on one line."""


def study_usage(results: Results) -> UsageTable | None:
    """Usage by table and cell; None where no attempt has reported its cost (stores of before attempts did)."""
    found = stored_usage(results.warehouse)
    costs = {task.task_id: task.usage for task in found if task.planned and task.timed}
    names = {cell_name(cell): bare(results.labels.cell(cell)) for cell in results.cells}
    return usage_table(usage_totals(results.plan, costs), names) if costs else None


def usage_table(found: UsageTotals, names: Mapping[str, str] | None = None) -> UsageTable:
    """Numbers as the page prints them; `names`: name of a cell → as it is printed."""
    whole = found.study
    columns = [name for name, used in _used(whole) if used]

    def row(usage: Usage) -> tuple[str, ...]:
        return tuple(_CELLS[name](usage) for name in columns)

    parts = [(name, row(usage)) for name, usage in found.tables.items()]
    cells = [((names or {}).get(name, name), row(usage)) for name, usage in found.cells.items()]
    return UsageTable(tuple(columns), (*parts, ("the study", row(whole))), tuple(cells), whole.describe())


def _used(usage: Usage) -> tuple[tuple[str, bool], ...]:
    return (
        ("GPU-hours", usage.gpu_hours > 0),
        ("wasted GPU-hours", usage.gpu_hours > 0),
        ("core-hours", usage.core_hours > 0),
        ("wasted core-hours", usage.core_hours > 0),
        ("hours in the queue", usage.queue_hours > 0),
        ("% of the GPUs' peak", usage.utilisation is not None),
    )


_CELLS = {
    "GPU-hours": lambda usage: amount(usage.gpu_hours),
    "wasted GPU-hours": lambda usage: amount(usage.gpu_wasted),
    "core-hours": lambda usage: amount(usage.core_hours),
    "wasted core-hours": lambda usage: amount(usage.core_wasted),
    "hours in the queue": lambda usage: amount(usage.queue_hours),
    "% of the GPUs' peak": lambda usage: "–" if usage.utilisation is None else f"{usage.utilisation:.0f}",
}
