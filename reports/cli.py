"""`ablate report` and `ablate why`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from study.cli import load_plan
from study.lazy import PENDING, SHIP, load
from study.outputs import FORMATS
from study.paths import home

if TYPE_CHECKING:
    from reports.claim_runs import Judged
    from reports.tables import Table
    from reports.why import Answer
    from study.plan import Plan


@click.command()
@click.argument("study_name", metavar="STUDY")
@click.argument("overrides", metavar="[OVERRIDES]...", nargs=-1)
@click.option("--config-dir", type=click.Path(), help="Your own Hydra config folder, beside the shipped one.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder to write into.")
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice([*FORMATS, "all"]),
    help="Repeatable [default: all]; html includes the page, html and tex the figures.",
)
@click.option("--reference", is_flag=True, help="The tables as printed of the paper STUDY: mae_clip or maskclip.")
@click.option("--json", "as_json", is_flag=True, help="Print the paths that were written as JSON.")
def report(
    study_name: str,
    overrides: tuple[str, ...],
    config_dir: str | None,
    out: Path | None,
    formats: tuple[str, ...],
    reference: bool,
    as_json: bool,
) -> None:
    """Write STUDY's tables, figures and page from what is tracked, and print the tables."""
    chosen = FORMATS if not formats or "all" in formats else tuple(dict.fromkeys(formats))
    if reference:
        if overrides:
            raise click.UsageError(f"--reference prints a paper, which takes no overrides: {' '.join(overrides)}")
        _report_reference(study_name, out, chosen, as_json)
    else:
        _report_study(load_plan(study_name, overrides, config_dir), out, chosen, as_json)


def _report_study(plan: Plan, out: Path | None, chosen: tuple[str, ...], as_json: bool) -> None:
    from reports.build import report as build

    sync_first(plan)
    folder = out or plan.home.study(plan.study.name).report
    result = build(plan, folder, chosen)
    if as_json:
        paths = [str(path) for path in result.paths]
        click.echo(json.dumps({"study": plan.study.name, "counts": result.counts, "paths": paths}))
        return
    _print_claims(result.claims)
    for table in result.tables:
        _print_table(table)
    if not result.finished:
        total = sum(result.counts.values())
        click.echo(f"{plan.study.name}: nothing is trained yet, none of {total} tasks has finished", err=True)
    _print_written(len(result.paths), folder, chosen)


def _report_reference(paper: str, out: Path | None, chosen: tuple[str, ...], as_json: bool) -> None:
    from reports.reference.publish import publish

    folder = out or home().study(paper).reference
    result = publish(paper, folder, chosen)
    if as_json:
        click.echo(json.dumps({"paper": paper, "paths": [str(path) for path in result.paths]}))
        return
    _print_claims(result.claims)
    for table in result.tables:
        _print_table(table)
    _print_written(len(result.paths), folder, chosen)


def _print_claims(claims: Sequence[Judged]) -> None:
    from reports.claim_tables import render_claims_text

    if claims:
        click.echo(f"{render_claims_text(claims)}\n")


def _print_written(files: int, folder: Path, chosen: tuple[str, ...]) -> None:
    shown = folder / "index.html" if "html" in chosen else folder / "tables"
    click.echo(f"{files} files written: {shown}", err=True)


@click.command()
@click.argument("study_name", metavar="STUDY")
@click.argument("table_name", metavar="TABLE")
@click.argument("row", metavar="[ROW", required=False)
@click.argument("column", metavar="COLUMN]", required=False)
@click.argument("overrides", metavar="[OVERRIDES]...", nargs=-1)
@click.option("--config-dir", type=click.Path(), help="Your own Hydra config folder, beside the shipped one.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def why(
    study_name: str,
    table_name: str,
    row: str | None,
    column: str | None,
    overrides: tuple[str, ...],
    config_dir: str | None,
    as_json: bool,
) -> None:
    """The runs behind a number of a TABLE, or behind the verdict on a claim (then TABLE is the claim's name).

    ROW and COLUMN are labels ('clip, map', 'large / top-1') or places from 1 on.
    """
    from reports.build import one_table
    from reports.why import find

    plan = load_plan(study_name, overrides, config_dir)
    if row is None or column is None or table_name in set(plan.study.claims) - set(plan.study.tables):
        words = [word for word in (row, column) if word is not None]  # of a claim, overrides
        _why_claim(load_plan(study_name, (*words, *overrides), config_dir), table_name, as_json)
        return
    sync_first(plan)
    answer = find(one_table(plan, table_name), row, column)
    if as_json:
        click.echo(json.dumps(answer.to_json()))
    else:
        _print_answer(answer, plan)


