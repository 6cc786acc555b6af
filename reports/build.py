"""`ablate report`: read the store once, then tables, figures and the page from the same numbers."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ablative.reports.provenance.finding_inputs import gather
from ablative.reports.provenance.finding_text import NotFinalError
from ablative.reports.provenance.findings import Finding, find, mark, uses
from ablative.reports.reference.comparison import with_reference
from ablative.reports.store.coverage import Coverage, cover
from ablative.reports.store.database_store import open_store
from ablative.reports.store.warehouse import Warehouse
from ablative.reports.tables.tables import Table, build_tables
from ablative.reports.write import file_name, write_claims, write_table
from ablative.study.core.errors import ConfigError, unknown
from ablative.study.core.files import write_atomic
from ablative.study.spec.outputs import FORMATS, QueryConfig, TableConfig

if TYPE_CHECKING:
    from ablative.reports.html.overview import Overview
    from ablative.reports.html.page import Drawing
    from ablative.reports.provenance.numbers import Numbers
    from ablative.reports.provenance.why import Answer
    from ablative.reports.search.section import SearchPart
    from ablative.reports.verdicts.claim_runs import Judged
    from ablative.study.plan.plan import Plan


@dataclass(frozen=True)
class Demand:
    """How strict a report is to be, and what is known beside the store."""

    final: bool = False
    """Refuse while any finding stands."""
    allow: tuple[str, ...] = ()
    """Kinds of findings that a final report may have all the same."""
    pending: int = 0
    """Tasks with something in their journals that is not in the store."""
    numbers: bool = False
    """Collect the numbers under their keys even where no format asks for them."""


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
    search: SearchPart | None = None
    """Of the study's search, where it has one."""

    @property
    def finished(self) -> int:
        return self.counts.get("completed", 0) + self.counts.get("diverged", 0)


def report(plan: Plan, out: Path, formats: Sequence[str] = FORMATS, demand: Demand = Demand()) -> Report:
    """Write everything that the study declares below `out`; the same store gives the same bytes.

    Each table (tables/) and the claims are written in the given formats. `html` also writes the page (index.html); it
    and `tex` bring the figures (figures/), the numbers under their keys, the compute statement, provenance as JSON
    beside tables and claims, and the warehouse; `pdf` with `tex` all tables in one file.

    Raises StoreError for a store that cannot be read, ConfigError for a table or figure that cannot be filled as
    declared, NotFinalError (and nothing is written) where a final report is asked for that cannot be.
    """
    with _collector_paused(), open_warehouse(plan) as warehouse:
        coverage = cover(plan, warehouse)
        claims = _claims(plan, coverage, warehouse)
        tables = _tables(plan, plan.study.tables, coverage, warehouse)
        tables += _effects(plan, coverage, warehouse) + _queries(plan.study.queries, warehouse)
        findings = _findings(plan, tables, claims, coverage, warehouse, demand)
        tables = mark(tables, findings)
        paths = [path for table in tables for path in write_table(table, plan.study.name, out / "tables", formats)]
        paths += write_claims(claims, plan.study.name, out, formats)
        search = _search(plan, warehouse, out / "search", formats)
        if search is not None:
            paths += [*search.paths, *write_table(search.winners, plan.study.name, out / "search", formats)]
        found = Report((), tables, coverage.counts(), claims, findings, search=search)
        if demand.numbers or {"html", "tex"} & set(formats):
            found = dataclasses.replace(found, numbers=_numbers(plan, found, coverage, warehouse))
        if {"html", "tex"} & set(formats):
            found = _with_rest(plan, found, paths, coverage, warehouse, out, formats)
    return dataclasses.replace(found, paths=tuple(paths))


def _findings(
    plan: Plan,
    tables: Sequence[Table],
    claims: Sequence[Judged],
    coverage: Coverage,
    warehouse: Warehouse,
    demand: Demand,
) -> tuple[Finding, ...]:
    """What keeps the outputs from being final; raises NotFinalError where that is demanded of them."""
    facts = gather(plan, coverage, warehouse, demand.pending, thorough=demand.final)
    findings = find(plan.asked, uses(plan, tables, claims), coverage, facts)
    refused = [finding for finding in findings if finding.kind not in demand.allow]
    if demand.final and refused:
        raise NotFinalError(plan.study.name, refused)
    return findings


def _with_rest(
    plan: Plan,
    found: Report,
    paths: list[Path],
    coverage: Coverage,
    warehouse: Warehouse,
    out: Path,
    formats: Sequence[str],
) -> Report:
    """Write what stands beside the tables and the page, and add the files to `paths`."""
    from ablative.reports.extras import write_compute, write_numbers, write_pdf
    from ablative.reports.html.overview import survey

    paths += write_numbers(found.numbers, out, formats)
    overview = survey(plan, coverage, warehouse)
    paths += write_compute(overview, warehouse, out)
    figures, drawings = _write_figures(plan, coverage, warehouse, out / "figures")
    paths += figures
    saved = plan.home.study(plan.study.name).warehouse
    warehouse.save(saved)
    paths.append(saved)
    left_out = ""
    if "pdf" in formats and "tex" in formats:
        written, left_out = write_pdf(plan.study.title or plan.study.name, paths, out / "tables.pdf")
        paths += written
    if "html" in formats:
        paths.append(_write_page(overview, found, drawings, out / "index.html"))
    return dataclasses.replace(found, left_out=left_out)


