"""`ablate init`: writes a study file for a script, a function or a Hydra app."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ablative.study.cli import example
from ablative.study.core.errors import AblateError, ConfigError
from ablative.study.core.plurals import counted

if TYPE_CHECKING:
    from ablative.trainer.program.proposal.found_program import Found
    from ablative.trainer.program.proposal.short_run import Ran


@click.command("init", epilog=example("ablate init train.py", "ablate init train.py -- --data-dir=/data/cc3m"))
@click.argument("target", metavar="SCRIPT|MODULE:FUNCTION|-m MODULE")
@click.argument("words", metavar="[-- WORDS]...", nargs=-1)
@click.option("-m", "module", is_flag=True, help="The program is a module, as of python -m.")
@click.option(
    "--output", type=click.Path(), help="The study file [default: study.yaml here, or next to a script elsewhere]."
)
@click.option("--name", help="Name of the study [default: that of the script, or of its folder].")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), default=20.0, show_default=True)
@click.option("--no-run", is_flag=True, help="Do not run the program to see which metrics it has.")
@click.option("--python", default="", help="Interpreter of the program [default: the active environment's].")
def init(
    target: str,
    words: tuple[str, ...],
    module: bool,
    output: str | None,
    name: str | None,
    seconds: float,
    no_run: bool,
    python: str,
) -> int:
    """Write a commented study file for a program as it is: a script with argparse or settings, a function, a Hydra app.

    The program is asked for its keys, and run for some seconds in a folder that is removed, with its defaults and seed
    0, to see which metrics it prints and writes. WORDS are arguments that every run needs.
    """
    from ablative.trainer.program.interpreter import interpreter
    from ablative.trainer.program.proposal.found_metrics import found_metrics
    from ablative.trainer.program.proposal.found_program import find_program, started_in
    from ablative.trainer.program.proposal.roles import roles
    from ablative.trainer.program.proposal.study_text import study_text

    folder = started_in(target, module)
    file = _file(folder, output)
    with tempfile.TemporaryDirectory(prefix="ablate-init-", ignore_cleanup_errors=True) as scratch:
        used = interpreter(python, folder, "init: --python")
        found = find_program(target, module, words, used, Path(scratch, "probes"))
        lines = [f"{found.target}: {_KINDS[found.kind]}, {counted(len(found.values), 'key')}"]
        written = ran = None
        if found.unknown:
            click.echo(f"not run, as no default was found for {', '.join(found.unknown)}", err=True)
        elif not no_run:
            click.echo(f"running it for {seconds:g} s at most, in a folder that is removed (--no-run leaves that out)")
            ran = _run(found, used, seconds, Path(scratch, "task"))
            lines += _ended(ran)
            found, written = _completed(found, ran)
        own = roles(found)
        metrics = found_metrics(ran, found.reports, written)
        names = ", ".join(one.name for one in metrics) or "none; write where they are"
        lines.append(f"metrics: {names}")
        text = study_text(name or _name(target), found, own, metrics, ran)
    if python:
        text = text.replace("\ncode: .", f"\npython: {python}\ncode: .", 1)
    _write(file, text)
    for line in lines:
        click.echo(line)
    click.echo(f"wrote {file}")
    return _planned(file)


def _write(file: Path, text: str) -> None:
    """Write the study file; its first line names the schema, which is written, too."""
    from ablative.study.discovery.schema_file import first_line, write_schema
    from ablative.study.home.paths import home

    schema = first_line(write_schema(home()), file.absolute().parent)
    with file.open("x", encoding="utf-8") as opened:
        opened.write(f"{schema}\n{text}")


def _run(found: Found, python: str, seconds: float, folder: Path) -> Ran:
    """A short run, of the command that is proposed."""
    from ablative.trainer.program.proposal.found_program import WORDS
    from ablative.trainer.program.proposal.roles import roles
    from ablative.trainer.program.proposal.short_run import short_run
    from ablative.trainer.program.proposal.study_text import command, given

    if found.kind == WORDS and not found.values:
        click.echo(
            f"{found.target} reads its command line itself; settings after --, in its way, become keys: "
            f"ablate init {found.target} -- --KEY=VALUE …",
            err=True,
        )
    own = roles(found)
    return short_run(found, command(found, own), given(found, own), python, seconds, folder)


def _ended(ran: Ran) -> Iterator[str]:
    yield f"run: {'stopped' if ran.cut else f'ended with exit status {ran.status}'} after {ran.seconds:.1f} s"
    if ran.status and not ran.cut:
        yield f"its last line: {(ran.lines or ('it printed nothing',))[-1].strip()[:300]}"


def _completed(found: Found, ran: Ran) -> tuple[Found, Path | None]:
    """The program with the keys that it has written itself, and the file that they are in."""
    from ablative.trainer.program.proposal.found_program import WORDS
    from ablative.trainer.program.proposal.own_words import written_configuration

    if found.kind != WORDS:
        return found, None
    written, values = written_configuration(ran.out, found.values)
    return replace(found, values=values), written


def _file(folder: Path, output: str | None) -> Path:
    """The study file to write; raises ConfigError where there is one, or where the program would not be found."""
    file = Path(output) if output else folder / "study.yaml"
    if file.exists():
        raise ConfigError(f"init: {file} is there, and is not written over; give another one: --output NAME.yaml")
    if file.resolve().parent != folder.resolve():
        raise ConfigError(
            f"init: --output {file}: the study file lies where the program is started, in {folder.resolve()}"
        )
    return file


def _planned(file: Path) -> int:
    """Plan what was written; the exit code."""
    from ablative.study.plan.plan import make_plan

    try:
        plan = make_plan(str(file))
    except AblateError as error:
        click.echo(f"it has to be completed, `ablate plan` says: {error}", err=True)
        return 1
    click.echo(f"{counted(len(plan.cells), 'cell')}, {counted(len(plan.tasks), 'task')}; next: ablate try {file}")
    return 0


_KINDS = {
    "argparse": "a script with argparse",
    "hydra": "a Hydra app",
    "globals": "a script with settings, --name=value",
    "words": "a script that reads its command line itself",
    "function": "a function",
}


def _name(target: str) -> str:
    """A study's name: the script's, unless that says nothing; then its folder's."""
    stem = target.partition(":")[0].rpartition(".")[2] if ":" in target else Path(target).stem
    if stem in ("train", "main", "run", "__main__") and ":" not in target:
        above = (folder.name for folder in Path(target).resolve().parents)
        stem = next(name for name in above if name not in ("scripts", "tools", "src", "bin"))
    return re.sub(r"\W+", "_", stem).strip("_") or "study"
