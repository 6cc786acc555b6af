"""`ablate report PAPER --reference`: a paper's tables as printed, a file for each in each format, and one page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ablative.reports.html.assets import render
from ablative.reports.reference.checks import averages_table
from ablative.reports.reference.claims import evaluate_reference_claims
from ablative.reports.reference.declarations import declared_tables
from ablative.reports.reference.printed import printed_tables
from ablative.reports.reference.values import PAPERS
from ablative.reports.tables.escape import bare
from ablative.reports.tables.html_table import render_html
from ablative.reports.tables.latex_tables import render_latex
from ablative.reports.tables.renderers import render_csv, render_markdown
from ablative.reports.tables.tables import Table
from ablative.reports.verdicts.claim_runs import Judged
from ablative.reports.verdicts.claim_tables import CLAIM_RENDERERS, render_claims_html, summary
from ablative.study.core.files import write_atomic
from ablative.study.spec.outputs import FORMATS
from ablative.study.syntax.text_width import LAYOUTS, ONE_COLUMN


@dataclass(frozen=True)
class Published:
    """What was written, and where."""

    paths: tuple[Path, ...]
    tables: tuple[Table, ...]
    claims: tuple[Judged, ...]


CLAIMS = "The paper's claims, held against its printed numbers"


def publish(paper: str, out: Path, formats: Sequence[str] = FORMATS) -> Published:
    """Write a paper's tables below `out`: `tables/` and `claims` in the given formats, `index.html` with `html`.

    The same declarations give the same bytes. Raises ConfigError for a paper that is not known, and for declarations
    that do not fit its values.
    """
    tables = reference_tables(paper)
    texts = {
        out / "tables" / f"{table.name}.{format}": _render(table, format) for table in tables for format in formats
    }
    claims = evaluate_reference_claims(paper)
    texts |= {out / f"claims.{format}": _render_claims(claims, format) for format in formats}
    if "html" in formats:
        texts[out / "index.html"] = _page(paper, declared_tables(paper).title, tables, claims)
    for path, text in texts.items():
        write_atomic(path, text)
    return Published(tuple(texts), tables, claims)


def reference_tables(paper: str) -> tuple[Table, ...]:
    """The paper's tables as printed, then what follows from them."""
    derived = averages_table(paper)
    return printed_tables(paper) + ((derived,) if derived else ())


def _render(table: Table, format: str) -> str:
    if format == "html":
        return _page("", bare(table.title), [table])
    renderers: dict[str, Callable[[Table], str]] = {"md": render_markdown, "csv": render_csv, "tex": render_latex}
    return renderers[format](table)


def _render_claims(claims: Sequence[Judged], format: str) -> str:
    return (
        _page("", CLAIMS, (), claims)
        if format == "html"
        else CLAIM_RENDERERS[format](claims, CLAIMS, "", LAYOUTS[ONE_COLUMN])
    )


def _page(paper: str, title: str, tables: Sequence[Table], claims: Sequence[Judged] = ()) -> str:
    """A page that opens anywhere: a paper's claims and tables under its title, or one of them alone without `paper`."""
    return render(
        "reference.html",
        paper=PAPERS.get(paper, ""),
        heading=bool(paper),
        title=title,
        tables=[(table.name, table.name.removeprefix(f"{paper}_"), render_html(table)) for table in tables],
        claims=render_claims_html(claims, CLAIMS) if claims else "",
        verdicts=summary(claims),
    )