def _numbers(plan: Plan, found: Report, coverage: Coverage, warehouse: Warehouse) -> Numbers:
    from ablative.reports.provenance.numbers import collect

    return collect(plan, found.tables, found.claims, found.findings, coverage, warehouse)


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    """A report makes some hundred thousand small objects and no cycles: looking for these costs a sixth of its time."""
    paused = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if paused:
            gc.enable()


def open_warehouse(plan: Plan) -> Warehouse:
    """The study's part of the tracking store that its home names."""
    return Warehouse(open_store(plan.home.tracking_uri, plan.home.tracking_cache), plan)


def one_table(plan: Plan, name: str) -> Table:
    """A single table, of effects too; raises ConfigError for a name that the study does not declare."""
    with open_warehouse(plan) as warehouse:
        return _one_table(plan, name, cover(plan, warehouse), warehouse)


def one_number(plan: Plan, name: str, row: str, column: str, pending: int = 0) -> tuple[Answer, Numbers]:
    """A single number of a table, and it alone as `numbers.json` has it; raises ConfigError for names not there."""
    from ablative.reports.provenance.number_keys import number_key
    from ablative.reports.provenance.numbers import collect
    from ablative.reports.provenance.why import find as find_number

    with open_warehouse(plan) as warehouse:
        coverage = cover(plan, warehouse)
        table = _one_table(plan, name, coverage, warehouse)
        findings = _findings(plan, (table,), (), coverage, warehouse, Demand(pending=pending))
        [table] = mark((table,), findings)
        answer = find_number(table, row, column)
        key = number_key(plan.study.name, table, answer.row, answer.column)
        return answer, collect(plan, (table,), (), findings, coverage, warehouse, only=key)


def _one_table(plan: Plan, name: str, coverage: Coverage, warehouse: Warehouse) -> Table:
    if name in plan.study.effects:
        return next(table for table in _effects(plan, coverage, warehouse) if table.name == name)
    if name in plan.study.queries:
        return _queries({name: plan.study.queries[name]}, warehouse)[0]
    if name not in plan.study.tables:
        known = [*plan.study.tables, *plan.study.effects, *plan.study.queries]
        raise ConfigError(unknown("table", name, known, f"study '{plan.study.name}'"))
    [table] = _tables(plan, {name: plan.study.tables[name]}, coverage, warehouse)
    return table


def _tables(
    plan: Plan, configs: Mapping[str, TableConfig], coverage: Coverage, warehouse: Warehouse
) -> tuple[Table, ...]:
    tables = build_tables(configs, plan.study, plan.cells, coverage, warehouse)
    return tuple(with_reference(table, configs[table.name]) for table in tables)


def _effects(plan: Plan, coverage: Coverage, warehouse: Warehouse) -> tuple[Table, ...]:
    if not plan.study.effects:
        return ()
    from ablative.reports.tables.effects import effects_tables

    return effects_tables(plan.study, plan.cells, coverage, warehouse)


def _queries(configs: Mapping[str, QueryConfig], warehouse: Warehouse) -> tuple[Table, ...]:
    if not configs:
        return ()
    from ablative.reports.tables.query_tables import query_tables

    return query_tables(configs, warehouse)


def one_claim(plan: Plan, name: str) -> Judged:
    """A single claim; raises ConfigError for a name that the study does not declare."""
    from ablative.reports.verdicts.claim_runs import judge_claims

    if name not in plan.study.claims:
        known = [*plan.study.tables, *plan.study.claims]
        raise ConfigError(unknown("table or claim", name, known, f"study '{plan.study.name}'"))
    with open_warehouse(plan) as warehouse:
        [claim] = judge_claims(plan, cover(plan, warehouse), warehouse, (name,))
        return claim


def _search(plan: Plan, warehouse: Warehouse, folder: Path, formats: Sequence[str]) -> SearchPart | None:
    if plan.study.search is None:
        return None
    from ablative.reports.search.section import search_part

    return search_part(plan, warehouse, folder, bool({"html", "tex"} & set(formats)))


def _claims(plan: Plan, coverage: Coverage, warehouse: Warehouse) -> tuple[Judged, ...]:
    if not plan.study.claims:
        return ()
    from ablative.reports.verdicts.claim_runs import judge_claims

    return judge_claims(plan, coverage, warehouse)


def _write_figures(
    plan: Plan, coverage: Coverage, warehouse: Warehouse, folder: Path
) -> tuple[list[Path], list[Drawing]]:
    from ablative.reports.figures.figure_data import figure_data
    from ablative.reports.figures.figures import save_figure
    from ablative.reports.html.page import Drawing

    paths: list[Path] = []
    drawings: list[Drawing] = []
    for name, config in plan.study.figures.items():
        data = figure_data(file_name(name), config, plan.study, plan.cells, coverage, warehouse, plan.home)
        written = [] if data.empty else save_figure(data, folder / name)
        paths += written
        svg = next((path.read_text(encoding="utf-8") for path in written if path.suffix == ".svg"), "")
        drawings.append(Drawing(name, data.title, data.notes, svg))
    return paths, drawings


def _write_page(overview: Overview, found: Report, drawings: Sequence[Drawing], path: Path) -> Path:
    from ablative.reports.html.page import render_page

    write_atomic(path, render_page(overview, found.tables, drawings, found.claims, found.findings, found.search))
    return path
