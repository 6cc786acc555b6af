"""How a stage's program is started for a probe, and what a probe answers."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ablative.study.core.errors import ConfigError
from ablative.study.core.processes import without_peers
from ablative.study.core.typed import Settings

_WITH_VALUE = ("-W", "-X", "--check-hash-based-pycs")
"""Options of the interpreter whose value is the next word."""


@dataclass(frozen=True)
class Invocation:
    """How the program of a stage is started."""

    python: str
    """Interpreter: a path (a relative one lies in `cwd`), or a name to look for in `PATH`."""
    cwd: Path
    env: Mapping[str, str]
    """Additions to the environment."""
    where: str
    """Place that messages begin with: `study.yaml: stages.train`."""
    cache: Path
    """Folder of kept answers."""

    def environment(self) -> dict[str, str]:
        found = without_peers(os.environ)
        # Jobs of `ablate` set it for themselves; a user's script finds its neighbours without.
        found.pop("PYTHONSAFEPATH", None)
        return found | dict(self.env)

    def interpreter(self) -> Path:
        """Its path; a link (a virtual environment's) is not followed. Raises ConfigError where there is none."""
        written = os.path.expanduser(self.python)
        if os.sep in written:
            path = Path(os.path.abspath(self.cwd / written))
            if not os.access(path, os.X_OK) or path.is_dir():
                raise ConfigError(f"{self.where}: python: there is no interpreter '{path}'")
            return path
        found = shutil.which(written, path=self.environment().get("PATH"))
        if found is None:
            raise ConfigError(f"{self.where}: python: '{self.python}' is not in PATH; write the interpreter's path")
        return Path(os.path.abspath(found))


@dataclass(frozen=True)
class Program:
    """What the interpreter runs."""

    target: tuple[str, ...]
    """`("train.py",)` or `("-m", "pkg.train")`; of a type, its name."""
    options: tuple[str, ...] = ()
    """Options of the interpreter: `-u`, `-W ignore`."""

    @property
    def name(self) -> str:
        """How messages call it."""
        return self.target[-1]


def split(words: Sequence[str], where: str) -> tuple[Program, list[str]]:
    """The program and its arguments, of the words after the interpreter.

    >>> split(["-u", "-m", "pkg.train", "--lr", "1"], "stages.train")
    (Program(target=('-m', 'pkg.train'), options=('-u',)), ['--lr', '1'])
    """
    at = 0
    while at < len(words) and words[at].startswith("-") and not words[at].startswith("-m"):
        if words[at] in ("-c", "-"):
            raise ConfigError(
                f"{where}: the configuration of `python {words[at]}` cannot be read: expected a script or `-m MODULE`"
            )
        at += 2 if words[at] in _WITH_VALUE else 1
    options, rest = tuple(words[:at]), list(words[at:])
    if rest and rest[0].startswith("-m") and rest[0] != "-m":
        rest[:1] = ["-m", rest[0][2:]]
    length = 2 if rest[:1] == ["-m"] else 1
    if len(rest) < length:
        raise ConfigError(f"{where}: the command names no script after `{' '.join(['python', *words])}`")
    return Program(tuple(rest[:length]), options), rest[length:]


@dataclass(frozen=True)
class Option:
    """How a destination of argparse is given on the command line."""

    flags: tuple[str, ...]
    """`("--lr", "-l")`; empty: it is positional."""
    kind: str
    """`value`; `true` or `false`: present means that; `boolean`: one of `flags` or of `negative`; `list`: several
    words, or repeated; `count`: repeated so often; `constant`: each flag stores a value that cannot be read."""
    negative: tuple[str, ...] = ()
    """Flags of a `boolean` that mean false."""
    choices: tuple[object, ...] = ()
    """Values that the program takes; empty: any."""


@dataclass(frozen=True)
class Answer:
    """What a program would run with."""

    values: Settings
    """The whole resolved configuration: JSON values, nested as the program has them."""
    options: Mapping[str, Option] = field(default_factory=dict)
    """Destination → how it is given; argparse only."""


class Probe(Protocol):
    """Answers for the cells of one plan."""

    def resolve(self, words: Sequence[str]) -> Answer:
        """The configuration of a command.

        Args:
            words: after the interpreter, nothing left to be filled in: `["train.py", "--lr", "0.1"]`.

        Raises:
            ConfigError: the program refuses the words, or its configuration cannot be read.
        """
        ...

    def close(self) -> None:
        """End the process that answers."""
        ...
