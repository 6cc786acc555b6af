"""The numbers of the page's tables with what is behind them, as JSON that the page's script reads.

A table of some thousand numbers is most of the page: a number is a short list (`FIELDS`) that names its cell and its
runs by their places, and ends where the rest of it is empty.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence

from ablative.reports.html.behind import Behind
from ablative.reports.provenance.number_keys import table_keys
from ablative.reports.tables.escape import bare
from ablative.reports.tables.printed import printed_columns
from ablative.reports.tables.tables import Column, Entry, Table

FIELDS = (
    *("cell", "runs", "values", "value", "sd", "half", "planned"),
    *("delta", "delta_low", "delta_high", "delta_p", "marks", "state", "detail"),
)
"""What a number's list holds; `cell` and `runs` are places in the lists of the same names."""

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def page_data(study: str, factors: Sequence[str], tables: Sequence[Table], behind: Behind) -> str:
    """All data of the page, as text that may be put inside `<script>`."""
    listed = ",\n".join(_table(study, table, behind) for table in tables)
    head = {"study": study, "factors": factors, "fields": FIELDS, **behind.data()}
    return _shielded(_encode(head).removesuffix("}") + f', "tables": [{listed}]}}')


def embed(value: object) -> str:
    """JSON that may stand inside `<script>`: no character there can end the element or open a comment.

    >>> embed({"level": "</script>"})
    '{"level": "\\\\u003c/script\\\\u003e"}'
    """
    return _shielded(_encode(value))


def _shielded(text: str) -> str:
    return re.sub("[<>&\u2028\u2029]", lambda match: f"\\u{ord(match.group()):04x}", text)


def _table(study: str, table: Table, behind: Behind) -> str:
    rows, columns, others = split_keys(table_keys(study, table))
    columns = columns or [""] * len(table.columns)  # of a table without rows
    head = {
        "table": table.name,
        "own": bool(table.sql),
        "keys": others,
        "columns": [
            {"name": bare(c.title), "key": key, "digits": c.digits, "query": table.sql or c.query, "method": c.method}
            for c, key in zip(table.columns, columns, strict=True)
        ],
        "printed": [each.place for each in printed_columns(table)],
        "rows": [{"name": bare(row.title), "key": key} for row, key in zip(table.rows, rows, strict=True)],
    }
    lines = [f"[{','.join(_numbers(row.entries, table.columns, behind))}]" for row in table.rows]
    return _encode(head).removesuffix("}") + ', "entries": [' + ",\n".join(lines) + "]}"


def split_keys(keys: Sequence[Sequence[str]]) -> tuple[list[str], list[str], dict[str, str]]:
    """Keys of a table's numbers as a beginning for each row and an end for each column, and those that are not so.

    >>> split_keys([["s.t.a.x", "s.t.a.y"], ["s.t.b.x", "s.t.b.y-2"]])
    (['s.t.a.', 's.t.b.'], ['x', 'y'], {'1/1': 's.t.b.y-2'})
    """
    rows = [_beginning(row) for row in keys]
    ends = [key[len(rows[0]) :] for key in keys[0]] if keys else []
    others = {
        f"{i}/{j}": key
        for i, (row, own) in enumerate(zip(rows, keys, strict=True))
        for j, (end, key) in enumerate(zip(ends, own, strict=True))
        if row + end != key
    }
    return rows, ends, others


def _beginning(keys: Sequence[str]) -> str:
    """What all keys of a row begin with: whole parts."""
    first, last = min(keys), max(keys)
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[: first.rfind(".", 0, same) + 1]


def _numbers(entries: Sequence[Entry], columns: Sequence[Column], behind: Behind) -> Iterator[str]:
    """Each number of a row as JSON, with two digits more than are printed."""
    for entry, column in zip(entries, columns, strict=True):
        form = f"%.{column.digits + 2}f"
        values = [value for _, _, _, value in entry.sources]
        runs = behind.runs(entry.sources, entry.cell, column.stages)
        yield (
            f"[{behind.cell(entry.cell)},{runs},[{_listed(form, values)}],{_listed(form, _filled(entry))},"
            f"{entry.planned}{_rest(entry, form)}]"
        )


def _filled(entry: Entry) -> tuple[float | None, float | None, float | None]:
    """Mean, deviation, half interval."""
    own = entry.summary
    return (None, None, None) if own is None else (own.mean, own.sd, entry.ci_half_width)


def _listed(form: str, values: Sequence[float | None]) -> str:
    """Numbers in one form, null where one is missing or not finite."""
    try:
        text = ",".join([form] * len(values)) % tuple(values)  # all at once: a long table has 100,000 of them
    except TypeError:
        text = ""
    return text if text and "n" not in text else ",".join([_json(form, value) for value in values])


def _rest(entry: Entry, form: str) -> str:
    """What few numbers have: a difference to the baseline, signs, a state; cut after the last that is there."""
    error = entry.error
    if entry.delta is None and not entry.finding_marks and not entry.missing and not entry.detail:
        return ""
    ends = (error.low, error.high) if error else (None, None)
    own = [_json(form, each) for each in (entry.delta, *ends)]
    own.append(_json("%.2g", error.p if error else None))
    own += [_encode(text) if text else "null" for text in (entry.finding_marks, entry.missing, entry.detail)]
    while own and own[-1] == "null":
        own.pop()
    return "".join(f",{each}" for each in own)


def _json(form: str, value: float | None) -> str:
    return "null" if value is None or not math.isfinite(value) else form % value
