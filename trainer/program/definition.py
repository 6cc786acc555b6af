"""The stages of a study of one's own code, as its file defines them, checked one by one."""

from __future__ import annotations

import re
import shlex
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ablative.study.core.errors import ConfigError, unknown
from ablative.study.core.typed import build, field
from ablative.study.spec.sections import Frozen
from ablative.study.spec.study_file import condition
from ablative.study.syntax.factors import brief, text_value
from ablative.study.syntax.source_keys import names
from ablative.study.syntax.words import Tree
from ablative.trainer.program.keys import LAUNCHERS, SIGNALS, StageKeys
from ablative.trainer.program.metrics.sources import MetricSource, output_file, parse_metrics
from ablative.trainer.program.words import Plain

KINDS = ("argparse", "hydra", "file", "type")
"""Keys of a `config` that names a source: the program's own command line, a file, or a class."""
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
"""Names of stages are part of words (`{train.out}`), so they hold no dot."""
_SHELLS = ("bash", "sh", "dash", "zsh", "ksh", "fish")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_OPERATOR = re.compile(r"\||\|\||&&|&|;|[0-9&]?>>?(?:&?[0-9]|[^=>&].*)?|<<?.*")
_VARIABLE = re.compile(r"\$(?:[A-Za-z_]\w*|\{[A-Z_][A-Z0-9_]*\}|\()")
"""A shell would replace it; `${now:%Y}` and `${name}` are Hydra's."""


@dataclass(frozen=True, kw_only=True)
class Described:
    """A stage's `config`: which kind of source, and the values that the study adds."""

    kind: str = field("")
    """One of `KINDS`; `values`: the study has them all; empty: nothing is known but what cells set."""
    name: str = field("")
    """File, or `module:class`."""
    values: Tree = field(Frozen())


@dataclass(frozen=True, kw_only=True)
class Resume:
    """How a stopped program goes on."""

    file: str = field("")
    """File of the output folder that makes an attempt resume, where it exists; a pattern (`*.pt`)."""
    args: tuple[str, ...] = field(())
    """Words that are added to the command then."""
    exact: bool | None = field(None)
    """Whether a resumed run ends as an uninterrupted one; None: it is not known."""


@dataclass(frozen=True, kw_only=True)
class Stop:
    """How a running program is stopped."""

    signal: str = field("TERM", choices=SIGNALS)
    """What the program is sent first."""
    grace: float = field(120.0, low=0)
    """Seconds until it is killed."""

    @property
    def number(self) -> int:
        return int(getattr(signal, f"SIG{self.signal}"))


@dataclass(frozen=True, kw_only=True)
class Launch:
    """How many processes share the work of a stage, and what starts them."""

    processes: int = field(0, low=0)
    """0: `runtime.processes`."""
    by: str = field("none", choices=LAUNCHERS)
    """What starts the processes."""
    same_result: bool = field(False)
    """The number of processes does not change the result, so that it is no part of ids."""


@dataclass(frozen=True, kw_only=True)
class StageDefinition:
    """One stage, with the placeholders of its `each` still in it."""

    name: str
    command: tuple[str, ...] = ()
    function: str = ""
    config: Plain = None
    """Its own configuration, as the study has it; None: that of the whole study."""
    reads: tuple[str, ...] = ()
    """Patterns of the keys that the stage reads; empty: all."""
    after: tuple[str, ...] = ()
    when: dict[str, tuple[str, ...]] = field(Frozen())
    each: dict[str, tuple[Plain, ...]] = field(Frozen())
    """Key → values, one task for each; empty: one task."""
    seeded: bool = True
    resume: Resume = Resume()
    stop: Stop = Stop()
    launch: Launch = Launch()
    steps: str = ""
    """Number of steps, or a placeholder for the key that has it."""
    metrics: tuple[MetricSource, ...] = ()
    outputs: tuple[str, ...] = ()
    """Files that a finished stage has left in its output folder; patterns."""
    data: tuple[str, ...] = ()
    """Files that the program reads and whose content is part of ids."""
    cwd: str = ""
    """Folder that it runs in, within the code's; empty: that."""
    env: dict[str, str] = field(Frozen())
    prefix: tuple[str, ...] = ()
    """Words before the command (`conda run -n lab`)."""
    rename: dict[str, str] = field(Frozen())
    """Key of the configuration → what the command line calls it."""
    on_oom: dict[str, float] = field(Frozen())
    """Key → what its value is multiplied by after each attempt that ran out of memory."""

    def folder(self, code: Path) -> Path:
        """Folder in which the program is asked: that it runs in, where this is the same for all tasks."""
        return code if "{" in self.cwd else code / self.cwd


