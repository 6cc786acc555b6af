"""What is behind each number of a table, as JSON: the sidecar of its files.

Most numbers of a row rest on the same runs: each set of runs is stored once, and a number names its set by an index.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import orjson

from ablative.reports.store.warehouse import Source
from ablative.reports.tables.tables import Entry, Table

RUN = ("seed", "run_id", "commit")
"""Fields of one run of a set."""

Fields = dict[str, Any]
"""An object of JSON."""

RunSet = tuple[tuple[int, str, str], ...]


class RunSets:
    """Sets of runs, each once, in the order in which they were asked for."""

    def __init__(self) -> None:
        self._places: dict[RunSet, int] = {}

    def place(self, sources: Sequence[Source]) -> int:
        """Index of the set of runs that a number rests on."""
        return self._places.setdefault(tuple([source[:3] for source in sources]), len(self._places))

    @property
    def sets(self) -> list[RunSet]:
        return list(self._places)


def values(sources: Sequence[Source]) -> list[float | None]:
    """Values of the runs of a set, in its order; NaN becomes None, which JSON can hold."""
    return [value if value == value else None for _, _, _, value in sources]


def entry_json(entry: Entry) -> Fields:
    """One number without its runs; parts that it lacks are left out."""
    summary, half, error = entry.summary, entry.ci_half_width, entry.error
    found = {
        "cell": entry.cell,
        "value": summary.mean if summary else None,
        "sd": summary.sd if summary else None,
        "interval": (summary.mean - half, summary.mean + half) if summary and half else None,
        "n": summary.n if summary else 0,
        "planned": entry.planned,
        "delta": entry.delta,
        "delta_interval": (error.low, error.high) if error and error.low is not None else None,
        "delta_p": error.p if error else None,
        "ratio": entry.ratio,
        "best": entry.best,
        "beside": entry.reference_value,
        "marks": entry.finding_marks,
        "state": entry.missing,
        "detail": entry.detail,
    }
    return found


ALWAYS = ("cell", "value", "n", "planned")


def provenance(table: Table) -> Fields:
    """Everything behind every number. An entry's `runs` is the place of its set in `run_sets`, its `values` are in the
    order of that set; what an entry lacks is left out."""
    sets = RunSets()
    rows = [
        {"name": row.name, "label": row.title, "entries": [_entry(entry, sets) for entry in row.entries]}
        for row in table.rows
    ]
    return {
        "table": table.name,
        "title": table.title,
        "own": bool(table.sql),
        "columns": [
            {
                "name": column.name,
                "label": column.title,
                "digits": column.digits,
                "query": table.sql or column.query,
                "method": column.method,
            }
            for column in table.columns
        ],
        "run": RUN,
        "run_sets": sets.sets,
        "rows": rows,
    }


def _entry(entry: Entry, sets: RunSets) -> Fields:
    own = {name: value for name, value in entry_json(entry).items() if value or name in ALWAYS or value == 0.0}
    return own | {"runs": sets.place(entry.sources), "values": values(entry.sources)}


def render_json(table: Table) -> bytes:
    """The sidecar's text, one row a line: small differences stay small."""
    data = provenance(table)
    parts = {name: data.pop(name) for name in ("run_sets", "rows")}
    head = json.dumps(data, ensure_ascii=False, indent=1).removesuffix("\n}").encode()
    listed = [f' "{name}": [\n'.encode() + b",\n".join(map(json_line, own)) + b"\n]" for name, own in parts.items()]
    return b",\n".join([head, *listed]) + b"}\n"


def json_line(value: object) -> bytes:
    """JSON without spaces or line breaks, in UTF-8; NaN, for which it has no word, becomes null.

    Numbers of NumPy are numbers, too: a table's kind may be a user's.
    """
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY, default=_plain)


def _plain(value: object) -> object:
    """What Python's encoder knows and orjson does not: subclasses of float and tuple."""
    if isinstance(value, float):
        return float(value)
    if isinstance(value, tuple):
        return list(value)
    raise TypeError(f"{type(value).__name__} has no JSON")
