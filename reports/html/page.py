"""The page: one HTML file that opens anywhere, with no network and nothing from data that is not escaped.

Text goes through jinja2's autoescape, the embedded JSON through `page_data`, and the content security policy in its
head lets the browser run the page's one script and load nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from ablative.reports.figures.figure_data import Drawing
from ablative.reports.figures.style import INK
from ablative.reports.html.assets import render
from ablative.reports.html.behind import Behind
from ablative.reports.html.overview import Overview
from ablative.reports.html.page_data import page_data
from ablative.reports.html.state_grid import SYMBOLS, state_rows
from ablative.reports.provenance.findings import Finding
from ablative.reports.tables.html_table import render_html
from ablative.reports.tables.statistics_text import SENTENCES
from ablative.reports.tables.tables import Table
from ablative.reports.verdicts.claim_runs import Judged
from ablative.reports.verdicts.claim_tables import SYMBOLS as VERDICT_SYMBOLS
from ablative.reports.verdicts.claim_tables import lines, render_claims_html, summary, verdict_text
from ablative.study.costs.usage import ENERGY_METHOD, amount

if TYPE_CHECKING:
    from ablative.reports.search.section import SearchPart

WIDE = 2.3
"""Width over height from which a figure takes both columns of the page."""

LONG = 12
"""Claims from which the top of the page lists what is decided, and folds the rest."""


@dataclass(frozen=True)
class Verdict:
    """One claim as the top of the page has it."""

    text: str
    verdict: str
    symbol: str
    words: str
    effect: str


def render_page(
    overview: Overview,
    tables: Sequence[Table],
    drawings: Sequence[Drawing],
    behind: Behind,
    claims: Sequence[Judged] = (),
    findings: Sequence[Finding] = (),
    search: SearchPart | None = None,
    refresh: int = 0,
) -> str:
    """The whole page. The same arguments give the same bytes.

    `refresh`: seconds after which it loads itself again; 0: it does not.
    """
    pictures = [(drawing, Markup(inline_svg(drawing)), _wide(drawing)) for drawing in drawings]
    main = next((each for each in pictures if each[0].svg), None)
    shown, folded = _verdicts(claims)
    return render(
        "page.html",
        ("page.js", "panel.js", "explore.js", "watch.js"),
        overview=overview,
        findings=findings,
        verdicts=shown,
        undecided=folded,
        verdict_counts=summary(claims) if claims else "",
        claims=render_claims_html(claims, "Claims") if claims else "",
        tables=[(table, render_html(table, folded=True)) for table in tables],
        drawings=drawings,
        main_drawing=main,
        others=[each for each in pictures if each is not main],
        search=None if search is None else _search_part(search),
        symbols=SYMBOLS,
        states=state_rows(overview),
        amount=amount,
        energy_method=ENERGY_METHOD,
        statistics=SENTENCES,
        refresh=refresh,
        data=Markup(page_data(overview.study, overview.factors, tables, behind)),
    )


def _verdicts(claims: Sequence[Judged]) -> tuple[list[Verdict], list[Verdict]]:
    """Verdicts that are shown, and those that fold out: what is undecided in a long list, unless all of it is."""
    found = [_verdict(judged) for judged in claims]
    decided = [verdict for verdict in found if verdict.verdict != "undecided"]
    if not decided or len(found) <= LONG:
        return found, []
    return decided, [verdict for verdict in found if verdict.verdict == "undecided"]


def _verdict(judged: Judged) -> Verdict:
    result = judged.result
    own = lines(judged)
    effect = f"{own[0].effect} {own[0].interval}" if len(own) == 1 and own[0].effect != "–" else ""
    return Verdict(judged.text, result.verdict, VERDICT_SYMBOLS[result.verdict], verdict_text(result), effect)


def _wide(drawing: Drawing) -> bool:
    box = re.search(r'viewBox="[\d.]+ [\d.]+ ([\d.]+) ([\d.]+)"', drawing.svg)
    return box is not None and float(box[1]) > WIDE * float(box[2])


def _search_part(search: SearchPart) -> dict[str, Any]:
    drawings = [(drawing, Markup(inline_svg(drawing))) for drawing in search.drawings]
    return {"tables": list(map(render_html, search.tables)), "drawings": drawings}


def inline_svg(drawing: Drawing) -> str:
    """The SVG as part of the page: the figure's name in the ids that are referred to, and no others; text in the
    reader's colour (light or dark), and a name for screen readers.
    """
    svg = drawing.svg[drawing.svg.find("<svg") :]
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', svg))
    svg = re.sub(r'\sid="([^"]*)"', lambda match: match[0] if match[1] in used else "", svg)
    prefix = f"figure-{drawing.name}-"
    svg = re.sub(r'\bid="', f'id="{prefix}', svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{prefix}", svg)
    svg = svg.replace(INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    return svg.replace("<svg ", f'<svg role="img" aria-labelledby="caption-{drawing.name}" ', 1)
