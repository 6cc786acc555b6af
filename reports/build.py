"""`ablate report`: read the store once, then tables, figures and the page from the same numbers."""

from __future__ import annotations

import contextlib
import gc
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reports.coverage import Coverage, cover
from reports.reference.beside import with_reference
from reports.renderers import render_csv, render_html, render_json, render_latex, render_markdown
from reports.source import open_store
from reports.tables import Table, build_tables
from reports.warehouse import Warehouse
from study.errors import ConfigError, unknown
from study.files import write_atomic
from study.outputs import FORMATS, TableConfig

if TYPE_CHECKING:
    from reports.claim_runs import Judged
    from reports.page import Drawing
    from reports.search_page import SearchPart
    from study.plan import Plan

RENDERERS: dict[str, Callable[[Table, str], str]] = {
    "md": lambda table, _: render_markdown(table),
    "tex": render_latex,
    "csv": lambda table, _: render_csv(table),
    "html": lambda table, _: render_html(table),
}
"""Format of `FORMATS` -> (table, study name) to text."""


@dataclass(frozen=True)
class Report:
    """What a report holds and where it lies."""

    paths: tuple[Path, ...]
    tables: tuple[Table, ...]
    counts: dict[str, int]
    """State -> number of tasks."""
    claims: tuple[Judged, ...] = ()

    @property
    def finished(self) -> int:
        return self.counts.get("completed", 0) + self.counts.get("diverged", 0)


def report(plan: Plan, out: Path, formats: Sequence[str] = FORMATS) -> Report:
    """Write everything that the study declares below `out`; the same store gives the same bytes.

    Each table (tables/) and the claims are written in the given formats. `html` also writes the page (index.html); it
    and `tex` bring the figures (figures/), provenance as JSON beside tables and claims, and the warehouse. Raises
    StoreError for a store that cannot be read, ConfigError for a table or figure that cannot be filled as declared.
    """
    with _collector_paused(), open_warehouse(plan) as warehouse:
        coverage = cover(plan, warehouse)
        tables = _tables(plan, plan.study.tables, coverage, warehouse)
        tables += _effects(plan, coverage, warehouse)
        paths = [path for table in tables for path in _write_table(table, plan.study.name, out / "tables", formats)]
        claims = _claims(plan, coverage, warehouse)
        paths += _write_claims(claims, plan.study.name, out, formats)
        search = _search(plan, warehouse, out / "search", formats)
        if search is not None:
            paths += [*search.paths, *_write_table(search.winners, plan.study.name, out / "search", formats)]
        if {"html", "tex"} & set(formats):
            figures, drawings = _write_figures(plan, coverage, warehouse, out / "figures")
            paths += figures
            saved = plan.home.study(plan.study.name).warehouse
            warehouse.save(saved)
            paths.append(saved)
        if "html" in formats:
            paths.append(_write_page(plan, coverage, warehouse, tables, drawings, claims, search, out / "index.html"))
    return Report(tuple(paths), tables, coverage.counts(), claims)


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
    """A single table; raises ConfigError for a name that the study does not declare."""
    if name not in plan.study.tables:
        raise ConfigError(unknown("table", name, plan.study.tables, f"study '{plan.study.name}'"))
    with open_warehouse(plan) as warehouse:
        config = {name: plan.study.tables[name]}
        [table] = _tables(plan, config, cover(plan, warehouse), warehouse)
        return table


def _tables(
    plan: Plan, configs: Mapping[str, TableConfig], coverage: Coverage, warehouse: Warehouse
) -> tuple[Table, ...]:
    tables = build_tables(configs, plan.study, plan.cells, coverage, warehouse)
    return tuple(with_reference(table, configs[table.name]) for table in tables)


def _effects(plan: Plan, coverage: Coverage, warehouse: Warehouse) -> tuple[Table, ...]:
    if not plan.study.effects:
        return ()
    from reports.effects import effects_tables

    return effects_tables(plan.study, plan.cells, coverage, warehouse)


def one_claim(plan: Plan, name: str) -> Judged:
    """A single claim; raises ConfigError for a name that the study does not declare."""
    from reports.claim_runs import judge_claims

    if name not in plan.study.claims:
        known = [*plan.study.tables, *plan.study.claims]
        raise ConfigError(unknown("table or claim", name, known, f"study '{plan.study.name}'"))
    with open_warehouse(plan) as warehouse:
        [claim] = judge_claims(plan, cover(plan, warehouse), warehouse, (name,))
        return claim


def _search(plan: Plan, warehouse: Warehouse, folder: Path, formats: Sequence[str]) -> SearchPart | None:
    if plan.study.search is None:
        return None
    from reports.search_page import search_part

    return search_part(plan, warehouse, folder, bool({"html", "tex"} & set(formats)))


def _claims(plan: Plan, coverage: Coverage, warehouse: Warehouse) -> tuple[Judged, ...]:
    if not plan.study.claims:
        return ()
    from reports.claim_runs import judge_claims

    return judge_claims(plan, coverage, warehouse)


def _write_claims(claims: Sequence[Judged], study: str, folder: Path, formats: Sequence[str]) -> list[Path]:
    if not claims:
        return []
    from reports.claim_tables import CLAIM_RENDERERS, render_claims_json

    texts = {format: CLAIM_RENDERERS[format](claims, f"Claims of {study}") for format in formats}
    if {"html", "tex"} & set(formats):
        texts["json"] = render_claims_json(claims)
    for suffix, text in texts.items():
        write_atomic(folder / f"claims.{suffix}", text)
    return [folder / f"claims.{suffix}" for suffix in texts]


def file_name(name: str) -> str:
    """A table's or figure's name as a file; raises ConfigError for one that would leave its folder."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise ConfigError(
            f"table or figure '{name}': its name becomes a file's; use letters, digits, '_', '-' and '.' only"
        )
    return name


def _write_table(table: Table, study: str, folder: Path, formats: Sequence[str]) -> list[Path]:
    stem = file_name(table.name)
    texts = {format: RENDERERS[format](table, study) for format in formats}
    if {"html", "tex"} & set(formats):
        texts["json"] = render_json(table)
    paths = []
    for suffix, text in texts.items():
        paths.append(folder / f"{stem}.{suffix}")
        write_atomic(paths[-1], text)
    return paths


def _write_figures(
    plan: Plan, coverage: Coverage, warehouse: Warehouse, folder: Path
) -> tuple[list[Path], list[Drawing]]:
    from reports.figures import save_figure
    from reports.page import Drawing
    from reports.series import figure_data

    paths: list[Path] = []
    drawings: list[Drawing] = []
    for name, config in plan.study.figures.items():
        data = figure_data(file_name(name), config, plan.study, plan.cells, coverage, warehouse, plan.home)
        written = [] if data.empty else save_figure(data, folder / name)
        paths += written
        svg = next((path.read_text(encoding="utf-8") for path in written if path.suffix == ".svg"), "")
        drawings.append(Drawing(name, data.title, data.notes, svg))
    return paths, drawings


def _write_page(
    plan: Plan,
    coverage: Coverage,
    warehouse: Warehouse,
    tables: Sequence[Table],
    drawings: Sequence[Drawing],
    claims: Sequence[Judged],
    search: SearchPart | None,
    path: Path,
) -> Path:
    from reports.overview import survey
    from reports.page import render_page

    write_atomic(path, render_page(survey(plan, coverage, warehouse), tables, drawings, claims, search))
    return path