KEYS = names(StageKeys)


def parse_stages(data: object, where: str) -> tuple[StageDefinition, ...]:
    """The stages of a study; raises ConfigError for what is wrong with one of them.

    Args:
        data: the study's `stages`: name → definition; a text is a command.
        where: for messages.
    """
    if not isinstance(data, Mapping) or not data:
        raise ConfigError(f"{where}: expected stages, as in train: {{command: python train.py}}, found {brief(data)}")
    found = tuple(_stage(str(name), stage, f"{where}.{name}") for name, stage in data.items())
    names = [stage.name for stage in found]
    for stage in found:
        for need in stage.after:
            if need not in names:
                raise ConfigError(unknown("stage", need, names, f"{where}.{stage.name}.after"))
    return found


def _stage(name: str, data: object, where: str) -> StageDefinition:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{where}: a stage is called '{name}'; letters, digits, '_' and '-' only, a letter first")
    if isinstance(data, str):
        data = {"command": data}
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where}: expected a command, or keys such as command and metrics, found {brief(data)}")
    for key in data:
        if key not in KEYS:
            raise ConfigError(unknown("key", str(key), KEYS, where))
    given = {key: value for key, value in data.items() if value is not None}
    command, function = (
        words(given.get("command", ""), f"{where}.command"),
        text_value(given.get("function", ""), f"{where}.function"),
    )
    if bool(command) == bool(function):
        raise ConfigError(f"{where}: a stage has a command or a function; {'it has both' if command else 'none given'}")
    if function and not re.fullmatch(r"[\w.]+:[\w.]+", function):
        raise ConfigError(f"{where}.function: expected module:function, found '{function}'")
    progress = _section(given.get("progress", {}), ("steps",), f"{where}.progress")
    return StageDefinition(
        name=name,
        command=command,
        function=function,
        config=given.get("config"),
        reads=_names(given.get("reads", []), f"{where}.reads"),
        after=_names(given.get("after", []), f"{where}.after"),
        when=Frozen({name: tuple(own) for name, own in condition(given.get("when", {}), f"{where}.when").items()}),
        each=_each(given.get("each", {}), f"{where}.each"),
        seeded=_flag(given.get("seeded", True), f"{where}.seeded"),
        resume=_resume(given.get("resume", {}), f"{where}.resume"),
        stop=build(Stop, _section(given.get("stop", {}), ("signal", "grace"), f"{where}.stop"), f"{where}.stop"),
        launch=_launch(given.get("launch", {}), f"{where}.launch"),
        steps=text_value(progress.get("steps", ""), f"{where}.progress.steps"),
        metrics=parse_metrics(given.get("metrics", []), f"{where}.metrics"),
        outputs=tuple(output_file(name, f"{where}.outputs") for name in _names(given.get("outputs", []), where)),
        data=_names(given.get("data", []), f"{where}.data"),
        cwd=text_value(given.get("cwd", ""), f"{where}.cwd"),
        env=texts(given.get("env", {}), f"{where}.env"),
        prefix=words(given.get("prefix", ""), f"{where}.prefix"),
        rename=texts(given.get("rename", {}), f"{where}.rename"),
        on_oom=_on_oom(given.get("on_oom", {}), f"{where}.on_oom"),
    )


