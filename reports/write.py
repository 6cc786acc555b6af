"""Tables and claims as files, one for each format."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ablative.reports.tables.renderers import render_csv, render_html, render_json, render_latex, render_markdown
from ablative.reports.tables.tables import Table
from ablative.study.core.errors import ConfigError
from ablative.study.core.files import write_atomic

if TYPE_CHECKING:
    from ablative.reports.verdicts.claim_runs import Judged

RENDERERS: dict[str, Callable[[Table, str], str]] = {
    "md": lambda table, _: render_markdown(table),
    "tex": render_latex,
    "csv": lambda table, _: render_csv(table),
    "html": lambda table, _: render_html(table),
}
"""Format of `FORMATS` -> (table, study name) to text."""


def file_name(name: str) -> str:
    """A table's or figure's name as a file; raises ConfigError for one that would leave its folder."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise ConfigError(
            f"table or figure '{name}': its name becomes a file's; use letters, digits, '_', '-' and '.' only"
        )
    return name


def write_table(table: Table, study: str, folder: Path, formats: Sequence[str]) -> list[Path]:
    """A table in each format, and with `html` or `tex` its provenance as JSON."""
    stem = file_name(table.name)
    texts = {format: RENDERERS[format](table, study) for format in formats if format in RENDERERS}
    if {"html", "tex"} & set(formats):
        texts["json"] = render_json(table)
    paths = []
    for suffix, text in texts.items():
        paths.append(folder / f"{stem}.{suffix}")
        write_atomic(paths[-1], text)
    return paths


def write_claims(claims: Sequence[Judged], study: str, folder: Path, formats: Sequence[str]) -> list[Path]:
    """All claims in each format, likewise."""
    if not claims:
        return []
    from ablative.reports.verdicts.claim_tables import CLAIM_RENDERERS, render_claims_json

    texts = {format: CLAIM_RENDERERS[format](claims, f"Claims of {study}") for format in formats if format in RENDERERS}
    if {"html", "tex"} & set(formats):
        texts["json"] = render_claims_json(claims)
    for suffix, text in texts.items():
        write_atomic(folder / f"claims.{suffix}", text)
    return [folder / f"claims.{suffix}" for suffix in texts]
