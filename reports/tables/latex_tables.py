r"""A table in LaTeX (booktabs) that is no wider than the paper's text.

The first line names the packages. Where a table is too wide, its letters become smaller, its spreads and intervals
smaller still, its heads upright; one that is too wide even so is scaled down, and the report says what would fit.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ablative.reports.tables.escape import LATEX_SIGNS, comment, latex, unknown_to_pdflatex
from ablative.reports.tables.latex_widths import in_points, letters, text_width, widest, wrapped
from ablative.reports.tables.printed import (
    DELTA,
    RATIO,
    Parts,
    PrintedColumn,
    delta_text,
    head_rows,
    printed_columns,
    ratio_text,
    table_parts,
)
from ablative.reports.tables.tables import Entry, Row, Table
from ablative.study.syntax.text_width import LAYOUTS, ONE_COLUMN

FIT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
"""Opens a box as wide as its content, at most as the text."""
PACKAGES = {r"\rotatebox": "graphicx", r"\resizebox": "graphicx"} | {
    f"\\{name}": "amssymb"
    for name in ("checkmark", "square", "mathbb", "lesssim", "gtrsim", "blacklozenge", "triangledown")
}
"""Command → the package that has it."""
UNUSUAL = re.compile(r"[^\w\s.,+\[\]()/±–−×†‡§¶‖◇⋆-]")
"""What no number and no sign of one has."""
SPARE = 1.03
"""How much wider than computed a table may turn out."""
READABLE = 8
"""Points below which a table rather takes the width of both columns."""


@dataclass(frozen=True)
class Style:
    """How tightly a table is set."""

    size: int
    """Points."""
    gap: float
    """Points on each side of a column."""
    tight: bool = False
    """Spreads and intervals are smaller than the values."""
    upright: bool = False
    """Heads of columns run from bottom to top."""
    wrapped: bool = True
    """Heads have as many lines as the numbers below them leave them."""
    stacked: bool = False
    """Spreads and intervals lie below the values."""

    @property
    def small(self) -> int:
        """Size of spreads and intervals."""
        return max(5, self.size - 2) if self.tight else self.size


STYLES = (
    Style(9, 6, wrapped=False),
    Style(9, 4, wrapped=False),
    Style(9, 4),
    Style(8, 4),
    Style(8, 3, tight=True),
    Style(8, 3, tight=True, upright=True),
    Style(7, 2.5, tight=True),
    Style(7, 2.5, tight=True, upright=True),
    Style(8, 3, tight=True, stacked=True),
    Style(8, 3, tight=True, upright=True, stacked=True),
    Style(7, 2.5, tight=True, upright=True, stacked=True),
)
"""The loosest first."""


@dataclass(frozen=True)
class Fit:
    """How a table is set, and how wide it becomes."""

    style: Style
    width: float
    """Points."""
    room: float
    """Width of the text that it is set in, in points."""
    wide: bool = False
    """Over both columns of a paper of two."""

    @property
    def fits(self) -> bool:
        return self.width <= self.room


def fit(table: Table, widths: Sequence[float]) -> Fit:
    """The loosest style in which a table fits one of these widths, or the tightest where it fits none."""
    key = (FITS, *widths)
    if key not in table.derived:
        table.derived[key] = _fit(table, widths)
    found: Fit = table.derived[key]
    return found


def _fit(table: Table, widths: Sequence[float]) -> Fit:
    printed = printed_columns(table)
    for place, room in enumerate(widths):
        last = place == len(widths) - 1
        for style in STYLES:
            if not last and (style.upright or style.size < READABLE):
                break
            found = Fit(style, SPARE * sum(_widths(table, printed, style)), room, place > 0)
            if found.fits:
                return found
    return found


def too_wide(table: Table, widths: Sequence[float]) -> str:
    """Why a table is scaled down below its smallest letters, and what would fit; empty where it need not be."""
    found = fit(table, widths)
    if found.fits or (table.preformatted and not table.sql and not table.columns[0].metrics):
        return ""
    need, room = found.width / 72.27, found.room / 72.27
    layout = next((f"{name} or " for name, own in LAYOUTS.items() if own[-1] >= found.width), "")
    return (
        f"table '{table.name}' needs {need:.1f} in at {found.style.size} pt, and the text has {room:.3g} in: it is "
        f"scaled to {100 * room / need:.0f} %. What would fit: report.width={layout}{need + 0.05:.1f}in, fewer "
        "columns, or shorter labels"
    )


def render_latex(table: Table, study: str = "", widths: Sequence[float] = LAYOUTS[ONE_COLUMN]) -> str:
    r"""A `table` with booktabs rules, or a `table*` over both columns; its first line names the packages."""
    found = fit(table, widths)
    printed, style = printed_columns(table), found.style
    origin = f"study {comment(study)}, table {comment(table.name)}; the runs behind each number: {table.name}.json"
    name = "table*" if found.wide else "table"
    body = [
        rf"\begin{{tabular}}{{@{{}}{'l' * len(table.row_heads)}{'r' * len(printed)}@{{}}}}",
        r"\toprule",
        *_heads(table, printed, style),
        r"\midrule",
        *_rows(table, printed, style),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    notes = " ".join(map(latex, table.notes))
    if not table.columns:
        body = []
    lines = [
        f"% table {comment(table.name)}, as printed" if table.preformatted and not table.sql else f"% {origin}",
        rf"\begin{{{name}}}[t]",
        r"\centering",
        rf"\caption{{{latex(table.title)}}}",
        rf"\label{{tab:{':'.join(comment(part).replace(' ', '-') for part in (study, table.name) if part)}}}",
        rf"\fontsize{{{style.size}}}{{{1.2 * style.size:.3g}}}\selectfont\setlength{{\tabcolsep}}{{{style.gap:g}pt}}",
        r"\vspace{4pt}",  # most papers' classes put captions below, and leave no room under one that is above
        *(body if found.fits else [FIT, *body, "}"]),
        *([rf"\par\smallskip\parbox{{\linewidth}}{{\footnotesize\raggedright {notes}}}"] if notes else []),
        rf"\end{{{name}}}",
    ]
    return "\n".join([packages_line("\n".join(lines), "booktabs"), *lines]) + "\n"


def packages_line(text: str, *always: str) -> str:
    r"""A comment with what a paper needs to `\input` this text."""
    names = dict.fromkeys([*always, *(package for command, package in PACKAGES.items() if command in text)])
    line = rf"% \usepackage{{{','.join(names)}}}" if names else "% no packages"
    strange = unknown_to_pdflatex(text)
    return f"{line}, and lualatex or xelatex with a font that has {' '.join(strange)}" if strange else line


def _rows(table: Table, printed: Sequence[PrintedColumn], style: Style) -> Iterator[str]:
    every = zip(table.rows, table_parts(table), strict=True)
    groups = [list(rows) for _, rows in itertools.groupby(every, key=lambda each: each[0].printed[:1])]
    if not table.grouped:
        groups = [[each] for group in groups for each in group]
    for place, group in enumerate(groups):
        if place and (len(group) > 1 or len(groups[place - 1]) > 1):
            yield r"\midrule"
        for i, (row, parts) in enumerate(group):
            levels = ["" if i and k == 0 else latex(level) for k, level in enumerate(row.printed)]
            yield " & ".join([*levels, *(_cell(row, column, style, parts) for column in printed)]) + r" \\"
            if style.stacked and i < len(group) - 1:
                yield r"\addlinespace[1pt]"


def _cell(row: Row, printed: PrintedColumn, style: Style, parts: Sequence[Parts]) -> str:
    entry = row.entries[printed.place]
    large, small, sign = _parts(entry, printed, parts[printed.place])
    text = _set(large)
    if printed.part not in (DELTA, RATIO) and entry.best:
        text = rf"\textbf{{{text}}}"
    if small:
        below = rf"{{\fontsize{{{style.small}}}{{{style.size}}}\selectfont {_set(_closed(small))}}}"
        if style.stacked:
            text = rf"\begin{{tabular}}[t]{{@{{}}r@{{}}}}{text}\\{below}\end{{tabular}}"
        else:
            text += f" {below}" if style.tight else f" {_set(small)}"
    return text + (rf"\rlap{{\textsuperscript{{{_set(sign)}}}}}" if sign else "")


def _closed(text: str) -> str:
    """`±0.3` for `± 0.3`: in small letters the space is as wide as a digit."""
    return text.replace("± ", "±")


def _set(text: str) -> str:
    return latex(text) if UNUSUAL.search(text) else text.translate(LATEX_SIGNS)


def _parts(entry: Entry, printed: PrintedColumn, parts: Parts) -> tuple[str, str, str]:
    """What a cell says at full size, what it says smaller, and the signs of what keeps it from being final."""
    if printed.part == RATIO:
        return ratio_text(entry), "", ""
    if printed.part == DELTA:
        return (*delta_text(entry, printed.column), "")
    value, spread, _, reference = parts
    if entry.literal and entry.summary and " " in value:
        value, _, spread = value.partition(" ")
    return value, " ".join(filter(None, [spread, reference])), entry.finding_marks


def _widths(table: Table, printed: Sequence[PrintedColumn], style: Style) -> list[float]:
    """Widths of the columns in points with their gaps, without those at the table's sides."""
    found = []
    for i, head in enumerate(table.row_heads):
        found.append(widest([head, *(row.printed[i] for row in table.rows)], style.size))
    bodies = [_body_width(table, column, style) for column in printed]
    found += [max(body, _head_width(column, body, style)) for body, column in zip(bodies, printed, strict=True)]
    for spans in head_rows(table, printed):
        place = len(table.row_heads)
        for text, count in spans:
            own = found[place : place + count]
            room = sum(own) + 2 * style.gap * (count - 1)
            found[place + count - 1] += max(0.0, widest(_lines(text, room, style), style.size) - room)
            place += count
    return [*(width + 2 * style.gap for width in found[:-1]), *found[-1:]]


