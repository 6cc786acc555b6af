"""Markdown, LaTeX, CSV and HTML of one table model: the same numbers in the same words everywhere."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from ablative.reports.store.warehouse import Source
from ablative.reports.tables.escape import LATEX_SIGNS, bare, comment, latex, markdown
from ablative.reports.tables.html_templates import fill
from ablative.reports.tables.tables import Column, Entry, Row, Table, number

LATEX_FIT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
"""Opens a box as wide as its content, at most as the page."""


class Marks(NamedTuple):
    """How a format shows a number that can be its column's best."""

    best: str
    sign: str = "{}"
    """Mark of a number that is not final; it takes no room where a column has to stay aligned."""

    def mark(self, value: str, entry: Entry) -> str:
        return (self.best if entry.best else "{}").format(value)


MARKDOWN = Marks("**{}**")
LATEX = Marks(r"\textbf{{{}}}", r"\rlap{{\textsuperscript{{{}}}}}")
PROSE = Marks("{}", r"\textsuperscript{{{}}}")
"""LaTeX outside a table."""
PLAIN = Marks("{}")


Parts = tuple[str, str, str, str]
"""Value; spread, with the number of seeds where some lack; difference to the baseline; the paper's number."""


def entry_text(entry: Entry, column: Column, marks: Marks) -> str:
    """`**71.2** ± 0.3 (2/3) +1.5 [+0.4, +2.6] [33.8]`: our number, or the state that explains the gap; the paper's."""
    value, *rest = entry_parts(entry, column)
    text = " ".join(part for part in (marks.mark(value, entry), *rest) if part)
    return text + (marks.sign.format(entry.finding_marks) if entry.finding_marks else "")


def entry_parts(entry: Entry, column: Column) -> Parts:
    """Value; spread, with the number of seeds where some lack; difference to the baseline; the paper's number."""
    if entry.literal:
        return entry.literal, "", "", ""
    reference = "" if entry.reference_value is None else f"[{number(entry.reference_value, column.digits)}]"
    if entry.summary is None:
        return entry.missing, "", "", reference
    parts = []
    width = entry.summary.sd if column.spread == "sd" else entry.ci_half_width
    if width is not None:
        parts.append(f"± {number(width, column.digits)}")
    if entry.summary.n < entry.planned:
        parts.append(f"({entry.summary.n}/{entry.planned})")
    return number(entry.summary.mean, column.digits), " ".join(parts), _delta(entry, column), reference


def _delta(entry: Entry, column: Column) -> str:
    """`+1.5 [+0.4, +2.6]`: the difference to the baseline, and its interval where there is one."""
    if entry.delta is None:
        return ""
    ends = (entry.error.low, entry.error.high) if entry.error else ()
    texts = [number(end, column.digits, sign=True) for end in (entry.delta, *ends) if end is not None]
    return (f"{texts[0]} [{texts[1]}, {texts[2]}]" if len(texts) == 3 else texts[0]).replace("-", "−")


def render_markdown(table: Table) -> str:
    """A pipe table under its title, the notes below it."""
    heads = [markdown(factor) for factor in table.factors] + [markdown(column.name) for column in table.columns]
    lines = [f"### {markdown(table.title)}", "", _pipes(heads)]
    lines.append(_pipes(["---"] * len(table.factors) + ["---:"] * len(table.columns)))
    for row in table.rows:
        texts = [entry_text(*pair, MARKDOWN) for pair in _pairs(table, row)]
        lines.append(_pipes([markdown(level) for level in row.levels] + texts))
    return "\n".join([*lines, "", *(f"{markdown(note)}  " for note in table.notes)]).rstrip() + "\n"


