"""`ablate list`: studies, config groups and their options, kinds, executors, trainers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from ablative.study.cli import completes, config_dir_option, example
from ablative.study.core.errors import ConfigError, unknown

if TYPE_CHECKING:
    from ablative.study.spec.compose import Composer


@click.command("list", epilog=example("ablate list objective", "ablate list model.tiny", "ablate list kinds"))
@click.argument("what", metavar="[WHAT]", default="", shell_complete=completes("lists"))
@config_dir_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_command(what: str, config_dir: str | None, as_json: bool) -> None:
    """List the studies, or WHAT: a config group, GROUP.OPTION, kinds, executors or trainers.

    A config group (model, objective, schedule, data, suite, protocol, cluster, …) has options; GROUP.OPTION prints the
    file of one. `kinds` are the values of every key that takes one of several.
    """
    from ablative.study.installed_trainers import conf_folders
    from ablative.study.spec.compose import Composer

    composer = Composer(config_dir, conf_folders())
    groups = ("study", *(name for name in composer.groups() if name != "study"))
    group, dot, option = what.partition(".")
    if what not in (*LISTS, "") and group not in groups:
        raise ConfigError(unknown("list", what, [*LISTS, *groups]))
    if dot:
        _show_option(composer, group, option, as_json)
        return
    if what in LISTS:
        rows = dict(LISTS[what]())
    else:
        rows = {name: _of_file(composer, group or "study", name) for name in composer.options(group or "study")}
    if as_json:
        click.echo(json.dumps(rows if what in LISTS else {group or "study": list(rows)}))
        return
    for name, text in rows.items():
        click.echo(f"{name:20} {text}".rstrip())
    if not what:
        click.echo(f"\nConfig groups (ablate list GROUP): {', '.join(groups[1:])}")
        click.echo(f"Others: ablate list {' | '.join(LISTS)} | GROUP.OPTION")


def _show_option(composer: Composer, group: str, option: str, as_json: bool) -> None:
    """The file of a config group's option."""
    from ablative.study.syntax.yaml_text import content, read_text

    composer.check_choice(group, option, f"ablate list {group}.{option}")
    path = composer.source(group, option)
    if as_json:
        click.echo(json.dumps({"path": str(path), "content": content(path)}))
        return
    click.echo(f"# {path}")
    click.echo(read_text(path), nl=False)


def _of_file(composer: Composer, group: str, option: str) -> str:
    """First comment line of a config file that is no directive; a file that cannot be read does not end the list."""
    from ablative.study.syntax.yaml_text import read_text

    try:
        text = read_text(composer.source(group, option))
    except (ConfigError, OSError) as error:
        return f"(cannot be read: {error})"
    lines = (line[1:].strip() for line in text.splitlines() if line.startswith("#"))
    return next((line for line in lines if not line.startswith(DIRECTIVES)), "")


DIRECTIVES = ("@", "yaml-language-server:")
"""Beginnings of comments that are for Hydra or an editor."""


def _kinds() -> Iterator[tuple[str, str]]:
    from ablative.study.discovery.catalogue import catalogue

    for key in catalogue():
        if key.choices:
            yield key.name, " | ".join(choice for choice in key.choices if choice)


def _executors() -> Iterator[tuple[str, str]]:
    from ablative.study.spec.cluster import EXECUTORS

    yield from ((name, "shipped" if name in EXECUTORS.shipped else "installed") for name in EXECUTORS)


def _trainers() -> Iterator[tuple[str, str]]:
    from ablative.study.installed_trainers import TRAINERS, trainer

    for name in TRAINERS:
        try:
            yield name, f"study keys: {', '.join(trainer(name).study_keys) or 'none'}"
        except ConfigError as error:
            yield name, f"(cannot be used: {error})"


LISTS = {"kinds": _kinds, "executors": _executors, "trainers": _trainers}
"""What is listed besides config groups → names with a text."""