def _body_width(table: Table, printed: PrintedColumn, style: Style) -> float:
    widths = [0.0]
    for large, bold, loose, closed in _shapes(table, printed):
        own = in_points(large, style.size, bold)
        more = in_points(closed if style.tight else loose, style.small)
        widths.append(max(own, more) if style.stacked else own + more + (text_width(" ", style.size) if loose else 0))
    return max(widths)


Shape = tuple[int, bool, int, int]
"""Letters (`letters`) of what a cell says at full size, whether it is bold, and of the rest as it is and closed."""

SHAPES, FITS = "shapes", "fits"
"""Keys of `Table.derived`."""


def _shapes(table: Table, printed: PrintedColumn) -> frozenset[Shape]:
    """Different widths of a column's cells: few, however many rows there are, and asked for in each style."""
    key = SHAPES, printed.place, printed.part
    if key not in table.derived:
        found = set()
        for row, parts in zip(table.rows, table_parts(table), strict=True):
            entry = row.entries[printed.place]
            large, small, _ = _parts(entry, printed, parts[printed.place])
            bold = entry.best and printed.part not in (DELTA, RATIO)
            found.add((letters(large), bold, letters(small), letters(_closed(small))))
        table.derived[key] = frozenset(found)
    shapes: frozenset[Shape] = table.derived[key]
    return shapes


