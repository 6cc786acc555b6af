"""`ablate report PAPER --reference`: a paper's tables as printed, a file for each in each format, and one page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup

from reports.reference.checks import averages_table
from reports.reference.declarations import declared_tables
from reports.reference.printed import printed_tables
from reports.reference.values import PAPERS
from reports.renderers import render_csv, render_html, render_latex, render_markdown
from reports.tables import Table
from reports.text import bare
from study.files import write_atomic
from study.outputs import FORMATS

TEMPLATES = Path(__file__).parents[1] / "templates"


@dataclass(frozen=True)
class Published:
    """What was written, and where."""

    paths: tuple[Path, ...]
    tables: tuple[Table, ...]


def publish(paper: str, out: Path, formats: Sequence[str] = FORMATS) -> Published:
    """Write a paper's tables below `out`: `tables/` in the given formats, `index.html` with `html`.

    The same declarations give the same bytes. Raises ConfigError for a paper that is not known, and for declarations
    that do not fit its values.
    """
    tables = reference_tables(paper)
    texts = {
        out / "tables" / f"{table.name}.{format}": _render(table, format) for table in tables for format in formats
    }
    if "html" in formats:
        texts[out / "index.html"] = _page(paper, declared_tables(paper).title, tables)
    for path, text in texts.items():
        write_atomic(path, text)
    return Published(tuple(texts), tables)


def reference_tables(paper: str) -> tuple[Table, ...]:
    """The paper's tables as printed, then what follows from them."""
    derived = averages_table(paper)
    return printed_tables(paper) + ((derived,) if derived else ())


def _render(table: Table, format: str) -> str:
    if format == "html":
        return _page("", bare(table.title), [table])
    renderers: dict[str, Callable[[Table], str]] = {"md": render_markdown, "csv": render_csv, "tex": render_latex}
    return renderers[format](table)


def _page(paper: str, title: str, tables: Sequence[Table]) -> str:
    """A page that opens anywhere: a paper's tables under its title, or one table alone where `paper` is empty."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string((TEMPLATES / "reference.html").read_text(encoding="utf-8")).render(
        paper=PAPERS.get(paper, ""),
        heading=bool(paper),
        title=title,
        tables=[(table.name, table.name.removeprefix(f"{paper}_"), Markup(render_html(table))) for table in tables],
        css=Markup((TEMPLATES / "page.css").read_text(encoding="utf-8")),
    )
