r"""Names of printed numbers: `study.table.row levels.column`, the same in LaTeX (`\ablate{…}`), JSON, and `ablate why`.

A key says what a number is, not where it is printed: another row or column added to the table leaves it as it is.
Characters other than letters, digits, `_` and `+` become `-`; a column's part is its `key`, or its group and label.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence

from ablative.reports.tables.escape import bare
from ablative.reports.tables.tables import Column, Row, Table
from ablative.study.core.errors import ConfigError


@functools.lru_cache(maxsize=10_000)
def key_part(text: str) -> str:
    """A level, label or name as a part of a key.

    >>> key_part("CLIP_{GAP}, 50 %"), key_part("pooling: gap − map")
    ('CLIP_GAP-50', 'pooling-gap-map')
    """
    return re.sub(r"[^\w+]+", "-", bare(text)).strip("-") or "-"


def number_key(study: str, table: Table, row: Row, column: Column) -> str:
    """The key of one number; levels of factors that do not apply are left out."""
    own = [column.key] if column.key else [column.group, column.label]
    return ".".join(key_part(part) for part in (study, table.name, *row.levels, column.split, *own) if part)


def table_keys(study: str, table: Table) -> list[list[str]]:
    """Keys of a table's numbers (rows, columns); raises ConfigError where two would be the same."""
    keys = [[number_key(study, table, row, column) for column in table.columns] for row in table.rows]
    seen: dict[str, tuple[int, int]] = {}
    for i, row in enumerate(keys):
        for j, key in enumerate(row):
            if key in seen:
                raise ConfigError(_clash(table, key, [seen[key], (i, j)]))
            seen[key] = (i, j)
    return keys


def check_unique(keys: Iterable[str]) -> None:
    """Raises ConfigError where a key is there twice: a table's and a claim's, say."""
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            raise ConfigError(f"two printed numbers have the key '{key}'; rename a table, or give a column a key")
        seen.add(key)


def _clash(table: Table, key: str, places: Sequence[tuple[int, int]]) -> str:
    named = " and ".join(f"'{table.rows[i].name}: {table.columns[j].name}'" for i, j in places)
    return f"table '{table.name}': {named} have the same key '{key}'; give a column a key of its own (key: …)"
