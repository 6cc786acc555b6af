"""What follows from a paper's printed numbers: averages recomputed, group means, numbers printed in several tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ablative.reports.reference.declarations import Places, TableDeclaration, declared_tables, place_values
from ablative.reports.reference.values import PAPERS, PrintedValue, printed_values
from ablative.reports.stats.summary import Summary, mean
from ablative.reports.tables.tables import Column, Entry, Row, Table, number

OVERALL = "Average"
"""Task of an average over the other columns of its row."""

SUITE = re.compile(r".+-(\d+) average")
"""Task of an average over a suite that another table prints: `VTAB-17 average`."""

HALF_TRAINED = "M3AE 50% trained"
RANDOM = "masking=random"


@dataclass(frozen=True)
class Average:
    """A printed average and what its printed parts give."""

    value: PrintedValue
    label: str
    """The row's."""
    parts: tuple[float, ...]
    groups: dict[str, float]
    """Group of columns -> mean of its parts; empty where the table has no groups or prints no parts."""

    @property
    def printed(self) -> float:
        assert self.value.value is not None
        return self.value.value

    @property
    def recomputed(self) -> float:
        return mean(self.parts)

    @property
    def step(self) -> float:
        """One unit of the last printed digit."""
        return 0.01 if round(self.printed, 1) != self.printed else 0.1

    @property
    def agrees(self) -> bool:
        """The recomputed average rounds to the printed one."""
        return abs(self.recomputed - self.printed) <= self.step / 2 + 1e-9

    @property
    def explained(self) -> bool:
        """They differ by no more than rounding of the parts (printed to 0.1) and of the average can make."""
        return abs(self.recomputed - self.printed) <= 0.05 + self.step / 2 + 1e-9


@dataclass(frozen=True)
class Repeats:
    """The same quantity in several tables."""

    agreeing: int
    differing: tuple[tuple[PrintedValue, ...], ...]


def averages(paper: str) -> tuple[Average, ...]:
    """Every printed average whose parts are printed too, in the order of the tables."""
    found = []
    for name, table in declared_tables(paper).tables.items():
        places = place_values(paper, name, table)
        for i, row in enumerate(table.rows):
            for j in range(len(table.columns)):
                parts, groups = _parts(paper, table, places, i, j)
                if parts:
                    found.append(Average(places[i, j][0], row.name, parts, groups))
    return tuple(found)


def _parts(
    paper: str, table: TableDeclaration, places: Places, i: int, j: int
) -> tuple[tuple[float, ...], dict[str, float]]:
    """The numbers that the value at a place averages, and their means by group; none where it is no average."""
    value = places[i, j][0]
    suite = SUITE.fullmatch(value.task)
    if suite and value.note != RANDOM:
        return _suite(value, int(suite[1]), printed_values(paper)), {}
    if value.task != OVERALL:
        return (), {}
    groups: dict[str, list[float]] = {}
    for other, column in enumerate(table.columns):
        part = places[i, other][0].value
        if other != j and part is not None:
            groups.setdefault(column.group, []).append(part)
    parts = tuple(part for group in groups.values() for part in group)
    return parts, {group: mean(numbers) for group, numbers in groups.items() if group}


def _suite(value: PrintedValue, size: int, values: Iterable[PrintedValue]) -> tuple[float, ...]:
    """The parts of a suite's average, from the table that prints all of them for the same model; else none."""
    by_table: dict[str, list[float]] = {}
    for other in values:
        average = other.task == OVERALL or SUITE.fullmatch(other.task)
        same = _model(other) == _model(value) and other.protocol == value.protocol and other.metric == value.metric
        if same and not average and other.value is not None:
            by_table.setdefault(other.table, []).append(other.value)
    return next((tuple(parts) for parts in by_table.values() if len(parts) == size), ())


def _model(value: PrintedValue) -> tuple[str, str, str, int]:
    return value.method, value.pooling, value.pretrain_data, value.epochs


