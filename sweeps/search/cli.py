"""`ablate search`."""

from __future__ import annotations

import dataclasses
import json
import shlex
from typing import TYPE_CHECKING, Any

import click

from ablative.study.cli import completes, console_for, example, levels_of, study_command
from ablative.study.core.errors import ConfigError

if TYPE_CHECKING:
    from ablative.study.plan.plan import Plan


@click.command(epilog=example("ablate search weights search.budget.trials=3 --jobs 2"))
@study_command
@click.option("--jobs", type=click.IntRange(min=1), help="Worker jobs [default: the study's `parallel`, or what fits].")
@click.option(
    "--where",
    multiple=True,
    metavar="FACTOR=LEVEL",
    help="Only arms with this level; repeatable.",
    shell_complete=completes("conditions"),
)
@click.option("--detach", is_flag=True, help="Return at once; the workers go on.")
@click.option("--status", is_flag=True, help="Only show the state of the search.")
@click.option("--stop", is_flag=True, help="Stop all workers of the search at a checkpoint.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def search(
    plan: Plan, jobs: int | None, where: tuple[str, ...], detach: bool, status: bool, stop: bool, as_json: bool
) -> int:
    """Search for the best values of the parameters in STUDY's `search` section, for each arm, with Optuna.

    Anything may be killed at any moment: the same command continues trials from their checkpoints.
    """
    from ablative.sweeps.search.storage import faults

    if detach + status + stop > 1:
        raise click.UsageError("give one of --detach, --status and --stop")
    with faults(plan.home.study(plan.study.name).search):
        return _search(with_levels(plan, where), jobs or 0, (detach, status, stop), as_json)


def with_levels(plan: Plan, where: tuple[str, ...]) -> Plan:
    """The plan with the arms that have these levels; the others' searches stay as they are."""
    wanted = levels_of(plan, where)
    arms = tuple(arm for arm in plan.arms if wanted.items() <= arm.cell.items())
    if plan.arms and not arms:
        names = "; ".join(arm.name for arm in plan.arms)
        raise ConfigError(f"--where: no arm of the search has {', '.join(where)} (arms: {names})")
    return dataclasses.replace(plan, arms=arms)


def _search(plan: Plan, jobs: int, what: tuple[bool, bool, bool], as_json: bool) -> int:
    from ablative.sweeps.search.driver import Searcher
    from ablative.sweeps.search.storage import describe

    searcher = Searcher(plan, jobs, lambda text: click.echo(text, err=as_json))
    detach, status, stop = what
    code = 0
    if stop:
        click.echo(f"{searcher.stop(everybody=True)} workers stopped", err=as_json)
    elif detach:
        searcher.start()
    elif not status:
        try:
            code = int(not searcher.watch())
        except KeyboardInterrupt:
            click.echo("stopping the workers at a checkpoint", err=True)
            searcher.stop()
            click.echo(f"stopped, and everything is kept; to go on: ablate search {_words()}", err=True)
            return 130
    found = searcher.to_json()
    if as_json:
        click.echo(json.dumps({"study": plan.study.name, "storage": describe(searcher.trials.paths), "arms": found}))
    else:
        _show(found)
        click.echo(f"Optuna's storage: {describe(searcher.trials.paths)}")
    return code


def _show(arms: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("arm", "trials", "best", "goal", "at", "hours"):
        table.add_column(heading, overflow="fold")
    for arm in arms:
        states = ", ".join(f"{count} {state}" for state, count in arm["states"].items())
        best = arm["best"] or {"number": "–", "objectives": [], "values": {}}
        values = ", ".join(
            f"{key.rpartition('.')[2]}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
            for key, value in best["values"].items()
        )
        number = f"trial {best['number']}" if arm["best"] else f"front {arm['front']}" if arm["front"] else "–"
        reached = ", ".join(f"{value:.4g}" for value in best["objectives"])
        count = f"{arm['counted']}/{arm['budget']}" if arm["budget"] else str(arm["counted"])
        counts = f"{count} ({states})" if states else count
        table.add_row(arm["arm"], counts, number, reached, values, f"{arm['hours']:.2f}")
    console_for(table, highlight=False).print(table)


def _words() -> str:
    given = click.get_current_context().params
    folder = ["--config-dir", given["config_dir"]] if given["config_dir"] else []
    where = [word for condition in given["where"] for word in ("--where", condition)]
    return shlex.join([given["study_name"], *given["overrides"], *folder, *where])
