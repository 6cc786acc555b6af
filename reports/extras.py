"""What lies beside a report's tables: numbers under their keys, the compute statement, and the PDF of all tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ablative.reports.costs.compute import compute_items, render_compute_latex, render_compute_markdown
from ablative.reports.provenance.numbers import Numbers, render_numbers_json, render_numbers_latex
from ablative.reports.tables.pdf import make_pdf
from ablative.study.core.files import write_atomic

if TYPE_CHECKING:
    from ablative.reports.html.overview import Overview
    from ablative.reports.store.warehouse import Warehouse


def write_numbers(numbers: Numbers, out: Path, formats: Sequence[str]) -> list[Path]:
    """`numbers.json`, and with `tex` the macros; raises ConfigError where two numbers have one key."""
    texts = {"numbers.json": render_numbers_json(numbers)}
    if "tex" in formats:
        texts["numbers.tex"] = render_numbers_latex(numbers)
    return _write(texts, out)


def write_compute(overview: Overview, warehouse: Warehouse, out: Path) -> list[Path]:
    """`compute.md` and `compute.tex`; nothing before anything has run."""
    items = compute_items(overview, warehouse)
    if not items:
        return []
    renderers = {"compute.md": render_compute_markdown, "compute.tex": render_compute_latex}
    return _write({name: render(overview.study, items) for name, render in renderers.items()}, out)


def write_pdf(title: str, written: Sequence[Path], path: Path) -> tuple[list[Path], str]:
    """The PDF of the tables (`.tex` files) among what was written, and where there is none, why."""
    names = ("numbers.tex", "compute.tex")
    sources = [each for each in written if each.suffix == ".tex" and each.name not in names]
    reason = make_pdf(title, sources, path)
    return ([] if reason else [path]), reason


def _write(texts: dict[str, str], out: Path) -> list[Path]:
    for name, text in texts.items():
        write_atomic(out / name, text)
    return [out / name for name in texts]
