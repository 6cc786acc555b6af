"""Claims in LaTeX: a table that fills pages in a paper of one column, and floats in a paper of two."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ablative.reports.tables.escape import comment, latex
from ablative.reports.tables.latex_tables import packages_line
from ablative.reports.tables.latex_widths import text_width, widest

SIZE, GAP = 8, 4.0
LINES = 42
"""Lines of a float over both columns: a page has about sixty."""
VERDICT = 0.17
"""Part of the width that the verdict has."""


class Claim(NamedTuple):
    """A claim in words."""

    sentence: str
    verdict: str
    holm: str
    """Its p among all claims; empty: it has none."""
    rows: Sequence[tuple[str, str, str]]
    """Statement, effect and interval of each comparison."""


def render_claims_latex(
    title: str, study: str, widths: Sequence[float], claims: Sequence[Claim], notes: Sequence[str]
) -> str:
    r"""The claims with their verdicts; the first line names the packages.

    Args:
        title: the caption.
        study: its name, for the label.
        widths: of the paper's text, in points; two for a paper of two columns.
        claims: in words.
        notes: how the numbers are to be read.
    """
    rows = [row for claim in claims for row in claim.rows]
    effect = widest(["effect", *(row[1] for row in rows)], SIZE)
    interval = widest(["interval", *(row[2] for row in rows)], SIZE)
    rest = (widths[-1] - effect - interval - 6 * GAP) / 1.02
    columns = ((1 - VERDICT) * rest, VERDICT * rest, effect, interval)
    blocks = [(_claim(claim), _height(claim, columns[0])) for claim in claims]
    label = ":".join(comment(part).replace(" ", "-") for part in (study, "claims") if part)
    head = (latex(title), label, columns, [latex(note) for note in notes])
    text = "\n".join([f"% {comment(title)}", *(_pages(blocks, *head) if len(widths) > 1 else _long(blocks, *head))])
    packages = ("array", "booktabs") if len(widths) > 1 else ("array", "booktabs", "longtable")
    return f"{packages_line(text, *packages)}\n{text}\n"


Block = tuple[list[str], int]
"""Lines of LaTeX of a claim, and about how many lines they take in print."""
HEAD = r"claim & verdict & effect & interval \\"


def _spec(columns: Sequence[float]) -> str:
    return "@{}" + "".join(rf">{{\raggedright\arraybackslash}}p{{{width:.1f}pt}}" for width in columns[:2]) + "rr@{}"


def _set(size: int = SIZE) -> str:
    return rf"\fontsize{{{size}}}{{{1.2 * size:.3g}}}\selectfont\setlength{{\tabcolsep}}{{{GAP:g}pt}}"


def _long(
    blocks: Sequence[Block], title: str, label: str, columns: Sequence[float], notes: Sequence[str]
) -> Iterator[str]:
    yield rf"{{{_set()}"
    yield rf"\begin{{longtable}}{{{_spec(columns)}}}"
    yield rf"\caption{{{title}}}\label{{tab:{label}}}\\"
    yield rf"\toprule {HEAD} \midrule \endfirsthead"
    yield rf"\toprule {HEAD} \midrule \endhead"
    yield r"\bottomrule \endfoot"
    yield from (line for lines, _ in blocks for line in lines)
    yield r"\end{longtable}"
    yield rf"\noindent\parbox{{\linewidth}}{{\raggedright {' '.join(notes)}}}}}"


def _pages(
    blocks: Sequence[Block], title: str, label: str, columns: Sequence[float], notes: Sequence[str]
) -> Iterator[str]:
    pages: list[list[Block]] = [[]]
    for block in blocks:
        if pages[-1] and sum(height for _, height in pages[-1]) + block[1] > LINES:
            pages.append([])
        pages[-1].append(block)
    for i, page in enumerate(pages):
        part = f" ({i + 1} of {len(pages)})" if len(pages) > 1 else ""
        yield r"\begin{table*}[t]"
        yield r"\centering"
        yield rf"\caption{{{title}{part}}}" + (rf"\label{{tab:{label}}}" if i == 0 else "")
        yield _set()
        yield rf"\begin{{tabular}}{{{_spec(columns)}}}"
        yield rf"\toprule {HEAD} \midrule"
        yield from (line for lines, _ in page for line in lines)
        yield r"\bottomrule"
        yield r"\end{tabular}"
        if i == len(pages) - 1:
            yield rf"\par\smallskip\parbox{{\linewidth}}{{\footnotesize\raggedright {' '.join(notes)}}}"
        yield r"\end{table*}"


def _claim(claim: Claim) -> list[str]:
    p = rf"\newline {{\fontsize{{6}}{{7}}\selectfont {latex(claim.holm)}}}" if claim.holm else ""
    lines = [rf"\addlinespace {_broken(claim.sentence)} & {_broken(claim.verdict)}{p} & & \\*"]
    return lines + [
        rf"{_broken(text)} & & {latex(effect)} & {latex(interval)} \\" for text, effect, interval in claim.rows
    ]


def _height(claim: Claim, width: float) -> int:
    """Lines that a claim takes, at most: broken lines are not full."""
    texts = [claim.sentence, *(text for text, _, _ in claim.rows)]
    return 1 + sum(1 + int(1.15 * text_width(text, SIZE) / width) for text in texts)


def _broken(text: str) -> str:
    """A LaTeX text in which a metric's name may be broken where its parts meet."""
    return latex(text).replace("/", r"/\allowbreak{}").replace(r"\_", r"\_\allowbreak{}")
