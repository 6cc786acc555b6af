r"""Names of printed numbers: `study.table.row levels.column`, the same in LaTeX (`\ablate{…}`), JSON, and `ablate why`.

A key says what a number is, not where it is printed: another row or column added to the table leaves it as it is.
Characters other than letters, digits, `_` and `+` become `-`, or are spelled where two levels differ in them alone; a
column's part is its `key`, or its group and label.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from ablative.reports.tables.escape import bare
from ablative.reports.tables.tables import Column, Table


@functools.lru_cache(maxsize=10_000)
def key_part(text: str) -> str:
    """A level, label or name as a part of a key.

    >>> key_part("CLIP_{GAP}, 50 %"), key_part("pooling: gap − map")
    ('CLIP_GAP-50', 'pooling-gap-map')
    """
    return re.sub(r"[^\w+]+", "-", bare(text)).strip("-") or "-"


def table_keys(study: str, table: Table) -> list[list[str]]:
    """Keys of a table's numbers (rows, columns), each another; levels of factors that do not apply are left out."""
    head = [key_part(study), key_part(table.name)]
    levels = [parts_apart(row.levels[i] for row in table.rows) for i in range(len(table.factors))]
    splits = parts_apart(column.split for column in table.columns)
    named = [column.key or ".".join(filter(None, [column.group, column.label])) for column in table.columns]
    heads = dict(zip(named, (_column_part(column) for column in table.columns), strict=True))
    spelled = parts_apart(named) if len(set(heads.values())) < len(heads) else {}
    ends = [
        ".".join(filter(None, [splits[column.split] if column.split else "", spelled.get(name, heads[name])]))
        for column, name in zip(table.columns, named, strict=True)
    ]
    begins = [
        ".".join([*head, *(own[level] for own, level in zip(levels, row.levels, strict=True) if level)])
        for row in table.rows
    ]
    keys = [f"{begin}.{end}" if end else begin for begin in begins for end in ends]
    flat, width = apart(keys), len(table.columns)
    return [flat[i * width : (i + 1) * width] for i in range(len(table.rows))]


def _column_part(column: Column) -> str:
    own = [column.key] if column.key else [column.group, column.label]
    return ".".join(key_part(part) for part in own if part)


def parts_apart(texts: Iterable[str]) -> dict[str, str]:
    """Text → its part of a key; signs are spelled where texts differ in them alone.

    >>> parts_apart(["<5", ">5", "map"])
    {'<5': 'less-than-sign-5', '>5': 'greater-than-sign-5', 'map': 'map'}
    """
    own = list(dict.fromkeys(texts))
    shared = Counter(map(key_part, own))
    return dict(
        zip(own, apart([_spelled(text) if shared[key_part(text)] > 1 else key_part(text) for text in own]), strict=True)
    )


def apart(keys: Sequence[str]) -> list[str]:
    """Keys of which each is another: the second of two equal ones ends in `-2`."""
    if len(set(keys)) == len(keys):
        return list(keys)
    seen: Counter[str] = Counter()
    found: dict[str, None] = {}
    for key in keys:
        seen[key] += 1
        name = key if seen[key] == 1 else f"{key}-{seen[key]}"
        while name in found:
            seen[key] += 1
            name = f"{key}-{seen[key]}"
        found[name] = None
    return list(found)


def _spelled(text: str) -> str:
    """`less-than-sign-5` for `<5`."""
    return key_part(re.sub(r"[^\w\s]", lambda sign: f" {unicodedata.name(sign[0], 'sign').lower()} ", bare(text)))