def _why_claim(plan: Plan, name: str, as_json: bool) -> None:
    from reports.build import one_claim
    from reports.claim_runs import claim_json
    from reports.claim_tables import render_claims_text

    if name in plan.study.tables:
        raise click.UsageError(f"'{name}' is a table; a number of it needs ROW and COLUMN")
    sync_first(plan)
    judged = one_claim(plan, name)
    if as_json:
        click.echo(json.dumps(claim_json(judged)))
        return
    click.echo(render_claims_text([judged]).rpartition("\n")[0])
    if judged.remedy.text:
        click.echo(f"would decide: {judged.remedy.text}\n  {judged.remedy.command}".rstrip())
    for cell, sources in judged.runs:
        click.echo(cell)
        for source in sources:
            click.echo(f"  seed {source.seed}  {source.value:.6g}  run {source.run_id}  code {source.commit}")
    click.echo(f"\n{judged.query};\n-- on {plan.home.study(plan.study.name).warehouse}")


def sync_first(plan: Plan) -> None:
    """Ship what waits in journals. A store that cannot be written may still be read: then say so, and go on."""
    if not load(PENDING)(plan.tasks, plan.study.name, plan.home):
        return
    if load(SHIP)(plan.tasks, plan.study.name, plan.home).pending:
        click.echo(
            "some results are still in their journals ('ablate sync' tells why); this report is without them", err=True
        )


def _print_table(table: Table) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table as Grid
    from rich.text import Text

    from reports.renderers import plain
    from reports.text import bare

    # A paper's caption is longer than its table is wide: it goes above.
    title = None if table.printed else Text(bare(table.title))
    grid = Grid(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for factor in table.factors:
        grid.add_column(Text(bare(factor)))
    for column in table.columns:
        grid.add_column(Text(bare(column.name).replace(" / ", "\n")), justify="right")
    for row in table.rows:
        cells: list[Any] = [Text(bare(level)) for level in row.levels]
        for entry, column in zip(row.entries, table.columns, strict=True):
            style = "bold" if entry.best else "underline" if entry.second else "" if entry.summary else "dim"
            cells.append(Text(plain(entry, column), style=style))
        grid.add_row(*cells)
    console = Console()
    if not console.is_terminal:
        console = Console(width=400)  # a file or a pipe has no edge to wrap at
    if table.printed:
        console.print(Text(bare(table.title)), soft_wrap=True)
    console.print(grid)
    for note in table.notes:
        console.print(Text(bare(note), style="dim"), soft_wrap=True)
    console.print()


def _print_answer(answer: Answer, plan: Plan) -> None:
    from reports.renderers import plain

    entry = answer.entry
    click.echo(f"{answer.table.title}\n{answer.row.name}: {answer.column.name} = {plain(entry, answer.column)}")
    click.echo(
        f"n = {entry.summary.n if entry.summary else 0} of {entry.planned} seeds; {len(answer.column.metrics)} task(s)"
    )
    if entry.detail:
        click.echo(f"missing: {entry.detail}")
    for source in entry.sources:
        config = plan.home.run(source.run_id).config
        click.echo(f"  seed {source.seed}  {source.value:.6g}  run {source.run_id}  code {source.commit}  {config}")
    if entry.cell:
        click.echo(f"\n{answer.query};\n-- on {plan.home.study(plan.study.name).warehouse}")