def words(value: object, where: str) -> tuple[str, ...]:
    """Words of a command: a text as a shell would split it, or a list of words. No shell runs it."""
    if isinstance(value, list):
        return tuple(text_value(word, where) for word in value)
    if isinstance(value, Mapping):
        raise ConfigError(f"{where}: expected a text or a list of words, found {brief(value)}")
    try:
        found = tuple(shlex.split(str(value)))
    except ValueError as error:
        raise ConfigError(f"{where}: {error} in {brief(value)}") from None
    _check_no_shell(found, where)
    return found


def _check_no_shell(found: Sequence[str], where: str) -> None:
    """Refuse what only a shell would understand; a list of words is taken as it is."""
    if found and Path(found[0]).name in _SHELLS:
        return
    how = "no shell runs it; write a shell's command as bash -c '…', or the words as a list"
    if found and _ASSIGNMENT.match(found[0]):
        name, _, value = found[0].partition("=")
        raise ConfigError(f"{where}: '{found[0]}' before the program: {how}; variables are env: {{{name}: '{value}'}}")
    for word in found:
        if _OPERATOR.fullmatch(word):
            raise ConfigError(f"{where}: '{word}': {how}")
        if variable := _VARIABLE.search(word):
            raise ConfigError(f"{where}: '{variable[0]}' would not be replaced: {how}")


def texts(value: object, where: str) -> Frozen:
    """A mapping to texts; raises ConfigError for anything else."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: expected keys and values, found {brief(value)}")
    return Frozen({str(key): str(item) for key, item in value.items()})


def _section(value: object, keys: Sequence[str], where: str) -> Tree:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: expected {' and '.join(keys)} with values, found {brief(value)}")
    for key in value:
        if key not in keys:
            raise ConfigError(unknown("key", str(key), keys, where))
    return dict(value)


def _names(value: object, where: str) -> tuple[str, ...]:
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str | int | float) for item in items):
        raise ConfigError(f"{where}: expected a name or a list of names, found {brief(value)}")
    return tuple(str(item) for item in items)


def _flag(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{where}: expected true or false, found {brief(value)}")
    return value


def _each(value: object, where: str) -> Frozen:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: expected key: [values], as in set: [digits, svhn], found {brief(value)}")
    found: Tree = {}
    for key, items in value.items():
        if not isinstance(items, list) or not items:
            raise ConfigError(f"{where}.{key}: expected a list of values, found {brief(items)}")
        if not all(isinstance(item, str | int | float) for item in items) or len(set(map(str, items))) < len(items):
            raise ConfigError(f"{where}.{key}: expected different texts or numbers, found {brief(items)}")
        found[str(key)] = tuple(items)
    return Frozen(found)


def _resume(value: object, where: str) -> Resume:
    section = _section(value, ("file", "args", "exact"), where)
    if "args" in section:
        section["args"] = words(section["args"], f"{where}.args")
        if section["args"] and "file" not in section:
            raise ConfigError(f"{where}: args are added where a file of an earlier attempt is there; name it: file: …")
    if isinstance(section.get("file"), str):
        section["file"] = output_file(section["file"], f"{where}.file")
    return build(Resume, section, where)


def _launch(value: object, where: str) -> Launch:
    if isinstance(value, str):
        value = {"with": value}
    section = _section(value, ("processes", "with", "same_result"), where)
    if "with" in section:
        section["by"] = section.pop("with")
        if section["by"] not in LAUNCHERS:
            raise ConfigError(unknown("launcher", str(section["by"]), LAUNCHERS, f"{where}.with"))
    return build(Launch, section, where)


def _on_oom(value: object, where: str) -> Frozen:
    found: Tree = {}
    for key, factor in texts(value, where).items():
        try:
            found[key] = float(factor)
        except ValueError:
            raise ConfigError(f"{where}.{key}: expected a factor such as 0.5, found '{factor}'") from None
        if found[key] <= 0 or found[key] == 1:
            raise ConfigError(f"{where}.{key}: {found[key]:g} changes nothing that could help; expected e.g. 0.5")
    return Frozen(found)
