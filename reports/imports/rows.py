"""What every kind of source gives: runs with their values by column."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ablative.reports.store.store_tables import Point

FINISHED = ""
"""`Row.unfinished` of a run that has finished."""


@dataclass(frozen=True)
class Row:
    """One run of a source."""

    place: str
    """Where a reader finds it: `runs.csv:12`, `run brave-fox-7 (3f9a…) of experiment nano`."""
    values: Mapping[str, object]
    """Column → value; what is missing is absent."""
    run: str = ""
    """Its id in the source, where it has one."""
    link: str = ""
    """Address of a page that shows it; empty: there is none."""
    unfinished: str = FINISHED
    """The word of its source for how far it is, unless it has finished."""
    commit: str = "unknown"
    started: int | None = None
    ended: int | None = None
    """Both in milliseconds since 1970."""


@dataclass(frozen=True)
class SourceTable:
    """All runs of a source."""

    title: str
    """What messages call it: `runs.csv`, `experiment nano of sqlite:///mlflow.db`."""
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    words: frozenset[str] = frozenset()
    """Columns that say how far a run is."""
    factors: tuple[str, ...] = ()
    """Columns that are factors, where the source says so."""
    points: Callable[[Sequence[str], Sequence[str]], list[Point]] | None = None
    """(runs, columns of metrics) → every logged point."""


def columns_of(rows: Sequence[Row]) -> tuple[str, ...]:
    """The columns that some row has, in the order in which they appear."""
    return tuple(dict.fromkeys(name for row in rows for name in row.values))


def is_missing(value: object) -> bool:
    return value is None or value == ""


def as_number(value: object) -> float | None:
    """A value as a number; None: it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def comparable(value: object) -> object:
    """What two values have in common that mean the same: `2`, 2.0 and "2"; `True` and true."""
    if isinstance(value, bool):
        return str(value).lower()
    number = as_number(value)
    if number is not None and number == number:
        return number
    text = str(value).strip()
    return text.lower() if text in ("True", "False") else text
