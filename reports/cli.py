"""`ablate report` and `ablate why`."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ablative.study.cli import completes, config_dir_option, example, load_plan, overrides_argument, study_argument
from ablative.study.core import registry
from ablative.study.core.errors import ConfigError
from ablative.study.core.plurals import counted
from ablative.study.home.paths import home
from ablative.study.plan.last_words import other_words
from ablative.study.plan.task import with_trials
from ablative.study.spec.outputs import FINDINGS, FORMATS

if TYPE_CHECKING:
    from ablative.reports.build import Report
    from ablative.reports.provenance.numbers import Numbers
    from ablative.reports.tables.tables import Table
    from ablative.reports.verdicts.claim_runs import Judged
    from ablative.study.plan.plan import Plan

_THREADS = "OPENBLAS_NUM_THREADS"


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Have NumPy and SciPy imported with one thread for linear algebra, unless the environment has a number.

    OpenBLAS starts one for each core, and each looks for work for a tenth of a second before it sleeps; a report's
    matrices are small. With one, they are also rounded alike on machines of any size.
    """
    if _THREADS in os.environ:
        yield
        return
    os.environ[_THREADS] = "1"
    try:
        yield
    finally:
        del os.environ[_THREADS]


@click.command(epilog=example("ablate report demo --final"))
@study_argument
@overrides_argument
@config_dir_option
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder to write into.")
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice([*FORMATS, "pdf", "all"]),
    help="Repeatable [default: all]; html includes the page, html and tex the figures, pdf needs tex and pdflatex.",
)
@click.option(
    "--final", is_flag=True, help="Refuse what a draft marks: missing, stale and diverged runs, mixed code and more."
)
@click.option(
    "--allow", multiple=True, type=click.Choice(FINDINGS), help="A kind of mark that --final accepts; repeatable."
)
@click.option("--tag", metavar="NAME", help="Keep the numbers of this report under NAME, for --since.")
@click.option("--since", metavar="NAME", help="List the numbers that moved since the report tagged NAME, and why.")
@click.option(
    "--reference", is_flag=True, help="Write the tables that a paper prints; STUDY is the paper: mae_clip or maskclip."
)
@click.option(
    "--watch", is_flag=True, help="Renew the page until all tasks are finished (or Ctrl-C), then write the report."
)
@click.option("--json", "as_json", is_flag=True, help="Print the paths that were written as JSON.")
@_one_thread()
def report(
    study_name: str,
    overrides: tuple[str, ...],
    config_dir: str | None,
    out: Path | None,
    formats: tuple[str, ...],
    final: bool,
    allow: tuple[str, ...],
    tag: str | None,
    since: str | None,
    reference: bool,
    watch: bool,
    as_json: bool,
) -> None:
    """Write STUDY's tables, figures and page from the tracked results, and print the tables.

    A report with missing, stale or otherwise doubtful numbers is a draft: it marks them and gives the reasons, and with
    --final it is not written.
    """
    chosen = (*FORMATS, "pdf") if not formats or "all" in formats else tuple(dict.fromkeys(formats))
    if reference:
        if overrides:
            raise click.UsageError(f"--reference prints a paper, which takes no overrides: {' '.join(overrides)}")
        if final or tag or since or watch:
            raise click.UsageError(
                "--reference prints a paper as it is: --final, --tag, --since and --watch are for studies"
            )
        _report_reference(study_name, out, tuple(format for format in chosen if format != "pdf"), as_json)
    else:
        plan = load_plan(study_name, overrides, config_dir)
        folder = out or plan.home.study(plan.study.name).report
        if watch:
            plan = _watch(lambda: load_plan(study_name, overrides, config_dir), folder, chosen, final)
        _report_study(plan, folder, chosen, final, allow, Tags(folder / "tags", tag, since), as_json)
        if other := other_words(plan, "report"):
            click.echo(f"note: {other}", err=True)


def _watch(load: Callable[[], Plan], folder: Path, chosen: Sequence[str], final: bool) -> Plan:
    """Renew the page while tasks run; the plan as it is then."""
    from ablative.reports.watch import watch

    if "html" not in chosen or final:
        raise click.UsageError("--watch renews the page, a draft: it needs the format html, and not --final")
    watch(load, sync_first, folder)
    return load()


@dataclass(frozen=True)
class Tags:
    """The folder of reports whose numbers were kept, and the two that this report names in it."""

    folder: Path
    tag: str | None
    """Name under which this report's numbers are kept; None: they are not kept."""
    since: str | None
    """Name of the report that this one is compared with; None: with none."""


def _report_study(
    plan: Plan, folder: Path, chosen: tuple[str, ...], final: bool, allow: tuple[str, ...], tags: Tags, as_json: bool
) -> None:
    from ablative.reports.build import ReportOptions, collector_paused
    from ablative.reports.build import report as build
    from ablative.reports.provenance.changes import free, kept
    from ablative.reports.provenance.findings import NotFinalError, render_findings_text

    before = kept(tags.folder, tags.since) if tags.since else None
    if tags.tag:
        free(tags.folder, tags.tag)
    options = ReportOptions(final, allow, sync_first(plan), bool(tags.tag or tags.since))
    try:
        with collector_paused(ends=True):
            result = build(plan, folder, chosen, options)
    except NotFinalError as error:
        if as_json:
            click.echo(json.dumps({"study": plan.study.name, "final": False, "findings": error.to_json(), "paths": []}))
        click.echo(render_findings_text(error.findings), err=True)
        raise
    paths = [*result.paths, *_keep(result.numbers, tags)]
    if as_json:
        click.echo(json.dumps(_report_json(plan, result, paths, before, tags)))
        _fail_where_broken(result)
        return
    if before is None:
        _print_outputs(result.claims, result.tables)
        click.echo(render_findings_text(result.findings))
    else:
        _print_moves(plan, before, result.numbers, tags)
    if not result.finished:
        total = sum(result.counts.values())
        click.echo(f"{plan.study.name}: nothing is trained yet, none of {total} tasks has finished", err=True)
    for note in result.notes:
        click.echo(f"note: {note}", err=True)
    if result.left_out:
        click.echo(f"tables.pdf is left out: {result.left_out}", err=True)
    _print_written(len(paths), folder, chosen)
    _fail_where_broken(result)


