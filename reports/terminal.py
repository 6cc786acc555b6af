"""Tables, and what is behind one of their numbers, in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from ablative.reports.provenance.finding_inputs import short_commit
from ablative.reports.provenance.numbers import Numbers, unfolded
from ablative.reports.provenance.why import Answer
from ablative.reports.tables.escape import bare
from ablative.reports.tables.printed import VALUE, printed_columns
from ablative.reports.tables.renderers import PLAIN, cell_text, plain
from ablative.reports.tables.tables import Table
from ablative.study.core.plurals import counted
from ablative.study.home.records import changed_versions

if TYPE_CHECKING:
    from ablative.study.plan.plan import Plan


MOST_ROWS, FIRST_ROWS = 200, 50
"""A table of more rows is read in its files: of it, so many are printed."""
MOST_PACKAGES = 12
"""An environment of so many has all of them named."""


def print_table(table: Table) -> None:
    # A paper's caption is longer than its table is wide: it goes above.
    title = None if table.preformatted else Text(bare(table.title))
    grid = Grid(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    printed = printed_columns(table)
    for head in table.row_heads:
        grid.add_column(Text(bare(head)))
    for column in printed:
        grid.add_column(Text(bare(column.title).replace(" / ", "\n").replace(", Δ", "\nΔ")), justify="right")
    shown = table.rows if len(table.rows) <= MOST_ROWS else table.rows[:FIRST_ROWS]
    for row in shown:
        cells: list[Any] = [Text(bare(level)) for level in row.printed]
        for column in printed:
            entry = row.entries[column.place]
            style = "bold" if entry.best else "" if entry.summary else "dim"
            cells.append(Text(cell_text(entry, column, PLAIN), style=style if column.part == VALUE else ""))
        grid.add_row(*cells)
    console = Console()
    if not console.is_terminal:
        console = Console(width=400)  # a file or a pipe has no edge to wrap at
    if table.preformatted:
        console.print(Text(bare(table.title)), soft_wrap=True)
    console.print(grid)
    if len(shown) < len(table.rows):
        console.print(f"{len(table.rows) - len(shown)} further rows: in the files of table {table.name}", markup=False)
    for note in table.notes:
        console.print(Text(bare(note), style="dim"), soft_wrap=True)
    console.print()


def print_answer(answer: Answer, numbers: Numbers, plan: Plan) -> None:
    """One number, how it is made, and the tasks behind it: their code, data, machine, versions, files."""
    entry = answer.entry
    click.echo(f"{answer.table.title}\n{answer.row.title}: {answer.column.title} = {plain(entry, answer.column)}")
    found = {key: unfolded(numbers, key) for key in numbers["numbers"]}
    for key, number in found.items():
        click.echo(f"\\ablate{{{key}}}: {number['formula']}")
    click.echo(f"n = {entry.summary.n if entry.summary else 0} of {entry.planned} seeds")
    if entry.test:
        click.echo(f"compared: {entry.test}")
    if entry.detail:
        click.echo(f"missing: {entry.detail}")
    if entry.finding_marks:
        click.echo(answer.table.notes[-1])
    for number in found.values():
        for run in number["runs"]:
            _print_run(run, numbers["tasks"], plan)
        for line in environments(numbers["environments"]):
            click.echo(line)
        click.echo(f"\n{number['query']};\n-- on {plan.home.study(plan.study.name).warehouse}")


def environments(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A line for each environment; where many packages are installed, with those alone that differ from the first's."""
    for i, own in enumerate(found):
        packages = own.get("packages", {})
        shown = ", ".join(f"{name} {version}" for name, version in packages.items())
        if len(packages) > MOST_PACKAGES:
            changed = changed_versions(found[0], own)
            differing = (f", {name} {b or 'absent'} (not {a or 'absent'})" for name, (a, b) in changed.items())
            shown = f"{counted(len(packages), 'package')}{''.join(differing)}"
        where = f" ({own['interpreter']})" if own.get("interpreter") else ""
        device, host, python = (own.get(name, "–") for name in ("device", "host", "python"))
        yield f"environment {i}: {device} on {host}; Python {python}{where}, {shown}"


def _print_run(run: Mapping[str, Any], tasks: Mapping[str, Any], plan: Plan) -> None:
    """A seed's value, and under it a line for each task that trained or measured it."""
    value = "NaN" if run["value"] is None else f"{run['value']:.6g}"
    ran = any("origin" not in tasks.get(name, {}) for name in run["tasks"])
    config = f"  {plan.home.run(run['run_id']).config}" if ran else ""
    click.echo(f"  seed {run['seed']}  {value}  run {run['run_id']}{config}")
    for name in (name for name in run["tasks"] if name in tasks):
        task = tasks[name]
        sets: dict[str, list[str]] = {}
        for own, fingerprint in task["data"].items():
            sets.setdefault(fingerprint, []).append(own)
        data = "; ".join(f"{', '.join(names)}: {fingerprint}" for fingerprint, names in sets.items())
        where = "–" if task["environment"] is None else task["environment"]
        stage = f"{task['stage']} {name}"
        if "origin" in task:
            click.echo(f"    {stage}  code {short_commit(task['commit'])}  {task['finished'] or ''}".rstrip())
            click.echo(f"      {task['origin']}")
            continue
        files = f" (files {task['sources'][:10]})" if "sources" in task else ""
        click.echo(f"    {stage}  code {short_commit(task['commit'])}{files}  {task['finished']}  environment {where}")
        click.echo(f"      {plan.task(name).paths(plan.home).log}")
        if data:
            click.echo(f"      data {data}")
