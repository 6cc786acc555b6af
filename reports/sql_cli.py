"""`ablate sql`: a study's warehouse for queries of one's own."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ablative.reports.cli import sync_first
from ablative.study.cli import config_dir_option, example, load_plan, overrides_argument, study_argument

if TYPE_CHECKING:
    from rich.console import Console

LEAST = 8
"""Letters of a column of texts, at least, where it has so many."""


@click.command(epilog=example("ablate sql demo 'select * from results_by_factor' --csv"))
@study_argument
@click.argument("query", metavar="[QUERY]", default="")
@overrides_argument
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
            paths.append(warehouse.save())
    for path in paths:
        click.echo(f"written: {path}", err=True)
    if as_json:
        click.echo(json.dumps([dict(zip(names, map(_plain, row), strict=True)) for row in rows], default=str))
    elif as_csv:
        csv.writer(sys.stdout, lineterminator="\n").writerows([names, *rows])
    else:
        print_rows(names, rows)


def _plain(value: object) -> object:
    """JSON has no NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_rows(names: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table that is no wider than the terminal: texts are folded; rows of too many columns are printed upright.

    A file or a pipe has no edge, and every row is one line.
    """
    from rich import box
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    texts = [["" if value is None else str(value) for value in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(names, *texts, strict=True)]
    if not console.is_terminal:
        console = Console(width=sum(widths) + 3 * len(widths) + 3)
    numbers = [any(isinstance(row[i], int | float) for row in rows) for i in range(len(names))]
    # A number is in one piece, and a text has room for a word.
    least = [width if number else min(width, LEAST) for width, number in zip(widths, numbers, strict=True)]
    if sum(least) + 2 * len(least) + 2 > console.width:
        _print_upright(console, names, texts)
        return
    grid = Table(box=box.SIMPLE_HEAD)
    for name, number, width in zip(names, numbers, least, strict=True):
        grid.add_column(Text(name), justify="right" if number else "left", overflow="fold", min_width=width)
    for row in texts:
        grid.add_row(*map(Text, row))
    console.print(grid)


def _print_upright(console: Console, names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Each row as lines `column  value`, with an empty line between rows."""
    from rich.table import Table
    from rich.text import Text

    for row in rows:
        grid = Table.grid(padding=(0, 2))
        grid.add_column(overflow="fold", style="dim")
        grid.add_column(overflow="fold")
        for name, text in zip(names, row, strict=True):
            grid.add_row(Text(name), Text(text))
        console.print(grid)
        console.print()