def render_latex(table: Table, study: str = "") -> str:
    r"""A `table` with booktabs rules; needs `\usepackage{booktabs}`, and `graphicx` where it is `_fitted`."""
    spec = "l" * len(table.factors) + "r" * len(table.columns)
    origin = f"study {comment(study)}, table {comment(table.name)}; the runs behind each number: {table.name}.json"
    fit, end = ([LATEX_FIT], ["}"]) if _fitted(table) else ([], [])
    lines = [
        f"% table {comment(table.name)}, as printed" if table.preformatted and not table.sql else f"% {origin}",
        r"\begin{table}[t]",
        r"\centering",
        rf"\caption{{{latex(table.title)}}}",
        rf"\label{{tab:{comment(table.name)}}}",
        *fit,
        rf"\begin{{tabular}}{{{spec}}}",
        r"\toprule",
        *_latex_heads(table),
        r"\midrule",
        *_latex_rows(table),
        r"\bottomrule",
        r"\end{tabular}",
        *end,
        *([rf"\\[2pt]{{\footnotesize {' '.join(map(latex, table.notes))}}}"] if table.notes else []),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _latex_rows(table: Table) -> Iterator[str]:
    for previous, row in itertools.pairwise([None, *table.rows]):
        assert row is not None
        if previous and table.grouped and previous.levels[0] != row.levels[0]:
            yield r"\midrule"
        same = previous is not None and table.grouped and previous.levels[0] == row.levels[0]
        levels = ["" if same and i == 0 else latex(level) for i, level in enumerate(row.levels)]
        numbers = [entry_text(*pair, LATEX).translate(LATEX_SIGNS) for pair in _pairs(table, row)]
        yield " & ".join([*levels, *numbers]) + r" \\"


def render_csv(table: Table) -> str:
    """One line per number, unrounded: for programs. Empty fields are missing, `state` says why."""
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    # Only tables with such numbers have their column.
    every = [entry for row in table.rows for entry in row.entries]
    beside = ["beside"] if any(entry.reference_value is not None for entry in every) else []
    marks = ["marks"] if any(entry.finding_marks for entry in every) else []
    heads = ["column", "mean", "sd", "half_ci", "n", "planned", "delta", "delta_low", "delta_high", "delta_p"]
    heads += ["best", *beside, *marks, "state", "runs"]
    writer.writerow([*map(bare, table.factors), *heads])
    for row in table.rows:
        for entry, column in _pairs(table, row):
            summary, error = entry.summary, entry.error
            numbers = (summary.mean, summary.sd, entry.ci_half_width, summary.n) if summary else (None, None, None, 0)
            gap = (entry.delta, *((error.low, error.high, error.p) if error else (None, None, None)))
            own = [*([entry.reference_value] if beside else []), *([entry.finding_marks] if marks else [])]
            rest = [entry.planned, *gap, int(entry.best), *own, entry.missing]
            runs = " ".join(source.run_id for source in entry.sources)
            writer.writerow([*map(bare, row.levels), bare(column.name), *numbers, *rest, runs])
    return output.getvalue()


def render_html(table: Table) -> Markup:
    """A semantic `<table>`; each number is a button that names its place (`data-why="table/row/column"`)."""
    parts = [[entry_parts(*pair) for pair in _pairs(table, row)] for row in table.rows]
    widths = _widths(table, parts)
    rows = [
        {
            "levels": row.levels,
            "rule": table.grouped and i > 0 and table.rows[i - 1].levels[0] != row.levels[0],
            "cells": list(zip(row.entries, parts[i], widths, strict=True)),
        }
        for i, row in enumerate(table.rows)
    ]
    no_level = "" if table.preformatted else "–"
    return fill(
        "table.html", table=table, rows=rows, heads=_head_rows(table), classes=_classes(table), no_level=no_level
    )


def provenance(table: Table) -> dict[str, Any]:
    """Everything behind every number, as JSON: the sidecar of the LaTeX table and the data of the page's panel."""
    return {
        "table": table.name,
        "title": table.title,
        "own": bool(table.sql),
        "runs": list(Source._fields),
        "columns": [
            {
                "name": column.name,
                "digits": column.digits,
                "query": table.sql or column.query,
                "method": column.method,
            }
            for column in table.columns
        ],
        "rows": [{"name": row.name, "entries": [entry_json(entry) for entry in row.entries]} for row in table.rows],
    }


def entry_json(entry: Entry) -> dict[str, Any]:
    """One number with its runs, each a list of `Source`'s fields; NaN becomes null, which JSON can hold."""
    summary, half = entry.summary, entry.ci_half_width
    return {
        "cell": entry.cell,
        "value": summary.mean if summary else None,
        "sd": summary.sd if summary else None,
        "interval": (summary.mean - half, summary.mean + half) if summary and half else None,
        "n": summary.n if summary else 0,
        "planned": entry.planned,
        "delta": entry.delta,
        "delta_interval": (entry.error.low, entry.error.high) if entry.error and entry.error.low is not None else None,
        "delta_p": entry.error.p if entry.error else None,
        "best": entry.best,
        "beside": entry.reference_value,
        "marks": entry.finding_marks,
        "state": entry.missing,
        "detail": entry.detail,
        "runs": [
            source if source.value == source.value else source._replace(value=None)  # type: ignore[arg-type]
            for source in entry.sources
        ],
    }


def render_json(table: Table) -> str:
    """The sidecar's text, one row a line: small differences stay small, and JSON's fast encoder writes each."""
    data = provenance(table)
    rows = ",\n".join(json.dumps(row, ensure_ascii=False) for row in data.pop("rows"))
    head = json.dumps(data, ensure_ascii=False, indent=1).removesuffix("\n}")
    return f'{head},\n "rows": [\n{rows}\n]}}\n'


def plain(entry: Entry, column: Column) -> str:
    """A number as the terminal shows it."""
    return entry_text(entry, column, PLAIN)


def _pairs(table: Table, row: Row) -> Iterator[tuple[Entry, Column]]:
    return zip(row.entries, table.columns, strict=True)


def _widths(table: Table, parts: Sequence[Sequence[Parts]]) -> list[tuple[int, ...]]:
    """Characters of the widest spread, the widest difference and the widest number of a paper of each column."""
    found = []
    for j in range(len(table.columns)):
        own = [parts[i][j] for i, row in enumerate(table.rows) if row.entries[j].summary]
        found.append(tuple(max((len(part[k]) for part in own), default=0) for k in (1, 2, 3)))
    return found


def _wide(table: Table) -> bool:
    """So many columns that their labels must stand upright."""
    return len(table.columns) > 12


def _fitted(table: Table) -> bool:
    """LaTeX shrinks it to the page where it is wider: a paper's table was made for that paper's page."""
    return table.preformatted or _wide(table)


def _classes(table: Table) -> str:
    return "results" + " printed" * table.preformatted + " wide" * _wide(table)


def _spans(table: Table, part: str) -> list[tuple[str, int]]:
    """(header, number of neighbouring columns under it) of one header row; groups end where a split ends."""
    groups = itertools.groupby(table.columns, key=lambda column: (column.split, getattr(column, part)))
    prefix = f"{table.split}: " if part == "split" and table.split else ""
    return [(prefix + key[1], len(list(columns))) for key, columns in groups]


def _head_rows(table: Table) -> list[list[tuple[str, int]]]:
    """Header rows above the labels: split levels, then groups; only those that say something."""
    rows = [_spans(table, part) for part in ("split", "group")]
    return [row for row in rows if any(text for text, _ in row)]


def _latex_heads(table: Table) -> list[str]:
    lines: list[str] = []
    offset = len(table.factors)
    for spans in _head_rows(table):
        cells = [rf"\multicolumn{{{width}}}{{c}}{{{latex(text)}}}" for text, width in spans]
        lines.append(" & ".join([""] * offset + cells).strip() + r" \\")
        start = offset + 1
        for text, width in spans:
            lines.append(rf"\cmidrule(lr){{{start}-{start + width - 1}}}" if text else "%")
            start += width
    labels = [latex(column.label) for column in table.columns]
    upright = [rf"\rotatebox{{90}}{{{label}}}" for label in labels] if _wide(table) else labels
    return [*lines, " & ".join([*map(latex, table.factors), *upright]) + r" \\"]


def _pipes(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
