"""The page: one HTML file that opens anywhere, with no network and nothing from data that is not escaped.

Text goes through jinja2's autoescape, the embedded JSON through `embed`, and the content security policy in its head
lets the browser run the page's one script and load nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from ablative.reports.figures.figure_data import Drawing
from ablative.reports.figures.style import INK
from ablative.reports.html.assets import render
from ablative.reports.html.overview import Overview
from ablative.reports.provenance.findings import Finding
from ablative.reports.provenance.number_keys import table_keys
from ablative.reports.search.section import SearchPart
from ablative.reports.tables.renderers import provenance, render_html
from ablative.reports.tables.statistics_text import SENTENCES
from ablative.reports.tables.tables import Table
from ablative.reports.verdicts.claim_runs import Judged
from ablative.reports.verdicts.claim_tables import render_claims_html
from ablative.study.costs.usage import ENERGY_METHOD, amount

SYMBOLS = {
    "completed": "●",
    "diverged": "≈",
    "running": "◐",
    "failed": "✕",
    "not synced": "◍",
    "eligible": "○",
    "waiting": "·",
}
"""State -> sign in the grid: shapes, so that no meaning rests on colour alone."""


def render_page(
    overview: Overview,
    tables: Sequence[Table],
    drawings: Sequence[Drawing],
    claims: Sequence[Judged] = (),
    findings: Sequence[Finding] = (),
    search: SearchPart | None = None,
) -> str:
    """The whole page. The same arguments give the same bytes."""
    facts = [{**provenance(table), "keys": table_keys(overview.study, table)} for table in tables]
    data = {"study": overview.study, "factors": overview.factors, "tables": facts}
    return render(
        "page.html",
        ("page.js", "explore.js"),
        overview=overview,
        findings=findings,
        claims=render_claims_html(claims, "Claims") if claims else "",
        tables=[(table, render_html(table)) for table in tables],
        drawings=[(drawing, Markup(inline_svg(drawing))) for drawing in drawings],
        search=None if search is None else _search_part(search),
        symbols=SYMBOLS,
        amount=amount,
        energy_method=ENERGY_METHOD,
        statistics=SENTENCES,
        data=Markup(embed(data)),
    )


def _search_part(search: SearchPart) -> dict[str, Any]:
    drawings = [(drawing, Markup(inline_svg(drawing))) for drawing in search.drawings]
    return {"tables": list(map(render_html, search.tables)), "drawings": drawings}


def embed(value: object) -> str:
    """JSON that may stand inside `<script>`: no character there can end the element or open a comment.

    >>> embed({"level": "</script>"})
    '{"level": "\\\\u003c/script\\\\u003e"}'
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return re.sub("[<>&\u2028\u2029]", lambda match: f"\\u{ord(match.group()):04x}", text)


def inline_svg(drawing: Drawing) -> str:
    """The SVG as part of the page: the figure's name in its ids, text in the reader's colour (light or dark), and a
    name for screen readers.
    """
    svg = drawing.svg[drawing.svg.find("<svg") :]
    prefix = f"figure-{drawing.name}-"
    svg = re.sub(r'\bid="', f'id="{prefix}', svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{prefix}", svg)
    svg = svg.replace(INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    return svg.replace("<svg ", f'<svg role="img" aria-labelledby="caption-{drawing.name}" ', 1)
