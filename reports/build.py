"""`ablate report`: read the store once, then tables, figures and the page from the same numbers."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablative.reports.declared import effects_of, findings_of, marked, queries_of, tables_of
from ablative.reports.provenance.findings import Finding, NotFinalError
from ablative.reports.replaced import note_replaced
from ablative.reports.store.results import Results, open_results
from ablative.reports.tables.latex_tables import too_wide
from ablative.reports.tables.tables import Table
from ablative.reports.write import file_name, write_claims, write_table
from ablative.study.core.errors import ConfigError
from ablative.study.core.files import write_atomic
from ablative.study.home.study_files import remember
from ablative.study.spec.outputs import FORMATS
from ablative.study.syntax.text_width import text_widths

if TYPE_CHECKING:
    from ablative.reports.figures.figure_data import Drawing
    from ablative.reports.html.overview import Overview
    from ablative.reports.provenance.numbers import Numbers
    from ablative.reports.search.section import SearchPart
    from ablative.reports.verdicts.claim_runs import Judged
    from ablative.study.plan.plan import Plan


@dataclass(frozen=True)
class ReportOptions:
    """How strict a report is, and what is known of the study apart from its store."""

    final: bool = False
    """Refuse to write anything while there is a finding."""
    allow: tuple[str, ...] = ()
    """Kinds of findings that a final report may have."""
    pending: int = 0
    """Tasks with something in their journals that is not in the store."""
    numbers: bool = False
    """Collect the numbers under their keys even where no format asks for them."""
    refresh: int = 0
    """Seconds after which the page loads itself again; 0: it does not."""


@dataclass(frozen=True)
class Report:
    """What a report holds and where it lies."""

    paths: tuple[Path, ...]
    tables: tuple[Table, ...]
    counts: dict[str, int]
    """State -> number of tasks."""
    claims: tuple[Judged, ...] = ()
    findings: tuple[Finding, ...] = ()
    """What keeps it from being final."""
    numbers: Numbers = dataclasses.field(default_factory=dict)
    """Every number under its key; empty where nothing asked for them."""
    left_out: str = ""
    """Why there is no PDF, where one was asked for."""
    notes: tuple[str, ...] = ()
    """What its reader should know of its files: tables that are too wide for the paper, what the former one had."""
    broken: tuple[str, ...] = ()
    """What could not be made, and why; the report says so at its place."""
    search: SearchPart | None = None
    """The report's part on the study's search, where it has one."""

    @property
    def finished(self) -> int:
        return self.counts.get("completed", 0) + self.counts.get("diverged", 0)


def report(plan: Plan, out: Path, formats: Sequence[str] = FORMATS, options: ReportOptions = ReportOptions()) -> Report:
    """Write everything that the study declares below `out`; the same store gives the same bytes.

    Each table (tables/) and the claims are written in the given formats. `html` also writes the page (index.html); it
    and `tex` bring the figures (figures/), the numbers under their keys, the compute statement, provenance as JSON
    for tables and claims, and the warehouse; `pdf` with `tex` all tables in one file.

    A table, figure, claim or search that cannot be made says so at its place, and in `Report.broken`; the rest is
    written. Raises StoreError for a store that cannot be read, NotFinalError (and nothing is written) where a final
    report is asked for that cannot be.
    """
    with collector_paused(), open_results(plan) as results:
        claims = _claims(results)
        broken = [claim.broken for claim in claims if claim.broken]
        tables = _each(lambda configs: tables_of(results, configs), plan.study.tables, broken)
        tables += _each(lambda configs: effects_of(results, configs), plan.study.effects, broken)
        tables += _each(lambda configs: queries_of(results, configs), plan.study.queries, broken)
        findings = findings_of(results, tables, claims, options.pending, thorough=options.final)
        if options.final and (refused := [each for each in findings if each.kind not in options.allow]):
            raise NotFinalError(plan.study.name, refused)
        tables = marked(tables, results, findings)
        widths = text_widths(plan.study.report.width, "report.width")
        paths = [
            path for table in tables for path in write_table(table, plan.study.name, out / "tables", formats, widths)
        ]
        paths += write_claims(claims, plan.study.name, out, formats, widths)
        search = _search(results, out / "search", formats, bool(options.refresh), broken)
        if search is not None:
            paths += search.paths
            for table in search.tables:
                paths += write_table(table, plan.study.name, out / "search", formats, widths)
        scaled = tuple(filter(None, (too_wide(table, widths) for table in tables))) if "tex" in formats else ()
        found = Report(
            (), tables, results.coverage.counts(), claims, findings, search=search, notes=scaled, broken=tuple(broken)
        )
        if options.numbers or {"html", "tex"} & set(formats):
            found = dataclasses.replace(found, numbers=_numbers(results, found))
        if {"html", "tex"} & set(formats):
            found = _write_extras(results, found, paths, out, formats, options.refresh)
        remember(plan.home, plan.study.name, plan.study.where, plan.trainer.conf)
        found = dataclasses.replace(found, notes=(*found.notes, *note_replaced(results, out)))
    return dataclasses.replace(found, paths=tuple(paths))


def _write_extras(
    results: Results, found: Report, paths: list[Path], out: Path, formats: Sequence[str], refresh: int
) -> Report:
    """Write the numbers, the compute statement, figures, the warehouse, the PDF and the page; add them to `paths`."""
    from ablative.reports.html.overview import survey
    from ablative.reports.write import write_compute, write_numbers, write_pdf, write_statistics

    study = results.study
    paths += write_numbers(found.numbers, out, formats)
    overview = survey(results)
    paths += write_compute(results, overview, out)
    paths += write_statistics(study.name, out)
    figures, drawings, broken = _write_figures(results, out / "figures", bool(refresh))
    paths += figures
    paths.append(results.warehouse.save())
    left_out = ""
    if "pdf" in formats and "tex" in formats:
        width = text_widths(study.report.width, "report.width")[-1]
        written, left_out = write_pdf(study.title or study.name, paths, out / "tables.pdf", width)
        paths += written
    if "html" in formats:
        paths.append(_write_page(results, overview, found, drawings, out / "index.html", refresh))
    return dataclasses.replace(found, left_out=left_out, broken=(*found.broken, *broken))


def _numbers(results: Results, found: Report) -> Numbers:
    from ablative.reports.provenance.numbers import collect_numbers

    return collect_numbers(results, found.tables, found.claims, found.findings)


@contextlib.contextmanager
def collector_paused(ends: bool = False) -> Iterator[None]:
    """A report makes some hundred thousand small objects and no cycles: looking for these costs a sixth of its time.

    `ends`: the process ends after it, and does not look for them then either; else a figure would be kept for long.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if ends:
            gc.freeze()
            gc.unfreeze()  # everything is old now, which the next collection leaves to a later one
        if enabled:
            gc.enable()


