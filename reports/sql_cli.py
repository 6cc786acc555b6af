"""`ablate sql`: a study's warehouse for queries of one's own."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ablative.reports.cli import sync_first
from ablative.study.cli import config_dir_option, load_plan


@click.command()
@click.argument("study_name", metavar="STUDY")
@click.argument("query", metavar="[QUERY]", default="")
@click.argument("overrides", metavar="[OVERRIDES]...", nargs=-1)
@config_dir_option
@click.option(
    "--parquet",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to export every view into, a Parquet file each.",
)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def sql(
    study_name: str,
    query: str,
    overrides: tuple[str, ...],
    config_dir: str | None,
    parquet: Path | None,
    as_csv: bool,
    as_json: bool,
) -> None:
    """Run QUERY, in DuckDB's SQL, on the results of STUDY.

    Without a query, save the results as a file that any DuckDB client opens, and list the views in it. To give
    OVERRIDES without a query, write '' in its place.
    """
    from ablative.reports.store.queries import ask, export, views
    from ablative.reports.store.results import open_warehouse

    plan = load_plan(study_name, overrides, config_dir)
    sync_first(plan)
    with open_warehouse(plan) as warehouse:
        names, rows = ask(warehouse, query) if query else views(warehouse)
        paths = export(warehouse, parquet) if parquet else []
        if not query:
            paths.append(plan.home.study(plan.study.name).warehouse)
            warehouse.save(paths[-1])
    for path in paths:
        click.echo(f"written: {path}", err=True)
    if as_json:
        click.echo(json.dumps([dict(zip(names, map(_plain, row), strict=True)) for row in rows], default=str))
    elif as_csv:
        csv.writer(sys.stdout, lineterminator="\n").writerows([names, *rows])
    else:
        _print(names, rows)


def _plain(value: object) -> object:
    """JSON has no NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _print(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=box.SIMPLE_HEAD)
    for i, name in enumerate(names):
        numbers = any(isinstance(row[i], int | float) for row in rows)
        grid.add_column(Text(name), justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(Text("" if value is None else str(value)) for value in row))
    console = Console()
    if not console.is_terminal:
        console = Console(width=400)  # a file or a pipe has no edge to wrap at
    console.print(grid)
