"""What a paper's tables look like, as data: typed declarations from `<paper>.yaml`, checked against the values."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ablative.reports.reference.values import FOLDER, PAPERS, PrintedValue, printed_values
from ablative.study.core.errors import ConfigError, unknown
from ablative.study.core.typed import field, load_config

SELECTORS = ("method", "pooling", "pretrain_data", "epochs", "protocol", "task", "metric", "note")
"""Fields of a `PrintedValue` by which rows and columns name theirs."""


@dataclass(frozen=True, kw_only=True)
class RowDeclaration:
    """One printed row."""

    label: tuple[str, ...] = field()
    """One text for each of the table's heads; `_{…}` is a subscript."""
    method: str = field()
    pooling: str = field("")
    pretrain_data: str = field("")
    epochs: int = field(0, low=0)
    note: str = field("")
    brackets: str = field("")
    """Method whose value is printed in brackets behind each of the row's."""

    @property
    def name(self) -> str:
        return ", ".join(part for part in self.label if part)


@dataclass(frozen=True, kw_only=True)
class ColumnDeclaration:
    """One printed column."""

    label: str = field()
    group: str = field("")
    """Header above neighbouring columns."""
    over: str = field("")
    """Header above neighbouring groups."""
    protocol: str = field("")
    task: str = field("")
    """The label where it is empty."""
    metric: str = field("")
    digits: int = field(1, low=0, high=6)
    unit: str = field("")
    """Printed behind each number."""

    @property
    def name(self) -> str:
        return " / ".join(part for part in (self.over, self.group, self.label) if part)


@dataclass(frozen=True, kw_only=True)
class TableDeclaration:
    """One printed table."""

    caption: str = field()
    heads: tuple[str, ...] = field()
    """Headers of the columns that hold the rows' labels."""
    rows: tuple[RowDeclaration, ...] = field()
    columns: tuple[ColumnDeclaration, ...] = field()
    best: bool = field(False)
    """The paper prints the largest number of each column bold."""
    bold: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    """Column -> rows whose number is bold, where the paper's marks are not simply the largest."""
    notes: tuple[str, ...] = field(())


@dataclass(frozen=True, kw_only=True)
class PaperDeclaration:
    """All tables of a paper."""

    title: str = field()
    tables: dict[str, TableDeclaration] = dataclasses.field(default_factory=dict)


Places = Mapping[tuple[int, int], tuple[PrintedValue, ...]]
"""(row, column) -> the value there, and the one in brackets behind it."""


@functools.cache
def declared_tables(paper: str) -> PaperDeclaration:
    """The declarations of a paper; raises ConfigError for an unknown paper or a file that does not fit."""
    if paper not in PAPERS:
        raise ConfigError(unknown("paper", paper, PAPERS))
    return load_config(FOLDER / f"{paper}.yaml", PaperDeclaration)


def place_values(paper: str, number: str, table: TableDeclaration) -> Places:
    """Find the value of each place of a table.

    Raises ConfigError for a name that no value of the table has, for a place that means no value or several, and for
    a row with another number of labels than the table has heads.
    """
    where = f"{PAPERS[paper]}, table {number}"
    values = [value for value in printed_values(paper) if value.table == number]
    for row in table.rows:
        if len(row.label) != len(table.heads):
            raise ConfigError(f"{where}: row '{row.name}' has {len(row.label)} labels for {len(table.heads)} heads")
    _check_bold(where, table)
    return {
        (i, j): _values_at(where, row, column, values)
        for i, row in enumerate(table.rows)
        for j, column in enumerate(table.columns)
    }


def _values_at(
    where: str, row: RowDeclaration, column: ColumnDeclaration, values: Sequence[PrintedValue]
) -> tuple[PrintedValue, ...]:
    wanted = {
        **{name: getattr(row, name) for name in ("method", "pooling", "pretrain_data", "epochs", "note")},
        **{"protocol": column.protocol, "task": column.task or column.label, "metric": column.metric},
    }
    place = f"{where}, row '{row.name}', column '{column.name}'"
    methods = [row.method, *([row.brackets] if row.brackets else [])]
    return tuple(find_value(place, {**wanted, "method": method}, values) for method in methods)


def find_value(where: str, wanted: Mapping[str, str | int], values: Sequence[PrintedValue]) -> PrintedValue:
    """The one value whose fields are as wanted; empty ones may be anything. Raises ConfigError for none or several."""
    for name, text in wanted.items():
        known = {getattr(value, name) for value in values}
        if text and text not in known:
            raise ConfigError(unknown(name, str(text), map(str, known), where))
    fixed = {name: text for name, text in wanted.items() if text}
    found = [value for value in values if all(getattr(value, name) == text for name, text in fixed.items())]
    if len(found) != 1:
        raise ConfigError(f"{where}: stands for {len(found)} printed values; it must mean one")
    return found[0]


def _check_bold(where: str, table: TableDeclaration) -> None:
    columns = {column.name for column in table.columns}
    rows = {row.name for row in table.rows}
    for column, marked in table.bold.items():
        if column not in columns:
            raise ConfigError(unknown("column", column, columns, f"{where}, bold"))
        for row in marked:
            if row not in rows:
                raise ConfigError(unknown("row", row, rows, f"{where}, bold"))
