"""`ablate plan` and `diff`: what a study means, without running anything."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import click

from ablative.study.cli import config_dir_option, console_for, example, load_plan, selecting, study_command_without_data
from ablative.study.core import registry
from ablative.study.core.plurals import counted
from ablative.study.core.registry import State
from ablative.study.spec.design import cell_name

if TYPE_CHECKING:
    from rich.table import Table

    from ablative.study.costs.budget import Selection
    from ablative.study.costs.estimate import Costs
    from ablative.study.plan.plan import Plan
    from ablative.study.plan.task import Task


@click.command("plan", epilog=example("ablate plan demo seeds=[0]", "ablate plan demo cluster=slurm --script"))
@study_command_without_data
@selecting
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--tasks", "show_tasks", is_flag=True, help="List every task, not only the cells.")
@click.option("--script", is_flag=True, help="Print the sbatch calls and scripts that a submission would make.")
def plan_command(selection: Selection, as_json: bool, show_tasks: bool, script: bool) -> None:
    """Show the cells, runs and tasks of STUDY, the state of each, what is missing and what it will cost."""
    from ablative.study.costs.estimate import estimate

    plan = selection.plan
    if script:
        for text in registry.scripts(plan):
            click.echo(text)
        return
    states = registry.task_states(plan)
    records = {task_id: state.detail or {} for task_id, state in states.items() if state.finished}
    costs = selection.costs or estimate(plan, records)
    if as_json:
        data = plan.to_json() | ({"budget": selection.to_json()} if selection.budget else {})
        if plan.code is not None:
            data["code"] = registry.job_code(plan).to_json()
        for task in data["tasks"]:
            task["state"] = _shown(plan, states[task["task_id"]].state)
            task["cost"] = costs.of(task["task_id"])
            if plan.existing is not None and plan.has(task["task_id"]):
                task["origin"] = plan.existing.places[task["task_id"]]
        click.echo(json.dumps(data))
        return
    _print_plan(plan, states, costs, show_tasks)
    for line in selection.describe():
        click.echo(line)


FEW = 4
"""Largest number of factors for which columns are set apart, and of claims that a note names."""
WHOLE = 11
"""Least width of the column of states, in characters: `12 waiting,` is not broken."""
STATE = "state"
"""Heading of that column."""
FITTED = 500
"""Most rows that are fitted to the width of the terminal."""


def _plan_rows(
    plan: Plan, states: Mapping[str, State], costs: Costs, brief: bool = False
) -> tuple[list[tuple[str, bool]], list[list[str]]]:
    """Headings, each with whether its column holds numbers, and a row for each cell that has tasks or waits for them.

    `brief`: without the numbers of tasks.
    """
    from ablative.study.costs.estimate import estimated

    factors = [(factor, False) for factor in plan.study.factors]
    runs_alone = not plan.trainer.executes
    numbers = [] if brief else [("runs", True), ("evals", True)][: 1 if runs_alone else 2]
    units = [] if runs_alone else [(f"{gpu}-h", True) for gpu in costs.gpus] or [("core-min", True)]
    rows = []
    for cell in plan.cells:
        tasks = plan.of_cell(cell)
        if not tasks and cell_name(cell) not in plan.waiting:
            continue
        runs = sum(task.opens and task.seeded for task in tasks)
        counts = [str(runs), str(len(tasks) - runs)][: len(numbers)]
        levels = [cell.get(factor, "–") for factor in plan.study.factors]
        cost = [estimated(costs.hours(tasks, gpu)) for gpu in costs.gpus] or [f"{60 * costs.core_hours(tasks):.1f}"]
        if any(not plan.has(task.task_id) for task in costs.unknown(tasks)):
            cost = ["?" for _ in cost]
        shown = _summary_of(plan, [states[task.task_id].state for task in tasks])
        rows.append([*levels, *counts, shown, *cost[: len(units)]])
    return [*factors, *numbers, (STATE, False), *units], rows


def _rich_table(plan: Plan, headings: list[tuple[str, bool]], rows: list[list[str]]) -> Table:
    """The rows fitted to the width of a terminal."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    # Many factors, and 80 columns: little is spent on what is between them, names and numbers stay whole.
    padding = (0, int(len(plan.study.factors) <= FEW), 0, 0)
    table = Table(title=Text(_title(plan)), title_justify="left", box=box.SIMPLE_HEAD, padding=padding)
    for heading, numeric in headings:
        if heading == STATE:
            table.add_column(heading, min_width=WHOLE)
        else:
            table.add_column(Text(heading), justify="right" if numeric else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _plain_table(plan: Plan, headings: list[tuple[str, bool]], rows: list[list[str]]) -> Iterator[str]:
    """The rows in aligned columns, whatever the terminal: rich takes a second for 800 rows."""
    from rich.cells import cell_len

    lines = [[heading for heading, _ in headings], *rows]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    yield _title(plan)
    for line in lines:
        blanks = (" " * (width - cell_len(text)) for width, text in zip(widths, line, strict=True))
        parts = zip(headings, line, blanks, strict=True)
        yield "  ".join(blank + text if numeric else text + blank for (_, numeric), text, blank in parts).rstrip()


def _title(plan: Plan) -> str:
    return f"{plan.study.name}: {plan.study.title}"


def _summary_of(plan: Plan, states: list[str]) -> str:
    """How many tasks of a cell are in which state."""
    counts = Counter(_shown(plan, state) for state in states)
    return ", ".join(f"{count} {state}" for state, count in counts.most_common()) or "waiting for its search"


def _shown(plan: Plan, state: str) -> str:
    """The state as it is printed: a task whose data are not on this machine is not eligible."""
    return "no data" if plan.absent and state == "eligible" else state


def _print_plan(plan: Plan, states: Mapping[str, State], costs: Costs, show_tasks: bool) -> None:
    from rich.console import Console

    console = Console()
    headings, rows = _plan_rows(plan, states, costs)
    if len(rows) > FITTED:
        click.echo("\n".join(_plain_table(plan, headings, rows)))
    else:
        table = _rich_table(plan, headings, rows)
        console = console_for(table)
        if Console(width=1000).measure(table).minimum > console.width:
            table = _rich_table(plan, *_plan_rows(plan, states, costs, brief=True))
        console.print(table)
    if show_tasks:
        for task in plan.tasks:
            click.echo(f"{task.task_id}  {_shown(plan, states[task.task_id].state):10} {task.name}")
    missing = [task for task in plan.tasks if not states[task.task_id].finished]
    price = costs.summary(missing) if plan.trainer.executes else "there is nothing to run"
    console.print(
        f"{len(rows)} cells, {len(plan.runs)} runs, {len(plan.tasks)} tasks; {len(missing)} missing: {price}",
        highlight=False,
    )
    for note in _notes(plan):
        console.print(note, highlight=False, markup=False)


def _search_price(plan: Plan) -> str:
    """What the study's own search will cost as a whole, of which its cells show nothing yet; empty without one."""
    from ablative.study.costs.estimate import estimate

    search = plan.study.search
    if search is None or not search.budget.trials:
        return ""
    repeats = (search.confirm.top + 1) * len(search.confirm.seeds)
    runs = search.budget.trials * len(search.seeds) + repeats
    # Values that are tried change no price: a trial is priced as its arm is without them.
    trials = tuple(task for arm in plan.arms for task in arm.tasks({}, search.seeds[0]))
    price = estimate(dataclasses.replace(plan, tasks=trials, whole=None)).summary(trials * runs)
    again = f", the best repeated with {counted(len(search.confirm.seeds), 'seed')}" if repeats else ""
    arms = f"{counted(len(plan.arms), 'arm')} of {counted(search.budget.trials, 'trial')}"
    return f"The search, {arms}{again}: {price}"


def _notes(plan: Plan) -> Iterator[str]:
    """Lines on cells that wait, claims that one seed cannot decide, and data that are not on this machine."""
    from ablative.study.plan.former_runs import describe, former_runs
    from ablative.study.plan.outputs.claim_cells import undecidable
    from ablative.study.plan.outputs.layout import without_cells

    for reason in dict.fromkeys(plan.waiting.values()):
        yield f"{len(plan.waiting)} cells wait: {reason}"
    if plan.waiting and (price := _search_price(plan)):
        yield price
    if claims := undecidable(plan.study):
        rest = f" and {len(claims) - FEW} more" if len(claims) > FEW else ""
        yield (
            f"With one seed, {len(claims)} of {len(plan.study.claims)} claims will stay undecided: "
            f"{', '.join(claims[:FEW])}{rest}. A second one (seeds=[0,1]) gives an interval."
        )
    if empty := without_cells(plan.study, plan.cells):
        yield f"No cell has the levels that 'where' asks for, so that they stay empty: {', '.join(empty)}."
    yield from plan.existing.notes if plan.existing is not None else ()
    if former := former_runs(plan):
        yield describe(former)
    if plan.code is not None:
        yield from registry.job_code(plan).notes
    if plan.absent:
        yield (
            f"Not on this machine, so that ids are provisional and nothing can be submitted: {', '.join(plan.absent)}. "
            f"{next(iter(plan.absent.values()))}"
        )


@click.command("diff", epilog=example("ablate diff demo scale=large,method=clip,pooling=map method=random_init,seed=1"))
@click.argument("study_name", metavar="STUDY")
@click.argument("left", metavar="A")
@click.argument("right", metavar="B")
@config_dir_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def diff(study_name: str, left: str, right: str, config_dir: str | None, as_json: bool) -> None:
    """Show the keys in which A and B differ; each is a task id, or a cell such as method=clip,pooling=map."""
    from ablative.study.core.identity import differences
    from ablative.study.plan.named_task import named_task

    plan = load_plan(study_name, (), config_dir)
    a, b = named_task(plan, left), named_task(plan, right)
    found = differences(a.config, b.config)
    versions = _changed_versions(plan, a, b)
    if as_json:
        rows, others = ({key: {"a": x, "b": y} for key, (x, y) in each.items()} for each in (found, versions))
        click.echo(json.dumps({"a": a.task_id, "b": b.task_id, "differences": rows, "versions": others}))
        return
    click.echo(f"A {a.task_id}  {a.name}\nB {b.task_id}  {b.name}")
    for key, (x, y) in found.items():
        click.echo(f"{key}: {x} → {y}")
    if not found:
        click.echo("the same configuration")
    for name, (x, y) in versions.items():
        click.echo(f"ran with {name} {x or 'absent'} → {y or 'absent'}")


def _changed_versions(plan: Plan, a: Task, b: Task) -> Mapping[str, tuple[str | None, str | None]]:
    """Versions in which two finished tasks' environments differ."""
    from ablative.study.home.records import changed_versions, environment_of, read_record

    records = [read_record(task.paths(plan.home)) for task in (a, b)]
    one, other = (environment_of(record, plan.home) if record else {} for record in records)
    return changed_versions(one, other) if one and other else {}
