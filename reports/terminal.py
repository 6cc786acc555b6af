"""Tables, and what is behind one of their numbers, in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from shutil import get_terminal_size
from textwrap import wrap
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from rich.cells import cell_len

from ablative.reports.provenance.finding_inputs import short_commit
from ablative.reports.provenance.findings import MEANINGS, SIGNS
from ablative.reports.provenance.numbers import Numbers, unfolded
from ablative.reports.provenance.why import Answer
from ablative.reports.store.warehouse import cell_key
from ablative.reports.tables.escape import bare
from ablative.reports.tables.printed import VALUE, PrintedColumn, printed_columns, table_parts
from ablative.reports.tables.renderers import PLAIN, cell_text, plain
from ablative.reports.tables.tables import Row, Table
from ablative.study.core.plurals import counted
from ablative.study.home.records import changed_versions, read_failure

if TYPE_CHECKING:
    from ablative.study.plan.plan import Plan


MOST_ROWS, FIRST_ROWS = 200, 50
"""A table of more rows is read in its files: of it, so many are printed."""
MOST_PACKAGES = 12
"""An environment of so many has all of them named."""
GAP = "  "
"""Between two columns, and in front of the first."""


class _Column(NamedTuple):
    """One column as it is printed: lines of its head, and its cells with what marks them."""

    head: Sequence[str]
    cells: Sequence[str]
    marks: Sequence[str]
    """`bold`, `dim` or nothing, of each cell."""
    width: int
    left: bool

    def line(self, text: str, mark: str = "") -> str:
        room = " " * (self.width - cell_len(text))
        shown = click.style(text, **{mark: True}) if mark else text
        return shown + room if self.left else room + shown


def print_table(table: Table) -> None:
    click.echo(table_text(table, get_terminal_size().columns if sys.stdout.isatty() else None))


def table_text(table: Table, room: int | None) -> str:
    """A table as the terminal shows it: columns that do not fit go below the others, with the levels of the rows again.

    `room`: characters of a line; None: a file or a pipe has no edge.
    """
    shown = table.rows if len(table.rows) <= MOST_ROWS else table.rows[:FIRST_ROWS]
    levels = [
        _column(bare(head), [bare(row.printed[i]) for row in shown], left=True)
        for i, head in enumerate(table.row_heads)
    ]
    numbers = [_numbers(table, column, shown) for column in printed_columns(table)]
    lines = [bare(table.title)]
    for block in _blocks(levels, numbers, room):
        lines += ["", *_lines([*levels, *block], len(shown))]
    if len(shown) < len(table.rows):
        lines += ["", f"{len(table.rows) - len(shown)} further rows: in the files of table {table.name}"]
    return "\n".join([*lines, "", *(click.style(bare(note), dim=True) for note in table.notes), ""])


def _numbers(table: Table, printed: PrintedColumn, rows: Sequence[Row]) -> _Column:
    head = bare(printed.title).replace(" / ", "\n").replace(", Δ", "\nΔ")
    entries = [row.entries[printed.place] for row in rows]
    parts = [own[printed.place] for own in table_parts(table)[: len(rows)]]
    cells = [bare(cell_text(entry, printed, PLAIN, own)) for entry, own in zip(entries, parts, strict=True)]
    marks = ["bold" if entry.best else "" if entry.summary else "dim" for entry in entries]
    return _column(head, cells, marks if printed.part == VALUE else ())


def _column(head: str, cells: Sequence[str], marks: Sequence[str] = (), left: bool = False) -> _Column:
    """A head has as many lines as the cells below leave it, and no word of it is broken."""
    body = max(map(cell_len, cells), default=1)
    lines = [
        line
        for part in head.split("\n")
        for line in wrap(part, max(body, 1), break_long_words=False, break_on_hyphens=False) or [""]
    ]
    return _Column(lines, cells, marks or [""] * len(cells), max([body, *map(cell_len, lines)]), left)


def _blocks(levels: Sequence[_Column], columns: Sequence[_Column], room: int | None) -> Iterator[list[_Column]]:
    """The columns, as many at once as fit next to the rows' levels; `room`: None has no end."""
    block: list[_Column] = []
    for column in columns:
        if block and room is not None and sum(len(GAP) + each.width for each in (*levels, *block, column)) > room:
            yield block
            block = []
        block.append(column)
    yield block


def _lines(columns: Sequence[_Column], rows: int) -> Iterator[str]:
    """Heads, a rule, and the rows."""
    if not columns:
        return
    depth = max(len(column.head) for column in columns)
    heads = [[""] * (depth - len(column.head)) + [*column.head] for column in columns]
    for i in range(depth):
        yield _joined([column.line(head[i]) for column, head in zip(columns, heads, strict=True)])
    yield f" {'─' * sum(len(GAP) + column.width for column in columns)}"
    for i in range(rows):
        yield _joined([column.line(column.cells[i], column.marks[i]) for column in columns])


def _joined(texts: Sequence[str]) -> str:
    return (GAP + GAP.join(texts)).rstrip()


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
        for line in _failures(plan, entry.cell):
            click.echo(line)
    for line in _signs(entry.finding_marks, answer.table.notes):
        click.echo(line)
    for number in found.values():
        for run in number["runs"]:
            _print_run(run, numbers["tasks"], plan)
        for line in environments(numbers["environments"]):
            click.echo(line)
        click.echo(f"\n{number['query']};\n-- on {plan.home.study(plan.study.name).warehouse}")


def _signs(marks: str, notes: Sequence[str]) -> Iterator[str]:
    """What the signs of one number mean: those of findings, and the notes of its table on the others."""
    for kind, sign in SIGNS.items():
        if sign in marks:
            yield f"{sign} {MEANINGS[kind]}"
    others = [sign for sign in marks if sign not in SIGNS.values()]
    yield from (note for note in notes if note[:1] in others)


def _failures(plan: Plan, cell: str) -> Iterator[str]:
    """How the cell's failed tasks ended, and the command that shows what they printed."""
    for task in plan.tasks:
        failure = read_failure(task.paths(plan.home).failure) if cell in map(cell_key, task.cells) else None
        if failure is not None:
            message = str(failure.get("message", "")).partition("\n")[0]
            yield f"  {failure.get('type') or failure['cause']}: {message}\n  ablate logs {task.task_id}"


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