def _fail_where_broken(result: Report) -> None:
    """Raise ConfigError for a report that lacks a part: the rest of it is written."""
    if result.broken:
        raise ConfigError(
            f"the report is written without {counted(len(result.broken), 'part')}: {'; '.join(result.broken)}"
        )


def _keep(numbers: Numbers, tags: Tags) -> list[Path]:
    from ablative.reports.provenance.changes import keep

    return [keep(numbers, tags.folder, tags.tag)] if tags.tag else []


def _report_json(
    plan: Plan, result: Report, paths: Sequence[Path], before: Numbers | None, tags: Tags
) -> dict[str, Any]:
    from ablative.reports.provenance.changes import compared

    found = {
        "study": plan.study.name,
        "counts": result.counts,
        "final": not result.findings,
        "findings": [finding.to_json() for finding in result.findings],
        "paths": [str(path) for path in paths],
    }
    if result.broken:
        found["broken"] = list(result.broken)
    if result.notes:
        found["notes"] = list(result.notes)
    if result.left_out:
        found["left_out"] = {"tables.pdf": result.left_out}
    if before is not None:
        found["since"] = {
            "tag": tags.since,
            "moved": [move.to_json() for move in compared(plan, before, result.numbers)],
        }
    return found


def _print_moves(plan: Plan, before: Numbers, now: Numbers, tags: Tags) -> None:
    from ablative.reports.provenance.changes import compared, render_moves_text, unseen

    click.echo(render_moves_text(compared(plan, before, now), str(tags.since), unseen(before, now)))


def _report_reference(paper: str, out: Path | None, chosen: tuple[str, ...], as_json: bool) -> None:
    from ablative.reports.reference.publish import publish

    folder = out or home().study(paper).reference
    result = publish(paper, folder, chosen)
    if as_json:
        click.echo(json.dumps({"paper": paper, "paths": [str(path) for path in result.paths]}))
        return
    _print_outputs(result.claims, result.tables)
    _print_written(len(result.paths), folder, chosen)


def _print_outputs(claims: Sequence[Judged], tables: Sequence[Table]) -> None:
    from ablative.reports.terminal import print_table
    from ablative.reports.verdicts.claim_tables import render_claims_text

    if claims:
        click.echo(f"{render_claims_text(claims)}\n")
    for table in tables:
        print_table(table)


def _print_written(files: int, folder: Path, chosen: tuple[str, ...]) -> None:
    shown = folder / "index.html" if "html" in chosen else folder / "tables"
    click.echo(f"{files} files written: {shown}", err=True)


@click.command(epilog=example("ablate why demo table4 'clip, map' 1", "ablate why demo gap_shrinks_gain"))
@study_argument
@click.argument("table_name", metavar="TABLE", shell_complete=completes("outputs"))
@click.argument("row", metavar="[ROW", required=False)
@click.argument("column", metavar="COLUMN]", required=False)
@overrides_argument
@config_dir_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_one_thread()
def why(
    study_name: str,
    table_name: str,
    row: str | None,
    column: str | None,
    overrides: tuple[str, ...],
    config_dir: str | None,
    as_json: bool,
) -> None:
    """Show the runs behind a number of TABLE, or behind the verdict on a claim (TABLE is then the claim's name).

    ROW and COLUMN are labels ('clip, map', 'large / top-1') or positions, counted from 1.
    """
    from ablative.reports.declared import one_number
    from ablative.reports.provenance.numbers import unfolded
    from ablative.reports.terminal import print_answer

    plan = load_plan(study_name, overrides, config_dir)
    if (
        row is None
        or column is None
        or table_name in set(plan.study.claims) - {*plan.study.tables, *plan.study.effects}
    ):
        words = [word for word in (row, column) if word is not None]  # of a claim, overrides
        _why_claim(load_plan(study_name, (*words, *overrides), config_dir), table_name, as_json)
        return
    answer, numbers = one_number(plan, table_name, row, column, sync_first(plan))
    if as_json:
        key = next(iter(numbers["numbers"]), None)
        number = unfolded(numbers, key) if key else {}
        behind = {name: numbers[name] for name in ("tasks", "environments", "findings")}
        click.echo(json.dumps({"key": key, **number, **answer.to_json(), **behind}))
    else:
        print_answer(answer, numbers, plan)


def _why_claim(plan: Plan, name: str, as_json: bool) -> None:
    from ablative.reports.declared import one_claim
    from ablative.reports.verdicts.claim_runs import claim_json
    from ablative.reports.verdicts.claim_tables import render_claims_text

    if name in {*plan.study.tables, *plan.study.effects}:
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


def sync_first(plan: Plan) -> int:
    """Upload what waits in journals and return the number of tasks that still have entries to upload.

    A store that cannot be written may still be read: a line says so, and the report is made.
    """
    tasks = with_trials(plan.tasks, plan.home.study(plan.study.name).search)
    if not registry.pending(tasks, plan.study.name, plan.home):
        return 0
    left = registry.ship(tasks, plan.study.name, plan.home).pending
    if left:
        click.echo(
            "some results are still in their journals ('ablate sync' says why); this report is without them", err=True
        )
    return left
