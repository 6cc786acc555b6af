"""`ablate run | submit | status | logs | cancel | retry | doctor`."""

from __future__ import annotations

import json
import shlex
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ablative.study.cli import call, completes, example, levels_of, selecting, study_command
from ablative.study.core.errors import ConfigError, unknown
from ablative.study.core.plurals import counted
from ablative.sweeps.queue.failures import CAUSES

if TYPE_CHECKING:
    from ablative.study.costs.budget import Selection
    from ablative.study.home.paths import Home
    from ablative.study.plan.plan import Plan
    from ablative.study.plan.task import Task
    from ablative.sweeps.submission.submit import Submission

_JOBS = click.option(
    "--jobs", type=click.IntRange(min=1), help="Number of worker jobs [default: as many as cores or GPUs allow]."
)
_FORMER = click.option(
    "--take-over/--train-again",
    default=None,
    help="What to do with finished runs that differ from planned ones in keys alone that they do not read.",
)
_WHERE = click.option(
    "--where",
    multiple=True,
    metavar="FACTOR=LEVEL",
    help="Only tasks of cells with this level; repeatable.",
    shell_complete=completes("conditions"),
)


@click.command(epilog=example("ablate run demo", "ablate run demo --for table4 --jobs 2"))
@study_command
@selecting
@_JOBS
@_FORMER
def run(selection: Selection, jobs: int | None, take_over: bool | None) -> int:
    """Run the tasks that STUDY lacks, wait for them, and write the report.

    Ctrl-C stops the workers at a checkpoint, from which the same command continues; a second Ctrl-C kills them. Where
    this command is killed otherwise, they go on: `ablate cancel` stops them. With `nice` they give way to other work.
    """
    from ablative.sweeps.run import Watcher
    from ablative.sweeps.status.live_display import Display

    plan, began = selection.plan, time.time()
    if not plan.trainer.executes:
        click.echo(_nothing(plan), err=True)
        return call("report", _arguments())
    _settle_former(plan, take_over)
    with Display(plan) as display:
        watcher = Watcher(plan, jobs or 0, display.show, display.say)
        for line in selection.describe():
            display.say(line)
        try:
            states = watcher.run()
        except KeyboardInterrupt:
            if watcher.own:
                display.say("stopping the workers at a checkpoint; Ctrl-C again kills them")
            watcher.stop()
            states = None
    if states is None:
        done = "stopped, and everything is kept" if watcher.own else "the workers of an earlier submission go on"
        click.echo(f"{done}; to go on: ablate run {shlex.join(_arguments())}", err=True)
        return 130
    reported = call("report", _arguments())
    if (file := Path(plan.study.where)).is_file() and file.stat().st_mtime > began:
        again = f"ablate run {shlex.join(_arguments())}"
        click.echo(
            f"note: {file} was changed meanwhile; the report is of what it says now, its runs: {again}", err=True
        )
    if not states.finished:
        display.summary(states)
    for cell, reason in plan.waiting.items():
        click.echo(f"{cell} is not run: {reason}", err=True)
    return int(not states.finished or bool(plan.waiting)) or reported


@click.command(epilog=example("ablate submit demo cluster=slurm cluster.hours=2"))
@study_command
@selecting
@_JOBS
@_FORMER
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def submit(selection: Selection, jobs: int | None, take_over: bool | None, as_json: bool) -> None:
    """Submit what STUDY lacks and return at once; the jobs continue when the terminal is closed."""
    from ablative.sweeps.submission.submit import submit as hand_over

    if not selection.plan.trainer.executes:
        click.echo(_nothing(selection.plan), err=True)
    _settle_former(selection.plan, take_over)
    _print_submission(hand_over(selection.plan, jobs or 0), as_json, selection)


def _nothing(plan: Plan) -> str:
    return f"nothing to run: study '{plan.study.name}' is over results that exist already"


def _settle_former(plan: Plan, take: bool | None) -> None:
    """Take finished runs over that are known by former ids, or train them again; raises ConfigError without a word."""
    from ablative.study.plan.former_runs import describe, former_runs

    if take is False or not (found := former_runs(plan)):
        return
    if take is None:
        raise ConfigError(describe(found))
    from ablative.sweeps.submission.take_over import take_over

    count = take_over(plan, found)
    click.echo(f"{counted(len(found), 'run')} taken over ({counted(count, 'task')})", err=True)


