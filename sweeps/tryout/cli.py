"""`ablate try`: one cell for minutes on this machine, before a grid is paid for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from ablative.study.cli import cell_command, example
from ablative.study.core.errors import ConfigError
from ablative.study.core.files import Content
from ablative.study.core.plurals import counted

if TYPE_CHECKING:
    from ablative.study.plan.plan import Plan
    from ablative.study.plan.task import Task
    from ablative.sweeps.tryout.attempt import Performed
    from ablative.sweeps.tryout.cell import Cell
    from ablative.sweeps.tryout.resumption import Checked, Comparison

SHOWN_FILES = 6
SHOWN_METRICS = 8
SHOWN_KEYS = 12
INDENT = "  "


@click.command("try", epilog=example("ablate try demo scale=small,method=clip,pooling=map --minutes 1"))
@cell_command
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), default=2.0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def try_command(plan: Plan, cell: str, minutes: float, as_json: bool) -> int:
    """Run one CELL of STUDY here, in a folder that is removed; stop it once midway, resume it, and compare.

    CELL is a task id, or levels such as method=clip,pooling=map [default: the baseline, or the first cell]. The exit
    code is 0 if every declared metric and output was there.
    """
    from ablative.study.home.tried import keep_tried
    from ablative.study.plan.named_task import tasks_of_run
    from ablative.sweeps.submission.submit import TRAINER, prepare_home, require_extras
    from ablative.sweeps.tryout.cell import measured, price, scratch_of, try_cell

    if not plan.trainer.executes:
        raise ConfigError(f"nothing to try: study '{plan.study.name}' is over results that exist already")
    if plan.absent:
        raise ConfigError(f"not on this machine: {', '.join(plan.absent)}. {next(iter(plan.absent.values()))}")
    tasks = tasks_of_run(plan, cell)
    require_extras(TRAINER, plan, tasks)
    say = _Printer(plan, as_json)
    with scratch_of(plan) as scratch:
        prepare_home(scratch.first)
        prepare_home(scratch.second)
        say.heading(tasks, minutes)
        found = try_cell(scratch, tasks, minutes, say.begun, say.ended, say.checked)
        kept, cost = measured(plan, found), price(plan, found)
        data = say.data(found, cost) if as_json else {}
        say.end(found, cost, minutes)
    if kept:
        prepare_home(plan.home)
        keep_tried(plan.home.study(plan.study.name), kept)
    if as_json:
        click.echo(json.dumps(data))
    return int(not found.complete)


class _Printer:
    """Prints what happens, as it happens."""

    def __init__(self, plan: Plan, silent: bool) -> None:
        self._plan, self._silent = plan, silent
        self._not_stopped: dict[str, list[str]] = {}
        """Why a stage was not stopped → such stages."""

    def heading(self, tasks: tuple[Task, ...], minutes: float) -> None:
        self._line(f"{tasks[0].name}: {counted(len(tasks), 'task')}, for {minutes:g} min at most")

    def begun(self, task: Task) -> None:
        self._line(f"\n{task.stage}")
        if keys := _brief(self._plan, task):
            self._line(f"{INDENT}config   {keys}")

    def ended(self, one: Performed) -> None:
        command = next((line for line in _log(one) if line.strip().startswith("program ")), "")
        if command:
            self._line(f"{INDENT}command  {command.strip().removeprefix('program').strip()}")
        for line in _outcome(self._plan, one):
            self._line(INDENT + line)

    def checked(self, one: Performed, found: Checked) -> None:
        if found.why_not:
            self._not_stopped.setdefault(found.why_not, []).append(one.task.stage)
            return
        for number, line in enumerate(describe(found)):
            self._line(f"{one.task.stage}, stopped and resumed: {line}" if not number else INDENT + line)

    def end(self, cell: Cell, cost: str, minutes: float) -> None:
        for why, stages in self._not_stopped.items():
            self._line(f"{', '.join(stages)}: not stopped and resumed: {why}")
        for task in cell.left:
            self._line(f"{task.stage}: not begun, as what it needs did not end within its share of {minutes:g} min")
        for stage, names in cell.missing(self._plan).items():
            self._line(f"{stage}: not seen: {_some(names, SHOWN_METRICS)}")
        if cost:
            self._line(cost)
        if cell.complete:
            self._line("every declared metric and output was there")

    def data(self, cell: Cell, cost: str) -> Content:
        """All of it for programs."""
        missing = cell.missing(self._plan)
        return {
            "study": self._plan.study.name,
            "complete": cell.complete,
            "price": cost or None,
            "stages": {
                one.task.stage: {
                    "task": one.task.task_id,
                    "state": one.state,
                    "seconds": round(one.seconds, 3),
                    "message": one.message or None,
                    "metrics": {name: value if value == value else None for name, value in one.final.items()},
                    "missing": missing.get(one.task.stage, []),
                    "outputs": [name for name, _ in _files(one)],
                    "resumption": _verdict(cell.checked.get(one.task.stage)),
                }
                for one in cell.performed
            },
            "not_begun": [task.stage for task in cell.left],
        }

    def _line(self, text: str) -> None:
        if not self._silent:
            click.echo(text)


def describe(found: Checked) -> Iterator[str]:
    """Lines on a stop and a resumption, the verdict first."""
    at = f"stopped after step {found.stop_step}"
    if found.failed:
        yield f"fails when it is resumed ({at}): {found.failed}"
        return
    begun = "does not resume, it begins anew" if found.anew else "resumes"
    compared = found.comparison
    assert compared is not None
    yield f"{begun}; {_exactness(compared)} ({at})"
    if found.again is not None:
        first, last, count = found.again["first"], found.again["last"], found.again["reports"]
        yield f"computed twice: steps {first} to {last} ({counted(count, 'report')})"
    if found.until is not None:
        yield f"compared up to step {found.until}, as far as both went"
    if compared.unstable:
        yield f"different before the stop already, so not compared: {_some(compared.unstable, SHOWN_METRICS)}"


def _exactness(found: Comparison) -> str:
    if found.exact is None:
        if found.unstable:
            return "whether exactly is not known: two runs differ without a stop"
        return "whether exactly is not known: nothing was reported after the stop"
    if found.largest is None:
        return f"exact: {counted(found.compared, 'value')} after the stop are the same, bit for bit"
    one = found.largest
    where = f"step {one.step}" if one.step is not None else "the end"
    return (
        f"inexact: largest difference {one.size:.4g}, {one.metric} at {where} "
        f"({one.uninterrupted:.6g} uninterrupted, {one.resumed:.6g} resumed)"
    )


def _verdict(found: Checked | None) -> Content | None:
    if found is None:
        return None
    compared = found.comparison
    largest = compared.largest if compared else None
    return {
        "exact": compared.exact if compared else None,
        "resumes": None if found.why_not else not found.anew and not found.failed,
        "why_not": found.why_not or found.failed or None,
        "metric": largest.metric if largest else None,
        "difference": min(largest.size, 1e308) if largest else None,
        "computed_twice": int(found.again["reports"]) if found.again else 0,
    }


def _outcome(plan: Plan, one: Performed) -> Iterator[str]:
    from ablative.sweeps.tryout.attempt import reports

    how = {"stopped": "cut after"}.get(one.state, f"{one.state} in")
    yield f"{how} {one.seconds:.1f} s, {reports(one.steps)}"
    if one.message:
        yield one.message
        lines = [line.strip()[:200] for line in _log(one) if one.message not in line]
        yield f"last lines: {' | '.join(lines[-3:])}"
    if one.final:
        units = {name: metric.unit for name, metric in plan.declared.items()}
        shown = [f"{name} {value:.6g}{units.get(name, '')}" for name, value in one.final.items()]
        yield f"metrics  {_some(shown, SHOWN_METRICS)}"
    if files := [f"{name} ({size})" for name, size in _files(one)]:
        yield f"outputs  {_some(files, SHOWN_FILES)}"


def _brief(plan: Plan, task: Task) -> str:
    """The keys of its configuration, as far as they fit on a line."""
    from ablative.study.core.identity import flatten
    from ablative.study.syntax.factors import brief

    values, keys = flatten(task.config), plan.trainer.parameters(task.stage, task.config)
    return _some([f"{key}={brief(values[key])}" for key in keys if key in values], SHOWN_KEYS)


def _files(one: Performed) -> list[tuple[str, str]]:
    """Files of the output folder, and their sizes."""
    found = sorted(path for path in one.paths.output.rglob("*") if path.is_file())
    return [(str(path.relative_to(one.paths.output)), _size(path.stat().st_size)) for path in found]


def _size(count: int) -> str:
    return f"{count} B" if count < 1000 else f"{count / 1e3:.1f} kB" if count < 1e6 else f"{count / 1e6:.1f} MB"


def _log(one: Performed) -> list[str]:
    if not one.paths.log.exists():
        return []
    return [line for line in one.paths.log.read_text(errors="replace").splitlines() if line.strip()]


def _some(items: list[str] | tuple[str, ...], most: int) -> str:
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")