def repeats(values: Sequence[PrintedValue]) -> Repeats:
    """Compare every quantity that several tables print, to the digits of the coarser one.

    Random masking and a half-trained model are quantities of their own.
    """
    groups: dict[tuple[object, ...], list[PrintedValue]] = {}
    for value in values:
        variant = value.note if value.note in (HALF_TRAINED, RANDOM) else ""
        key = (*_model(value), value.protocol, value.task, value.metric, variant)
        groups.setdefault(key, []).append(value)
    several = [tuple(group) for group in groups.values() if len({value.table for value in group}) > 1]
    differing = tuple(group for group in several if not _same(group))
    return Repeats(len(several) - len(differing), differing)


def _same(group: Sequence[PrintedValue]) -> bool:
    numbers = [value.value for value in group]
    if None in numbers:
        return set(numbers) == {None}
    known = [number for number in numbers if number is not None]
    return max(known) - min(known) <= (0.05 + 1e-9 if any(round(value, 1) != value for value in known) else 0)


def averages_table(paper: str) -> Table | None:
    """All averages with what their parts give, by group where the paper has groups; None where nothing is averaged."""
    found = averages(paper)
    if not found:
        return None
    groups = tuple(dict.fromkeys(group for average in found for group in average.groups))
    columns = [_column(group, "mean of the printed values", 2) for group in groups]
    columns += [_column(label, "average", digits) for label, digits in (("printed", 2), ("recomputed", 2))]
    columns += [_column("difference", "average", 2)]
    rows = tuple(
        Row((average.value.table, average.label, average.value.task), _entries(average, groups)) for average in found
    )
    return Table(
        name=f"{paper}_averages",
        title=f"{PAPERS[paper]}: averages recomputed from the printed values",
        factors=("table", "row", "average"),
        split="",
        columns=tuple(columns),
        rows=rows,
        notes=_notes(found, repeats(printed_values(paper))),
        preformatted=True,
    )


def _column(label: str, group: str, digits: int) -> Column:
    return Column(label=label, group=group, split="", digits=digits, metrics=(), ranked=False)


def _entries(average: Average, groups: Sequence[str]) -> tuple[Entry, ...]:
    means = [average.groups.get(group) for group in groups]
    digits = 2 if average.step < 0.1 else 1
    texts = [(value, "" if value is None else number(value, 2)) for value in means]
    texts += [(average.printed, number(average.printed, digits)), (average.recomputed, number(average.recomputed, 2))]
    difference = average.recomputed - average.printed
    texts += [(difference, number(difference, 2, sign=True).replace("-", "−"))]
    return tuple(
        Entry("", None, 0, missing="–") if value is None else Entry("", Summary(1, value, None), 1, literal=text)
        for value, text in texts
    )


def _notes(found: Sequence[Average], repeated: Repeats) -> tuple[str, ...]:
    off = [average for average in found if not average.agrees]
    wrong = [average for average in off if not average.explained]
    named = "; ".join(
        f"Table {average.value.table}, {average.label}: {average.printed} printed, {average.recomputed:.2f} recomputed"
        for average in off
    )
    notes = [f"{len(found) - len(off)} of {len(found)} averages agree with their parts to the printed digit."]
    if off:
        explained = "none by more" if not wrong else f"{len(wrong)} by more"
        notes.append(f"Off by a digit ({explained} than rounding of parts and average explains): {named}.")
    notes.append(
        f"{repeated.agreeing} numbers stand in several tables and agree"
        + (", except " + "; ".join(map(_difference, repeated.differing)) if repeated.differing else ", all of them")
        + "."
    )
    return tuple(notes)


def _difference(group: Sequence[PrintedValue]) -> str:
    first = group[0]
    what = " ".join(part for part in (first.method, first.pooling, first.protocol, first.task, first.metric) if part)
    return f"{what} ({', '.join(f'Table {value.table}: {value.value}' for value in group)})"
