"""The `ablate` command: finds a subcommand in the package that owns it, and turns errors into one line.

Nothing heavy is imported here: `ablate --help` costs about a tenth of a second.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import io
import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.shell_completion import CompletionItem

from ablative.study import trainer_names
from ablative.study.core import damage, registry
from ablative.study.core.errors import AblateError, ConfigError, unknown
from ablative.study.core.extras import missing_extra
from ablative.study.core.files import NO_ROOM
from ablative.study.core.registry import load
from ablative.study.core.secrets import guard, redact
from ablative.study.home.paths import home as found_home
from ablative.study.home.sharing import follow_group

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from ablative.study.plan.plan import Plan

COMMANDS = {**registry.COMMANDS, **trainer_names.COMMANDS}
"""Subcommand → where the package that owns it defines it."""
SUMMARIES = {
    "list": "Studies, config groups and their options.",
    "init": "Write a study file for a script, a function or a Hydra app.",
    "try": "Run one cell here for minutes: metrics, stop and resume, price.",
    "plan": "Cells, runs and tasks of a study, their states and estimated cost.",
    "run": "Submit what is missing, wait for it, and write the report.",
    "submit": "Submit what is missing and return at once.",
    "status": "States of a study's tasks.",
    "logs": "What a task printed.",
    "cancel": "Stop tasks of a study.",
    "retry": "Submit failed tasks again.",
    "search": "Find the best values of parameters, with Optuna.",
    "report": "Tables, figures and the page from what is tracked.",
    "why": "The runs behind a number of a table, or behind the verdict on a claim.",
    "sql": "Ask a study's results in SQL; export them as Parquet.",
    "diff": "Configuration keys in which two cells or runs differ.",
    "config": "The whole configuration of a cell, and the command that it runs.",
    "keys": "Every key that can be set: type, default, range, meaning.",
    "metrics": "Metrics that a study's tables, figures and claims may name.",
    "schema": "JSON schema of study files, for editors.",
    "help": "Explain a topic: claims, factors, slurm, environment, …",
    "sync": "Upload the entries of journals that MLflow does not have yet.",
    "data": "Pack, check, index and show image-text data.",
    "doctor": "Check this machine: packages, home, store, disk, data.",
}


def example(*lines: str) -> str:
    """The end of a command's help page; the lines are not wrapped."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)


def completes(what: str) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """What a parameter's `shell_complete` is: words of a kind of `study.discovery.completion`."""

    def complete(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(word) for word in registry.suggestions(what, context, incomplete)]

    return complete


