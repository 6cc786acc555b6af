"""`ablate sync`: upload the entries of journals that MLflow does not have yet."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from ablative.study.cli import example, study_command
from ablative.study.plan.plan import Plan


@click.command(epilog=example("ablate sync demo"))
@study_command
@click.option("--again", is_flag=True, help="Send everything once more (adds no rows; fills a store that lost some).")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
def sync(plan: Plan, again: bool, as_json: bool) -> None:
    """Upload the entries of journals that MLflow does not have yet.

    The store mirrors the journals: a run that was deleted there is uploaded again, and so is what a store lacks that
    was replaced or put back from a backup. Uploading twice adds nothing. The exit code is 0 only when everything is in
    MLflow.
    """
    from rich.console import Console
    from rich.progress import Progress

    from ablative.study.plan.task import with_trials
    from ablative.sweeps.tracking.sync import ship
    from ablative.sweeps.tracking.uri import redact_store

    with Progress(console=Console(stderr=True), transient=True, disable=as_json) as bar:
        task = bar.add_task("shipping", total=None)
        shipped = ship(
            with_trials(plan.tasks, plan.home.study(plan.study.name).search),
            plan.study.name,
            plan.home,
            again=again,
            verify=True,
            title=plan.study.title,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    uri = redact_store(plan.home.tracking_uri)
    if as_json:
        click.echo(json.dumps({"study": plan.study.name, "store": uri, **asdict(shipped)}))
    else:
        click.echo(f"{plan.study.name}: {shipped.tasks} tasks, {shipped.metrics} metric values shipped to {uri}")
        if shipped.restored == 1:
            click.echo("1 run had gone from the store, and is there again")
        elif shipped.restored:
            click.echo(f"{shipped.restored} runs had gone from the store, and are there again")
        if shipped.files_error:
            click.echo(f"not sent: config.yaml of some tasks, for people to read: {shipped.files_error}", err=True)
        for error in shipped.errors:
            click.echo(f"error: {error}", err=True)
        if shipped.pending:
            click.echo(f"{shipped.pending} tasks wait in their journals; run 'ablate sync' again", err=True)
    if shipped.pending or shipped.errors:
        raise SystemExit(1)
