"""States of a plan's tasks by cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from rich.cells import cell_len

from ablative.study.plan.plan import Plan
from ablative.sweeps.status.task_states import STATES, Survey

Row = dict[str, object]
"""`cell` (factor → level), `counts` (state → tasks), `causes` (of failures)."""


def by_cell(plan: Plan, survey: Survey, wanted: Mapping[str, str]) -> list[Row]:
    """A row for each cell that has these levels; a task that cells share counts in each of them."""
    rows = []
    for cell in plan.cells:
        if not wanted.items() <= cell.items():
            continue
        states = [survey.by_id[task.task_id] for task in plan.of_cell(cell) if task.task_id in survey.by_id]
        found = Counter(state.state for state in states)
        causes = dict(Counter(state.cause for state in states if state.cause))
        rows.append({"cell": cell, "counts": {name: found[name] for name in STATES if found[name]}, "causes": causes})
    return rows


def cell_lines(plan: Plan, rows: Sequence[Row]) -> Iterator[str]:
    """The rows as aligned lines: levels, finished of all tasks, and the states of the others."""
    factors = tuple(plan.study.factors)
    table = [(*factors, "done", "not done"), *(_shown(row, factors) for row in rows)]
    widths = [max(map(cell_len, column)) for column in zip(*table, strict=True)]
    for line in table:
        blanks = (" " * (width - cell_len(text)) for width, text in zip(widths, line, strict=True))
        yield "  ".join(text + blank for text, blank in zip(line, blanks, strict=True)).rstrip()


def _shown(row: Row, factors: Sequence[str]) -> tuple[str, ...]:
    cell, counts, causes = row["cell"], row["counts"], row["causes"]
    assert isinstance(cell, dict) and isinstance(counts, dict) and isinstance(causes, dict)
    rest = [f"{count} {name}" for name, count in counts.items() if name != "completed"]
    if causes:
        rest.append(f"({', '.join(causes)})")
    done = counts.get("completed", 0) + counts.get("diverged", 0)
    return (*(cell.get(factor, "–") for factor in factors), f"{done}/{sum(counts.values())}", " ".join(rest))
