"""Notes below a table: how its numbers, marks and differences are to be read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ablative.reports.stats.exact import SAME
from ablative.reports.store.labels import Labels
from ablative.reports.store.results import Results
from ablative.reports.tables.escape import bare
from ablative.reports.tables.tables import Column, Entry, Row
from ablative.study.plan.tuned_levels import Searched
from ablative.study.spec.outputs import TableConfig

AVERAGE = "intervals cover 95 % on average over the table, less for a row much noisier than the others"


def table_notes(config: TableConfig, rows: Sequence[Row], columns: Sequence[Column]) -> tuple[str, ...]:
    """The notes that this table needs, the study's own first."""
    entries = [entry for row in rows for entry in row.entries]
    notes = [config.note, _spread(entries, columns)]
    if any(entry.summary and entry.summary.n < entry.planned for entry in entries):
        notes.append("(k/m): k of m planned seeds.")
    if any(len(column.metrics) > 1 for column in columns):
        notes.append("Columns of several tasks: each seed's mean over all of them, only where it has every one.")
    notes += [_differences(rows, columns), *_marks(rows, columns)]
    if any(entry.missing == "–" for entry in entries):
        notes.append("–: does not exist.")
    return tuple(note for note in notes if note)


def tuning_notes(found: Iterable[Searched], labels: Labels) -> tuple[str, ...]:
    """What the tuned levels that a table shows have cost, and by what they were chosen: one note for each level."""
    groups: dict[tuple[str, str], dict[str, Searched]] = {}
    for one in found:
        groups.setdefault((one.level, one.study), {})[one.arm] = one
    notes = []
    for (level, study), arms in groups.items():
        first = next(iter(arms.values()))
        trials = sorted({one.trials for one in arms.values()})
        count = str(trials[0]) if len(trials) == 1 else f"{trials[0]} to {trials[-1]}"
        each = f"{count} trials for each of {len(arms)} arms" if len(arms) > 1 else f"{count} trials"
        seeds = f" of {first.seeds} seeds" if first.seeds > 1 else ""
        again = f", the best repeated with {first.repeats} more seeds" if first.repeats else ""
        hours = sum(one.hours for one in arms.values())
        chosen = (
            "a validation split that no table shows"
            if first.validated
            else "numbers that tables show, which flatters it"
        )
        notes.append(
            f"{labels.level(*level.split('=', 1))}: the best of the search {study} by {chosen} "
            f"({each}{seeds}{again}; {hours:.2g} hours in all)."
        )
    return tuple(notes)


def same_run_notes(
    factors: Sequence[str], slots: Mapping[tuple[str, ...], Mapping[str, str]], split: str, results: Results
) -> tuple[str, ...]:
    """One note for each tuned cell whose runs are those of another row in the same column: no second sample of them.

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


def _spread(entries: Sequence[Entry], columns: Sequence[Column]) -> str:
    """Which ± is meant."""
    counts = sorted({entry.summary.n for entry in entries if entry.summary})
    if counts == [1]:
        return "One seed (n = 1): no spread can be given."
    if not counts:
        return ""
    seeds = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
    if columns[0].spread == "sd":
        return f"Mean ± sample standard deviation over seeds ({seeds})."
    return f"Mean ± half of its 95 % interval over seeds ({seeds}): Student's t, {AVERAGE}."


def _differences(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    entries = [entry for row in rows for entry in row.entries]
    if not any(entry.delta is not None for entry in entries):
        return ""
    if not any(entry.error and entry.error.low is not None for entry in entries):
        return "Signed numbers: difference of the means to the baseline's row."
    how = _listed(column.method for column in columns)
    return f"Signed numbers: difference to the baseline's row with its 95 % interval ({how}; {AVERAGE})."


def _marks(rows: Sequence[Row], columns: Sequence[Column]) -> list[str]:
    """What bold means, in columns with a test and in those without, and where nothing is bold."""
    marked = [column for i, column in enumerate(columns) if any(row.entries[i].best for row in rows)]
    notes = []
    if tested := [column for column in marked if column.tested]:
        how = _listed(column.method for column in tested)
        notes.append(
            f"Bold: can be the column's best; no better row differs from it at 5 % ({how}; step-down over the rows)."
        )
    if exact := [column for column in marked if column.exact]:
        where = "" if len(exact) == len(marked) else f" ({_names(exact)})"
        notes.append(f"Bold{where}: the best value of the column, {SAME}.")
    if untested := [column for column in marked if not (column.tested or column.exact)]:
        extreme = "smallest" if all(column.lowest for column in untested) else "largest"
        where = "" if len(untested) == len(marked) else f" ({_names(untested)})"
        notes.append(f"Bold{where}: the {extreme} mean of the column, which says nothing about significance.")
    if alike := [column for column in columns if column.alike]:
        notes.append(f"No row differs from the best, so that none is bold: {_names(alike)}.")
    if few := [column for column in columns if column.too_few]:
        where = "" if len(few) == len(columns) else f" ({_names(few)})"
        notes.append(
            f"No test{where}: at {few[0].too_few} seeds, two rows differ at 5 % only beyond 9 standard deviations of "
            "their seeds' difference."
        )
    return notes


def _names(columns: Sequence[Column]) -> str:
    return ", ".join(bare(column.title) for column in columns)


def _listed(texts: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(text for text in texts if text))
