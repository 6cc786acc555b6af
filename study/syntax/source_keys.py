"""Keys of `results:`, with their types and meanings; `study.syntax.sources` reads them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated

from ablative.study.core.typed import field

TAKES = ("latest", "best")
Number = Annotated[int | float, "number"]


@dataclass(frozen=True, kw_only=True)
class LevelKeys:
    """A level that is found by a condition."""

    where: str = field()
    """Condition in SQL on the columns of the source."""


Meaning = Annotated[
    str | int | float | bool | list[str | int | float | bool] | LevelKeys, "value, list of values, or {where: …}"
]


@dataclass(frozen=True, kw_only=True)
class FactorKeys:
    """Where a factor's level is found in a run of the source."""

    column: str = field("")
    """Column whose values are the levels; empty: each level has a condition."""
    levels: dict[str, Meaning] = field(None)
    """Level → values of the column that mean it, or a condition; of other levels, their names and values do."""


@dataclass(frozen=True, kw_only=True)
class MetricKeys:
    """A metric of the study, and where its value is found."""

    key: str = field()
    """Column of the values."""
    unit: str = field("")
    """What is printed after a value."""
    better: str = field("", choices=("", "higher", "lower"))
    """Which values are better; empty: neither."""
    scale: Number = field(1.0)
    """What values are multiplied by (100 for percent)."""
    low: Number | None = field(None)
    """Lowest value that can be; a report refuses lower ones."""
    high: Number | None = field(None)
    """Highest value that can be."""
    label: str = field("")
    """What is measured, as reports print it."""


@dataclass(frozen=True, kw_only=True)
class SourceKeys:
    """One place with results that exist already."""

    mlflow: str = field("")
    """A file `mlflow.db`, a folder `mlruns`, or the address of a server."""
    csv: str | list[str] = field("")
    """Tables with a run in each row: paths or patterns, from the study file's folder on."""
    parquet: str | list[str] = field("")
    """The same as Parquet."""
    study: str = field("")
    """Another study of ablate: its name."""
    experiment: str = field("")
    """MLflow: name of the experiment."""
    home: str = field("")
    """Study: its home; empty: the home in use."""
    where: str = field("")
    """Condition in SQL on the runs that count; empty: those that have finished."""
    factors: dict[str, str | FactorKeys] | list[str] = field(None)
    """Factor → its column, or column and levels; a list: factors that are called as their columns are."""
    seed: str = field("")
    """Column of the seed; empty: the runs of a cell are numbered, and not paired."""
    metrics: dict[str, str | MetricKeys] | list[str] = field()
    """Metric (`NAME/NAME`) → its column, or column and what is known of it."""
    take: str = field("", choices=("", *TAKES))
    """Which of several runs of one cell and seed counts; empty: several are an error."""


def names(keys: type) -> tuple[str, ...]:
    """The keys that a class declares; Python's own words have `_` after them there."""
    return tuple(spec.name.rstrip("_") for spec in fields(keys))