@click.command(epilog=example("ablate status demo --cells --where scale=small"))
@study_command
@click.option("--watch", is_flag=True, help="Refresh until everything is done, or Ctrl-C.")
@click.option("--cells", is_flag=True, help="A row for each cell: how many of its tasks are in which state.")
@_WHERE
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(plan: Plan, watch: bool, cells: bool, where: tuple[str, ...], as_json: bool) -> None:
    """Show the states of STUDY's tasks, the progress of running ones, and failures grouped by their place."""
    from ablative.sweeps.queue.executors import queue_summary
    from ablative.sweeps.status.by_cell import by_cell, cell_lines
    from ablative.sweeps.status.task_states import Survey, survey, task_usage

    if where and watch:
        raise click.UsageError("--watch shows all of the study; leave --where out")
    states, wanted = survey(plan), levels_of(plan, where)
    if where:
        states = Survey(tuple(state for state in states.states if _matches(state.task, wanted)))
    if as_json:
        from ablative.study.costs.usage_totals import usage_totals

        tasks = [state.to_json() for state in states.states]
        words = queue_summary(plan.home, plan.study.name)
        found = {"study": plan.study.name, "counts": states.counts, "tasks": tasks, "scheduler": words or None}
        if cells:
            found["cells"] = by_cell(plan, states, wanted)
        click.echo(json.dumps({**found, "cost": asdict(usage_totals(plan, task_usage(states, plan.home)))}))
        return
    from ablative.sweeps.status.live_display import Display

    _note_other_words(plan, "status")
    if cells:
        click.echo("\n".join(cell_lines(plan, by_cell(plan, states, wanted))))
        return
    if not watch:
        Display(plan).summary(states)
        return
    try:
        with Display(plan) as display:
            while not states.finished:
                display.show(states)
                time.sleep(1)
                states = survey(plan)
    except KeyboardInterrupt:
        return
    display.summary(states)


@click.command(epilog=example("ablate logs 963344237cb0 -f"))
@click.argument("task", shell_complete=completes("tasks"))
@click.option("-f", "--follow", is_flag=True, help="Continue to print until the task ends.")
@click.option("--job", is_flag=True, help="Print the output of its SLURM job: how it started, and what ended it.")
def logs(task: str, follow: bool, job: bool) -> None:
    """Print the log of TASK: its id, or the beginning of it."""
    from ablative.sweeps.status.logs import find_task, follow_log, job_log

    if job:
        click.echo(job_log(find_task(task)), nl=False)
        return
    paths, printed = find_task(task), False
    for text in follow_log(paths, follow):
        printed = printed or bool(text)
        click.echo(text, nl=False)
    if not printed:
        click.echo(f"task {paths.root.name} has printed nothing; what it reported is in {paths.journal}", err=True)


@click.command(epilog=example("ablate cancel demo --where scale=small"))
@study_command
@_WHERE
@click.option("--all", "everything", is_flag=True, help="Every task of the study.")
def cancel(plan: Plan, where: tuple[str, ...], everything: bool) -> None:
    """Stop tasks of STUDY that are not done, also running ones; `ablate retry --cause cancelled` takes it back."""
    from ablative.sweeps.queue.executors import withdraw
    from ablative.sweeps.status.task_states import survey

    if bool(where) == everything:
        raise click.UsageError("say which tasks: --where factor=level (repeatable), or --all")
    _note_other_words(plan, shlex.join(["cancel", *(["--all"] if everything else []), *_options("--where", where)]))
    wanted = levels_of(plan, where)
    chosen = [state for state in survey(plan).states if _matches(state.task, wanted) and not state.finished]
    for state in chosen:
        paths = state.task.paths(plan.home)
        paths.root.mkdir(parents=True, exist_ok=True)
        paths.cancelled.touch()
    withdraw(plan.home)
    running = sum(state.state == "running" for state in chosen)
    click.echo(f"{plan.study.name}: {len(chosen)} tasks cancelled, {running} of them while running")


