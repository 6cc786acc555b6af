"""Conditions in SQL on the runs of a source, with MLflow's way of naming columns as well."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ablative.reports.imports.rows import Row, SourceTable, as_number
from ablative.study.core.errors import ConfigError, unknown

_TOKEN = re.compile(
    r"""(?P<text>'(?:[^']|'')*')
    |(?P<name>(?:\w+\.)?(?:`[^`]+`|"[^"]+")|[^\W\d][\w./-]*)
    |.""",
    re.VERBOSE | re.DOTALL,
)
_HEADS = {
    **dict.fromkeys(("param", "params", "parameter", "parameters"), "params"),
    **dict.fromkeys(("metric", "metrics"), "metrics"),
    **dict.fromkeys(("tag", "tags"), "tags"),
    **dict.fromkeys(("attribute", "attributes", "attr", "run"), "attributes"),
}
"""What MLflow's filters call the kinds of columns → what they are called here."""


def column(name: str, columns: Sequence[str]) -> str | None:
    """The column that a name means; None: there is none."""
    bare = name.replace("`", "").replace('"', "")
    head, _, rest = bare.partition(".")
    for each in (bare, f"{_HEADS.get(head, head)}.{rest}", f"attributes.{bare}"):
        if each in columns:
            return each
    return None


def fulfilling(condition: str, table: SourceTable, at: str) -> list[Row]:
    """The runs of which the condition holds; raises ConfigError with the reason where it cannot be asked."""
    import duckdb
    import pyarrow as pa

    named: dict[str, None] = {}
    query = "".join(_translated(condition, table, named, at))
    arrays = {name: _array([row.values.get(name) for row in table.rows]) for name in named}
    numbers = pa.table({"row number": pa.array(range(len(table.rows)), pa.int64()), **arrays})
    with duckdb.connect(":memory:", config={"threads": 1}) as connection:
        connection.execute("set enable_external_access = false")
        connection.register("runs", numbers)
        try:
            found = connection.execute(f'select "row number" from runs where ({query}) order by 1').fetchall()
        except duckdb.Error as error:
            raise ConfigError(f"{at}: {_reason(error, table)}") from None
    return [table.rows[number] for (number,) in found]


def _translated(condition: str, table: SourceTable, named: dict[str, None], at: str) -> Iterator[str]:
    """The condition with every column's name in quotes; the columns are added to `named`."""
    for token in _TOKEN.finditer(condition):
        word = token["name"]
        if word is None:
            yield token[0]
            continue
        found = column(word, table.columns)
        if found is None and ("." in word or "`" in word or '"' in word):
            raise ConfigError(unknown("column", word.replace("`", "").replace('"', ""), table.columns, at))
        if found is not None:
            named[found] = None
        yield word if found is None else '"' + found.replace('"', '""') + '"'


def _reason(error: Exception, table: SourceTable) -> str:
    text = str(error)
    if match := re.search(r'Referenced column "([^"]+)" not found', text):
        return unknown("column", match[1], table.columns)
    first = text.partition("\n")[0]
    return " ".join(first.split())


def _array(values: Sequence[object]) -> object:
    """A column for SQL: numbers where all values are numbers, else text."""
    import pyarrow as pa

    numbers = [None if value is None else as_number(value) for value in values]
    if all(number is not None for number, value in zip(numbers, values, strict=True) if value is not None):
        return pa.array(numbers, pa.float64())
    return pa.array([None if value is None else str(value) for value in values], pa.string())
