"""A report's files: tables and claims in each format, numbers, the compute statement, and all tables as one PDF."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ablative.reports.costs.compute import compute_items, render_compute_latex, render_compute_markdown
from ablative.reports.provenance.numbers import Numbers, render_numbers_latex, write_numbers_json
from ablative.reports.provenance.sidecar import render_json
from ablative.reports.tables.escape import latex, where_unknown
from ablative.reports.tables.html_table import render_html
from ablative.reports.tables.latex_tables import render_latex
from ablative.reports.tables.renderers import render_csv, render_markdown
from ablative.reports.tables.statistics_text import statistics_latex, statistics_markdown
from ablative.reports.tables.tables import Table
from ablative.study.core.errors import ConfigError
from ablative.study.core.files import write_atomic
from ablative.study.syntax.text_width import LAYOUTS, ONE_COLUMN

if TYPE_CHECKING:
    from ablative.reports.html.overview import Overview
    from ablative.reports.store.results import Results
    from ablative.reports.verdicts.claim_runs import Judged

RENDERERS: dict[str, Callable[[Table, str, Sequence[float]], str]] = {
    "md": lambda table, *_: render_markdown(table),
    "tex": render_latex,
    "csv": lambda table, *_: render_csv(table),
    "html": lambda table, *_: render_html(table),
}
"""Format of `FORMATS` -> (table, study name, widths of the paper's text) to text."""

PDF_TIMEOUT_SECONDS = 300.0
SAID = 3
"""Names that pdflatex cannot print, of which a message has so many."""

PDF_HEAD = r"""\documentclass[10pt,a4paper]{article}
\usepackage[utf8]{inputenc}\usepackage[T1]{fontenc}
\usepackage[hcentering,vmargin=18mm,textwidth=WIDTHpt]{geometry}
\usepackage{array,booktabs,longtable,graphicx,amssymb}
\pdfinfoomitdate=1 \pdfsuppressptexinfo=-1 \pdftrailerid{}
\makeatletter \@fptop=0pt \makeatother
\pagestyle{myheadings}
"""
"""The same tables give the same bytes: no dates, no random id. Each table is at the top of a page."""


def file_name(name: str) -> str:
    """A table's or figure's name as a file; raises ConfigError for one that would leave its folder."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise ConfigError(
            f"table or figure '{name}': its name becomes a file's; use letters, digits, '_', '-' and '.' only"
        )
    return name


def write_table(
    table: Table, study: str, folder: Path, formats: Sequence[str], widths: Sequence[float] = LAYOUTS[ONE_COLUMN]
) -> list[Path]:
    """A table in each format, and with `html` or `tex` its provenance as JSON; `widths`: of the paper's text."""
    stem = file_name(table.name)
    texts: dict[str, str | bytes] = {
        format: RENDERERS[format](table, study, widths) for format in formats if format in RENDERERS
    }
    if {"html", "tex"} & set(formats):
        texts["json"] = render_json(table)
    paths = []
    for suffix, text in texts.items():
        paths.append(folder / f"{stem}.{suffix}")
        write_atomic(paths[-1], text)
    return paths


def write_claims(
    claims: Sequence[Judged], study: str, folder: Path, formats: Sequence[str], widths: Sequence[float]
) -> list[Path]:
    """All claims in each format, and with `html` or `tex` everything about them as JSON; nothing without claims."""
    if not claims:
        return []
    from ablative.reports.verdicts.claim_tables import CLAIM_RENDERERS, render_claims_json

    title = f"Claims of {study}"
    texts = {each: CLAIM_RENDERERS[each](claims, title, study, widths) for each in formats if each in RENDERERS}
    if {"html", "tex"} & set(formats):
        texts["json"] = render_claims_json(claims)
    for suffix, text in texts.items():
        write_atomic(folder / f"claims.{suffix}", text)
    return [folder / f"claims.{suffix}" for suffix in texts]


def write_numbers(numbers: Numbers, out: Path, formats: Sequence[str]) -> list[Path]:
    """`numbers.json`, and with `tex` the macros."""
    write_numbers_json(out / "numbers.json", numbers)
    macros = {"numbers.tex": render_numbers_latex(numbers)} if "tex" in formats else {}
    return [out / "numbers.json", *_write(macros, out)]


def write_compute(results: Results, overview: Overview, out: Path) -> list[Path]:
    """`compute.md` and `compute.tex`; nothing before anything has run."""
    items = compute_items(results, overview.environment, overview.compute)
    if not items:
        return []
    renderers = {"compute.md": render_compute_markdown, "compute.tex": render_compute_latex}
    return _write({name: render(overview.study, items) for name, render in renderers.items()}, out)


def write_statistics(study: str, out: Path) -> list[Path]:
    """`statistics.md` and `statistics.tex`: how the report's numbers are compared, for an appendix."""
    return _write({"statistics.md": statistics_markdown(study), "statistics.tex": statistics_latex(study)}, out)


def write_pdf(title: str, written: Sequence[Path], path: Path, width: float) -> tuple[list[Path], str]:
    """The PDF of the tables (`.tex` files) among what was written, and where there is none, why."""
    names = ("numbers.tex", "compute.tex", "statistics.tex")
    sources = [each for each in written if each.suffix == ".tex" and each.name not in names]
    reason = make_pdf(title, sources, path, width)
    return ([] if reason else [path]), reason


def _write(texts: dict[str, str], out: Path) -> list[Path]:
    for name, text in texts.items():
        write_atomic(out / name, text)
    return [out / name for name in texts]


def make_pdf(title: str, sources: Sequence[Path], path: Path, width: float = LAYOUTS[ONE_COLUMN][-1]) -> str:
    """Write the tables of some LaTeX files into one PDF; the reason why there is none, or empty.

    `width`: of the text, in points.

    Whatever keeps pdflatex from it (not installed, a character that it does not know) leaves the `.tex` files as they
    are, which a paper's own preamble may well manage.
    """
    program = shutil.which("pdflatex")
    if program is None:
        return "pdflatex is not installed (Debian: texlive-latex-recommended)"
    if not sources:
        return "there are no tables"
    bodies = {source.name: source.read_text(encoding="utf-8") for source in sources}
    if lacking := _lacking({"title": latex(title), **bodies}):
        return lacking
    begin = f"\\begin{{document}}\\markright{{{latex(title)}}}\n"
    text = (
        PDF_HEAD.replace("WIDTH", f"{width:.2f}")
        + begin
        + "\n\\clearpage\n".join(bodies.values())
        + "\n\\end{document}\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "tables.tex").write_text(text, encoding="utf-8")
        command = [program, "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape"]
        measuring = [["-draftmode"]] if "longtable" in text else []  # columns that fill pages are measured first
        for words in (*measuring, []):
            try:
                done = subprocess.run(
                    [*command, *words, "tables.tex"],
                    check=False,
                    cwd=folder,
                    capture_output=True,
                    timeout=PDF_TIMEOUT_SECONDS,
                    env=_environment(),
                )
            except subprocess.TimeoutExpired:
                return f"pdflatex took longer than {PDF_TIMEOUT_SECONDS:.0f} s"
            if done.returncode:
                lines = done.stdout.decode(errors="replace").splitlines()
                return f"pdflatex failed: {next((line for line in lines if line.startswith('!')), lines[-1])}"
        write_atomic(path, (Path(folder) / "tables.pdf").read_bytes())
    return ""


def _lacking(texts: Mapping[str, str]) -> str:
    """Which characters of which names pdflatex lacks, and what helps; empty where it lacks none."""
    found = [(name, own, file) for file, text in texts.items() for name, own in where_unknown(text).items()]
    said, seen = [], set[str]()
    for name, own, file in sorted(found, key=lambda each: len(each[0])):  # a note repeats the names of its table
        if not seen.issuperset(own):
            said.append(f"{''.join(own)} in '{name}' ({file})")
        seen.update(own)
    if not said:
        return ""
    more = f" and more in {len(said) - SAID} other names" if len(said) > SAID else ""
    return (
        f"pdflatex lacks {'; '.join(said[:SAID])}{more}; give such a name another text for LaTeX in the study's "
        "labels, {text: …, latex: …}, or compile the .tex files with lualatex and a font that has it"
    )


def _environment() -> dict[str, str]:
    """Nothing may be read or written outside of pdflatex's own folder, whatever a level is called."""
    return {**os.environ, "openin_any": "p", "openout_any": "p"}