@click.command(epilog=example('ablate retry demo --cause "out of memory"'))
@study_command
@_JOBS
@click.option(
    "--cause",
    "causes",
    multiple=True,
    type=click.Choice(CAUSES),
    help="Only failures by this cause; repeatable [default: all but cancelled].",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def retry(plan: Plan, jobs: int | None, causes: tuple[str, ...], as_json: bool) -> None:
    """Submit failed tasks of STUDY again, for any cause, and whatever else STUDY lacks."""
    from ablative.sweeps.submission.submit import submit as hand_over

    _note_other_words(plan, shlex.join(["retry", *_options("--cause", causes)]))
    chosen = causes or tuple(cause for cause in CAUSES if cause != "cancelled")
    _print_submission(hand_over(plan, jobs or 0, retry=frozenset(chosen)), as_json)


@click.command(epilog=example("ablate doctor --free features --yes"))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--free", "kind", metavar="KIND", help="Remove what the home could lose of one kind, and nothing else.")
@click.option("--yes", is_flag=True, help="With --free: do not ask.")
def doctor(as_json: bool, kind: str | None, yes: bool) -> int:
    """Check packages, device, home, leases, store, disk, memory and data; exit code 1 when something is broken."""
    from ablative.study.home.paths import home
    from ablative.sweeps.doctor import examine

    if kind is not None:
        _free(home(), kind, yes)
        return 0
    found = []
    for check in examine(home()):
        found.append({"check": check.name, "broken": check.broken, "text": check.text})
        if not as_json:
            mark = click.style("BROKEN", fg="red") if check.broken else click.style("ok    ", fg="green")
            click.echo(f"{mark}  {check.name:9} {check.text}")
    if as_json:
        click.echo(json.dumps(found))
    return int(any(check["broken"] for check in found))


def _free(home: Home, kind: str, yes: bool) -> None:
    """Remove what a home could lose of a kind, after a look at it; raises ConfigError and StoreError."""
    from ablative.sweeps.upkeep.checks import shown
    from ablative.sweeps.upkeep.disposable import KINDS, disposable, free

    if kind not in KINDS:
        raise ConfigError(unknown("kind", kind, KINDS, "--free"))
    found = disposable(home, kind)
    for path in found.paths:
        click.echo(path)
    if not found.paths:
        click.echo(f"{kind}: nothing to remove in {home.root}")
        return
    click.echo(f"{counted(len(found.paths), 'path')}, {shown(found.bytes)}: {found.consequence}")
    if yes or click.confirm("remove them?", abort=True):
        free(found)


def _print_submission(made: Submission, as_json: bool, selection: Selection | None = None) -> None:
    """Print what was submitted to standard output and what was not to standard error.

    Raises:
        SystemExit: tasks are left and none could be submitted.
    """
    from ablative.sweeps.run import describe, describe_left

    left = {state.task.task_id: state.cause for state in made.choice.left}
    if as_json:
        tasks = [state.task.task_id for state in made.choice.new]
        where = str(made.paths.root) if made.paths else None
        shown = {"submitted": tasks, "left": left, "workers": made.workers, "submission": where}
        budget = {"budget": selection.to_json()} if selection is not None and selection.budget else {}
        click.echo(json.dumps({**shown, **budget}))
    else:
        click.echo(describe(made) if made.paths is not None else "nothing to submit")
    chosen = selection.describe() if selection is not None else []
    for text in filter(None, [made.warning, *made.notes, *chosen, *describe_left(made.choice)]):
        click.echo(text, err=True)
    if made.choice.left and made.paths is None:
        raise SystemExit(1)


def _arguments() -> list[str]:
    """STUDY, OVERRIDES and --config-dir of this call, as words for another command."""
    given: dict[str, Any] = click.get_current_context().params
    folder = ["--config-dir", given["config_dir"]] if given["config_dir"] else []
    return [given["study_name"], *given["overrides"], *folder]


def _options(name: str, values: tuple[str, ...]) -> list[str]:
    return [word for value in values for word in (name, value)]


def _note_other_words(plan: Plan, command: str) -> None:
    """Tasks follow from the words of a call: others than those of the last run mean other tasks."""
    from ablative.study.plan.last_words import other_words

    if other := other_words(plan, command, "its tasks"):
        click.echo(f"note: {other}", err=True)


def _matches(task: Task, wanted: dict[str, str]) -> bool:
    """Whether one of the task's cells has all of these levels."""
    # A task that all seeds and many cells share is stopped with the last of these cells only.
    found = (wanted.items() <= cell.items() for cell in task.cells)
    return any(found) if task.seeded else all(found)
