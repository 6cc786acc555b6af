"""How one number of a table reads: its value and mark, its spread, its difference, and the paper's number."""

from __future__ import annotations

from typing import NamedTuple

from ablative.reports.tables.tables import Column, Entry, number


class Marks(NamedTuple):
    """How a format shows the best and the second best number."""

    best: str
    second: str
    sign: str = "{}"
    """Of what keeps a number from being final; it takes no room where a column has to stay aligned."""

    def mark(self, value: str, entry: Entry) -> str:
        return (self.best if entry.best else self.second if entry.second else "{}").format(value)


MARKDOWN = Marks("**{}**", "<u>{}</u>")
LATEX = Marks(r"\textbf{{{}}}", r"\underline{{{}}}", r"\rlap{{\textsuperscript{{{}}}}}")
PROSE = Marks("{}", "{}", r"\textsuperscript{{{}}}")
"""LaTeX outside a table."""
PLAIN = Marks("{}", "{}")


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
