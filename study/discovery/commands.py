"""`ablate keys | metrics | schema | help`: what can be typed."""

from __future__ import annotations

import dataclasses
import json
import shutil
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from ablative.study.cli import COMMANDS, completes, example, study_command_without_data
from ablative.study.core import registry
from ablative.study.core.errors import ConfigError, unknown

if TYPE_CHECKING:
    from ablative.study.discovery.keys import Key
    from ablative.study.plan.plan import Plan
    from ablative.study.trainers import Metric

WIDEST = 120
"""Columns that text is wrapped to at most."""


@click.command("keys", epilog=example("ablate keys tables", "ablate keys model.pooling"))
@click.argument("prefix", default="", shell_complete=completes("keys"))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def keys_command(prefix: str, as_json: bool) -> None:
    """List the keys of study files and config groups: type, default, range, meaning.

    PREFIX is a key, a section (model) or the beginning of one. NAME is what you choose; [] is an item of a list.
    """
    from ablative.study.discovery.catalogue import keys_below

    found = keys_below(prefix)
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(key) for key in found]))
        return
    for key in found:
        click.echo("\n".join(_described(key)))


def _described(key: Key) -> Iterator[str]:
    needed = "required" if not key.default else f"default {key.default}"
    owner = "" if key.owner in ("study", "cluster") else f"; trainer {key.owner}"
    limits = f", {key.limits}" if key.limits else ""
    yield f"{click.style(key.name, bold=True)}: {key.kind}{limits}; {needed}{owner}"
    width = min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns)
    yield textwrap.fill(key.meaning, width, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False)


@click.command("metrics", epilog=example("ablate metrics demo"))
@study_command_without_data
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def metrics_command(plan: Plan, as_json: bool) -> None:
    """List the metrics of STUDY that tables, figures, claims and searches may name."""
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(metric) for metric in plan.declared.values()]))
        return
    rows = [("metric", "stage", "unit", "better", "range", "is"), *map(_row, plan.declared.values())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _row(metric: Metric) -> tuple[str, ...]:
    ends = ["" if end is None else f"{end:g}" for end in (metric.low, metric.high)]
    label = " ".join(filter(None, (metric.label, metric.data_set)))
    return metric.name, metric.stage, metric.unit, metric.better, " … ".join(ends) if any(ends) else "", label


@click.command("schema", epilog=example("ablate schema > study-schema.json", "ablate schema --write"))
@click.option("--write", is_flag=True, help="Write it into the home, and print the line that a study file begins with.")
def schema_command(write: bool) -> None:
    """Print the JSON schema of study files, by which editors complete and check them."""
    from ablative.study.discovery.schema import schema_text
    from ablative.study.discovery.schema_file import first_line, write_schema
    from ablative.study.home.paths import home

    if not write:
        click.echo(schema_text(), nl=False)
        return
    from pathlib import Path

    file = write_schema(home())
    click.echo(f"wrote {file}; a study file in this folder begins with\n{first_line(file, Path.cwd())}")


@click.command("help", epilog=example("ablate help claims", "ablate help run"))
@click.argument("topic", default="", shell_complete=completes("topics"))
@click.pass_context
def help_command(context: click.Context, topic: str) -> None:
    """Explain a TOPIC, a command or a key; without one, list the topics."""
    from ablative.study.discovery.topics import text_of, topics

    known = topics()
    if not topic:
        click.echo("Topics (ablate help TOPIC; a command's name or a key does as well):\n")
        for name in known:
            click.echo(f"  {name:13} {text_of(name).partition(chr(10))[0]}")
    elif topic in known:
        click.echo(text_of(topic))
    elif topic in COMMANDS:
        command = registry.load(COMMANDS[topic])
        click.echo(command.get_help(click.Context(command, info_name=topic, parent=context.parent)))
    else:
        _explain_key(topic, known)


def _explain_key(topic: str, known: tuple[str, ...]) -> None:
    from ablative.study.discovery.catalogue import catalogue, keys_below

    if "." not in topic and not any(key.matches(topic) for key in catalogue()):
        heads = {key.name.partition(".")[0] for key in catalogue()}
        raise ConfigError(unknown("topic", topic, [*known, *COMMANDS, *heads]))
    for key in keys_below(topic):
        click.echo("\n".join(_described(key)))