class LazyGroup(click.Group):
    """A group that imports a subcommand only when it is called; the help page comes from `SUMMARIES`."""

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        found = [CompletionItem(name, help=text) for name, text in SUMMARIES.items() if name.startswith(incomplete)]
        return [*found, *(click.Command.shell_complete(self, ctx, incomplete) if incomplete.startswith("-") else [])]

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(SUMMARIES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return load(COMMANDS[cmd_name]) if cmd_name in COMMANDS else None

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(unknown("command", args[0], COMMANDS))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(SUMMARIES.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option(
    "--home",
    type=click.Path(file_okay=False),
    help="Folder for everything that ablate writes [default: $ABLATE_HOME or ./ablate_home].",
)
@click.version_option(package_name="ablative", prog_name="ablate")
@click.pass_context
def ablate(ctx: click.Context, debug: bool, home: str | None) -> None:
    """Ablation studies: one file defines a study; ablate trains, tracks and reports it.

    STUDY is a file of the config group `study` (see `ablate list`), or a file's path; OVERRIDES are Hydra's key=value.
    """
    ctx.obj = {"debug": debug}
    if home is not None:
        os.environ["ABLATE_HOME"] = home
    follow_group(found_home())


config_dir_option = click.option(
    "--config-dir",
    type=click.Path(),
    envvar="ABLATE_CONFIG_DIR",
    help="Your own Hydra config folder, searched together with the shipped one [default: $ABLATE_CONFIG_DIR].",
)


def console_for(shown: RenderableType, highlight: bool = True) -> Console:
    """A console for what is printed once: a file or a pipe has no edge that cuts columns, unless COLUMNS says so."""
    from rich.console import Console

    console = Console(highlight=highlight)
    if console.is_terminal or "COLUMNS" in os.environ:
        return console
    needed = Console(width=1000).measure(shown).maximum
    return Console(width=max(console.width, needed), highlight=highlight)


study_argument = click.argument("study_name", metavar="STUDY", shell_complete=completes("studies"))
overrides_argument = click.argument("overrides", metavar="[OVERRIDES]...", nargs=-1, shell_complete=completes("words"))


def study_command(function: Callable[..., Any], without_data: bool = False) -> Callable[..., Any]:
    """Add STUDY, OVERRIDES and --config-dir to a command, and call it with the `Plan` as first argument."""

    @study_argument
    @overrides_argument
    @config_dir_option
    @functools.wraps(function)
    def wrapper(*args: Any, study_name: str, overrides: tuple[str, ...], config_dir: str | None, **options: Any) -> Any:
        plan = load_plan(study_name, overrides, config_dir, without_data)
        if function.__name__ in SPENDING:
            registry.check_outputs(plan)
        return function(plan, *args, **options)

    return wrapper


study_command_without_data = functools.partial(study_command, without_data=True)
"""`study_command` for commands that start nothing: the data may be absent from this machine (`Plan.absent`)."""


def cell_command(function: Callable[..., object]) -> Callable[..., object]:
    """Add STUDY, CELL, OVERRIDES and --config-dir to a command, and call it with the `Plan` and the cell's text."""

    @study_argument
    @click.argument("words", metavar="[CELL] [OVERRIDES]...", nargs=-1, shell_complete=completes("cell or words"))
    @config_dir_option
    @functools.wraps(function)
    def wrapper(
        *args: object, study_name: str, words: tuple[str, ...], config_dir: str | None, **options: object
    ) -> object:
        cell = words[0] if words else ""
        plan = load_plan(study_name, words[1:], config_dir, without_data=True)
        if "=" in cell and "," not in cell and cell.partition("=")[0] not in (*plan.study.factors, "seed"):
            # No level of a factor: an override, as of any other command.
            cell, plan = "", load_plan(study_name, words, config_dir, without_data=True)
        return function(plan, cell, *args, **options)

    return wrapper


def selecting(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --budget and --for to a command of a study, which is called with a `budget.Selection` for the plan."""

    @click.option(
        "--budget",
        metavar="HOURS",
        help="Only what this pays for, such as 200gpuh or 50cpuh: whole rows of tables first.",
    )
    @click.option(
        "--for",
        "output",
        metavar="TABLE|CLAIM",
        help="Only tasks whose results this table or claim still lacks.",
        shell_complete=completes("outputs"),
    )
    @functools.wraps(function)
    def wrapper(plan: Plan, *args: Any, budget: str | None, output: str | None, **options: Any) -> Any:
        return function(registry.select(plan, budget, output), *args, **options)

    return wrapper


SPENDING = ("plan_command", "run", "submit")
"""Commands before which nothing is spent: they refuse what a report could not print."""


def load_plan(study_name: str, overrides: Sequence[str], config_dir: str | None, without_data: bool = False) -> Plan:
    """The plan of a study, with the fingerprints of its data in files; raises ConfigError as `make_plan` does."""
    from ablative.study.plan.plan import make_plan

    # A plan is millions of objects that live until the end: looking through them for garbage takes a third of the time.
    gc.set_threshold(500_000, 50, 50)
    return make_plan(study_name, overrides, config_dir, read_data=True, without_data=without_data)


def levels_of(plan: Plan, where: tuple[str, ...]) -> dict[str, str]:
    """Factor → level of conditions such as `pooling=map`; raises ConfigError for a name that does not exist."""
    wanted = {}
    for condition in where:
        factor, _, level = condition.partition("=")
        if factor not in plan.study.factors:
            raise ConfigError(unknown("factor", factor, plan.study.factors, "--where"))
        if level not in plan.study.factors[factor]:
            raise ConfigError(unknown("level", level, plan.study.factors[factor], f"--where {factor}"))
        wanted[factor] = level
    return wanted


def call(command: str, arguments: Sequence[str]) -> int:
    """Run another subcommand and return its exit code; errors are printed as usual.

    It runs in a separate process: after hours of waiting, the code on disk may differ from the code loaded here.
    """
    import subprocess

    debug = ["--debug"] if click.get_current_context().find_root().params["debug"] else []
    program = [sys.executable, "-P", "-c", "from ablative.study.cli import main; main()"]
    return subprocess.run([*program, *debug, command, *arguments], check=False).returncode


def main(arguments: Sequence[str] | None = None, standalone: bool = True) -> int:
    """Run the command that `arguments` (default: `sys.argv`) names and return its exit code.

    With `standalone` the process ends with that code (`_end`).
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if standalone and COMPLETION in os.environ:
        _complete()
    if standalone:
        guard()
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")  # a letter that the terminal does not have is no reason to end
    code = _invoke(words)
    if standalone:
        _end(code)
    return code


def _end(code: int) -> NoReturn:
    """End the process as it is: to free its objects one by one takes a tenth of a second, after figures a third.

    What other modules have registered for the end runs. Where threads are left to wait for, or the output cannot be
    written, Python ends in its own way.
    """
    if threading.active_count() == 1:
        atexit._run_exitfuncs()
        with contextlib.suppress(OSError, ValueError):
            for stream in filter(None, (sys.stdout, sys.stderr)):
                stream.flush()
            os._exit(code)
    sys.exit(code)


COMPLETION = "_ABLATE_COMPLETE"
"""Variable by which a shell asks for what may come next (`bash_complete`), or for its own part (`bash_source`)."""


def _complete() -> NoReturn:
    """Answer a shell, and end. Whatever goes wrong, nothing is printed into the line that is being typed."""
    asked = os.environ[COMPLETION].endswith("_complete")
    if asked:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
    try:
        from click.shell_completion import add_completion_class

        add_completion_class(registry.load(registry.BASH))
        ablate.main([], prog_name="ablate", complete_var=COMPLETION)
    except Exception:
        if not asked:
            raise
    sys.exit(1)


def _invoke(words: list[str]) -> int:
    debug = "--debug" in words
    damage.forget()
    mask = os.umask(0o077)
    os.umask(mask)
    try:
        result = ablate.main(words, prog_name="ablate", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.Abort:
        click.echo("interrupted", err=True)
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (AblateError, ModuleNotFoundError) as error:
        shown = missing_extra(error) if isinstance(error, ModuleNotFoundError) else error
        if debug or shown is None:
            raise
        click.echo(f"ablate: {redact(str(shown))}", err=True)
        return shown.exit_code
    except BrokenPipeError:
        # The reader of our output (head, less) went away: no error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        # Without a file it may be a fault of ours, but not where there is no room.
        if debug or (error.filename is None and error.errno not in NO_ROOM):
            raise
        place = "the home, or the folder for temporary files" if error.filename is None else error.filename
        click.echo(f"ablate: {place}: {error.strerror}", err=True)
        return 1
    finally:
        os.umask(mask)
