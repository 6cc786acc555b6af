"""Notes below a table: how its numbers, marks and differences are to be read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ablative.reports.tables.tables import Column, Entry, Row
from ablative.study.plan.tuned_levels import Searched
from ablative.study.spec.outputs import TableConfig


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


def tuning_notes(found: Iterable[Searched]) -> tuple[str, ...]:
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
        notes.append(
            f"{level}: the best of the search `{study}` by a validation split that no table shows "
            f"({each}{seeds}{again}; {hours:.2g} hours in all)."
        )
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
    return (
        f"Mean ± half of its 95 % interval over seeds ({seeds}): Student's t with the spread of "
        f"{_which(columns, 'pooled', 'all rows of a column', 'each number alone')}."
    )


def _which(columns: Sequence[Column], flag: str, yes: str, no: str) -> str:
    """`yes` or `no`, or which columns are the exception."""
    flags = [bool(getattr(column, flag)) for column in columns]
    if all(flags) or not any(flags):
        return yes if all(flags) else no
    names = ", ".join(column.name for column, own in zip(columns, flags, strict=True) if not own)
    return f"{yes} ({no} in {names})"


def _differences(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    entries = [entry for row in rows for entry in row.entries]
    if not any(entry.delta is not None for entry in entries):
        return ""
    if not any(entry.error and entry.error.low is not None for entry in entries):
        return "Signed numbers: difference of the means to the baseline's row."
    methods = _methods(columns)
    return f"Signed numbers: difference to the baseline's row with its 95 % interval ({methods})."


def _marks(rows: Sequence[Row], columns: Sequence[Column]) -> list[str]:
    """What bold and underlined mean, in columns with a test and in those without."""
    marked = [column for i, column in enumerate(columns) if any(row.entries[i].best for row in rows)]
    notes = []
    if tested := [column for column in marked if column.method]:
        methods = _methods(tested)
        notes.append(f"Bold: not distinguishable from the column's best at 5 % ({methods}; Holm over the rows).")
    if any(entry.second for row in rows for entry in row.entries):
        notes.append("Underlined: the best of the others, told apart from each of them.")
    if untested := [column for column in marked if not column.method]:
        extreme = "smallest" if all(column.lowest for column in untested) else "largest"
        where = "" if len(untested) == len(marked) else f" ({_listed(column.name for column in untested)})"
        notes.append(f"Bold{where}: the {extreme} mean of the column, which says nothing about significance.")
    return notes


def _methods(columns: Sequence[Column]) -> str:
    """How columns were compared; over how many rows each pools its error is in the sidecar."""
    return _listed(re.sub(r"over \d+ rows", "over the column's rows", column.method) for column in columns)


def _listed(texts: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(text for text in texts if text))
