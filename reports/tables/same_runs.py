"""Rows of a table whose searched level came out as another row: they are the same run, and no second sample of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ablative.reports.store.results import Results


def same_run_notes(
    factors: Sequence[str], slots: Mapping[tuple[str, ...], Mapping[str, str]], split: str, results: Results
) -> tuple[str, ...]:
    """One note for each tuned cell whose runs are those of another row in the same column.

    `slots`: row levels -> level of the split factor -> key of the cell there.
    """
    tuned, labels = results.coverage.tuned, results.labels
    runs: dict[str, set[str]] = {}
    for (cell, _), states in results.coverage.tasks.items() if tuned else ():
        runs.setdefault(cell, set()).update(state.task.task_id for state in states)
    notes = []
    for levels, by_split in slots.items():
        for at, key in by_split.items():
            for others, cells in slots.items() if key in tuned and key in runs else ():
                if others != levels and runs.get(cells.get(at, "")) == runs[key]:
                    row, same = (labels.cell(dict(zip(factors, each, strict=True))) for each in (levels, others))
                    where = f" ({labels.level(split, at)})" if at else ""
                    notes.append(f"{row}{where} is the same run as {same}: the search chose the values of that row.")
    return tuple(notes)