def _head_width(printed: PrintedColumn, body: float, style: Style) -> float:
    lines = _lines(printed.head, body, style)
    return 1.2 * style.size * len(lines) if style.upright else widest(lines, style.size)


def _heads(table: Table, printed: Sequence[PrintedColumn], style: Style) -> Iterator[str]:
    offset = len(table.row_heads)
    widths = _widths(table, printed, style)[offset:]
    for spans in head_rows(table, printed):
        cells, start = [], 0
        for text, count in spans:
            room = sum(widths[start : start + count]) - 2 * style.gap
            cells.append(rf"\multicolumn{{{count}}}{{c}}{{{_stacked(text, room, style, 'c')}}}")
            start += count
        yield " & ".join([""] * offset + cells).strip() + r" \\"
        start = offset + 1
        for text, count in spans:
            yield rf"\cmidrule(lr){{{start}-{start + count - 1}}}" if text else "%"
            start += count
    bodies = [_body_width(table, column, style) for column in printed]
    heads = [_stacked(column.head, body, style, "r") for column, body in zip(printed, bodies, strict=True)]
    if style.upright:
        heads = [rf"\rotatebox{{90}}{{{head}}}" if text_width(column.head, style.size) > body else head
                 for head, column, body in zip(heads, printed, bodies, strict=True)]  # fmt: skip
    yield " & ".join([*map(latex, table.row_heads), *heads]) + r" \\"


def _lines(text: str, room: float, style: Style) -> list[str]:
    return wrapped(text, room, style.size) if style.wrapped else [text]


def _stacked(text: str, room: float, style: Style, align: str) -> str:
    """A head in as many lines as its column leaves it."""
    lines = _lines(text, room, style)
    if len(lines) == 1:
        return latex(text)
    return rf"\shortstack[{align}]{{" + r"\\".join(map(latex, lines)) + "}"