def _each(
    make: Callable[[Mapping[str, Any]], tuple[Table, ...]], configs: Mapping[str, Any], broken: list[str]
) -> tuple[Table, ...]:
    """Tables of one kind, all at once; where one of them cannot be made, each by itself, and that one says why."""
    try:
        return make(configs)
    except ConfigError:
        pass
    tables: list[Table] = []
    for name, config in configs.items():
        try:
            tables += make({name: config})
        except ConfigError as error:
            broken.append(str(error))
            tables.append(_words_alone(name, config.title or name, f"This table could not be made: {error}"))
    return tuple(tables)


def _words_alone(name: str, title: str, words: str) -> Table:
    """What a report has in the place of a table that it lacks."""
    return Table(name, title, (), "", (), (), (words,))


def _search(
    results: Results, folder: Path, formats: Sequence[str], page_alone: bool, broken: list[str]
) -> SearchPart | None:
    if results.study.search is None:
        return None
    from ablative.reports.search.section import SearchPart, search_part

    try:
        return search_part(results, folder, bool({"html", "tex"} & set(formats)), page_alone)
    except ConfigError as error:
        broken.append(str(error))
        words = _words_alone("winners", "Search", f"The search could not be reported: {error}")
        return SearchPart((words,), (), ())


def _claims(results: Results) -> tuple[Judged, ...]:
    if not results.study.claims:
        return ()
    from ablative.reports.verdicts.claim_runs import judge_claims

    return judge_claims(results)


def _write_figures(results: Results, folder: Path, page_alone: bool) -> tuple[list[Path], list[Drawing], list[str]]:
    """Files of the figures, what the page shows of each, and why some could not be drawn."""
    if not results.study.figures:
        return [], [], []
    from ablative.reports.figures.fetch import figure_data
    from ablative.reports.figures.figure_data import Drawing
    from ablative.reports.figures.figures import save_figure

    paths: list[Path] = []
    drawings: list[Drawing] = []
    broken: list[str] = []
    for name, config in results.study.figures.items():
        try:
            data = figure_data(file_name(name), config, results)
            written = [] if data.empty else save_figure(data, folder / name, page_alone)
        except ConfigError as error:
            broken.append(str(error))
            drawings.append(Drawing(name, config.title or name, (f"This figure could not be drawn: {error}",), ""))
            continue
        paths += written
        svg = next((path.read_text(encoding="utf-8") for path in written if path.suffix == ".svg"), "")
        drawings.append(Drawing(name, data.title, data.notes, svg))
    return paths, drawings, broken


def _write_page(
    results: Results, overview: Overview, found: Report, drawings: Sequence[Drawing], path: Path, refresh: int
) -> Path:
    from ablative.reports.html.behind import Behind
    from ablative.reports.html.page import render_page

    behind = Behind(results)
    rest = (found.claims, found.findings, found.search, refresh)
    write_atomic(path, render_page(overview, found.tables, drawings, behind, *rest))
    return path
