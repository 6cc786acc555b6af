"""The whole configuration of one stage: of a cell as the study is planned, and of a trial as a search runs."""

from __future__ import annotations

import dataclasses
import fnmatch
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from ablative.study.core.typed import Settings, plain
from ablative.study.spec.runtime import RuntimeConfig
from ablative.study.spec.sections import Frozen
from ablative.trainer.program.config import JobSettings, Program, ProgramConfig, dotted, nested
from ablative.trainer.program.definition import Described
from ablative.trainer.program.interpreter import with_interpreter
from ablative.trainer.program.parts import Part
from ablative.trainer.program.probes.program import Invocation
from ablative.trainer.program.probes.twice import is_unhashed
from ablative.trainer.program.sources import Asked, Declared, Source, Typed, from_file
from ablative.trainer.program.words import Filling, Plain, check_placeholders, placeholders, reads_all, without_unknown

SEED, FOLDER = 271828, "/ablate-stands-in"
"""What a program is asked with in place of the seed and of output folders; its answer has placeholders there."""


@dataclass(frozen=True)
class Surroundings:
    """What a stage's program is asked in."""

    python: str
    """The study's interpreter."""
    folder: Path
    """Where commands start; in a job, in its copy of the code."""
    planned: str
    """That folder as the study was planned."""
    cache: Path
    """Folder of kept answers."""
    env: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Additions to the environment, before the stage's own."""
    unhashed: tuple[str, ...] = ()
    """Patterns of keys that change no result."""


class Resolver:
    """Resolves the configurations of one stage."""

    def __init__(self, part: Part, folders: Mapping[str, str], found: Described, around: Surroundings) -> None:
        """`folders`: word for an output folder → whose it is; `found`: where the configuration comes from."""
        self._part, self._folders, self._described, self._around = part, dict(folders), found, around
        self._source: Source | None = None
        self._known: tuple[str, ...] | None = None

    @property
    def source(self) -> Source:
        if self._source is None:
            self._source = self._opened()
        return self._source

    @property
    def known(self) -> tuple[str, ...]:
        """Dotted keys of the configuration with the values that every cell starts from."""
        if self._known is None:
            self._known = self.source.keys()
        return self._known

    def has(self, key: str) -> bool:
        """Whether the configuration has a key, or a section of this name."""
        keys = self.known
        return not self._described.kind or key in keys or any(k.startswith(f"{key}.") for k in keys)

    def takes(self, key: str) -> bool:
        """Whether the stage has the key, and its program reads it."""
        own, named = self._part.definition, self._part.placeholders
        if not (own.function or reads_all(named) or key in named) or key in self._part.each:
            return False
        if own.reads and not any(fnmatch.fnmatchcase(key, pattern) for pattern in own.reads):
            return False
        return self.has(key)

    def reads(self, key: str) -> bool:
        """Whether the program reads the key: all of the options it has, also those that its command does not give."""
        if self._described.kind not in ("argparse", "hydra") or key in self._part.each:
            return self.takes(key)
        patterns = self._part.definition.reads
        return not patterns or any(fnmatch.fnmatchcase(key, pattern) for pattern in patterns)

    def close(self) -> None:
        """End the processes that answer."""
        if self._source is not None:
            self._source.close()

    def configured(
        self, chosen: Settings, runtime: RuntimeConfig, data: Callable[[Settings], Mapping[str, str]]
    ) -> ProgramConfig:
        """The configuration with some keys set.

        Args:
            chosen: dotted keys that a cell or the command line sets, and their values.
            runtime: where it runs.
            data: (dotted key → value) → fingerprints of the files that the program reads.

        Raises:
            ConfigError: the program does not take these values.
        """
        own, source = self._part.definition, self.source
        resolved = source.resolve(chosen)
        flat = {key: _with_placeholders(value) for key, value in dotted(plain(resolved.values)).items()}
        read = {key: value for key, value in flat.items() if self.reads(key)}
        unhashed = {key: value for key, value in read.items() if is_unhashed(key, self._around.unhashed)}
        given = {key: flat.get(key, value) for key, value in {**source.given, **chosen}.items()}
        # A key of `env` or `progress` alone is still one that {args} means.
        named = set(placeholders(own.command))
        return ProgramConfig(
            config=Frozen(nested({key: value for key, value in read.items() if key not in unhashed})),
            program=self._program(runtime, data(flat)),
            unhashed=Frozen(unhashed),
            given=Frozen({key: value for key, value in given.items() if self.takes(key) and key not in named}),
            options=Frozen({key: resolved.options[key] for key in given if key in resolved.options}),
            job=JobSettings(
                stage=dataclasses.replace(own, config=None),
                python=self._around.python,
                code=self._around.planned,
                folders=Frozen(self._folders),
                source=self._described,
                chosen=Frozen(chosen),
                unhashed=self._around.unhashed,
            ),
            runtime=runtime,
        )

    def _program(self, runtime: RuntimeConfig, data: Mapping[str, str]) -> Program:
        own = self._part.definition
        shared = runtime.processes if own.launch.by != "none" or own.launch.processes else 1
        return Program(
            command=own.command,
            function=own.function,
            each=Frozen(self._part.each),
            data=Frozen(data),
            world_size=1 if own.launch.same_result else shared,
        )

    def _opened(self) -> Source:
        own, found, around = self._part.definition, self._described, self._around
        where = f"stages.{own.name}"
        if found.kind in ("", "values"):
            return Declared(found.values, where, opened=not found.kind)
        if found.kind == "file":
            return from_file(found.name, found.values, around.folder, where)
        invocation = Invocation(
            around.python, own.folder(around.folder), {**around.env, **own.env}, where, around.cache
        )
        if found.kind == "type":
            return Typed(found.values, invocation, around.unhashed, found.name)
        return Asked(found.values, found.kind, invocation, around.unhashed, self._asked)

    def _asked(self, given: Settings, options: Settings, known: Collection[str] | None) -> list[str]:
        """Words after the interpreter, with substitutes for the seed and the folders.

        A key that has a separate word and that is not given keeps the program's default: its word is left out.

        Args:
            given: keys, and their values.
            options: key → how the command line takes it.
            known: all keys of the program; None: it is asked for them.
        """
        own, around = self._part.definition, self._around
        folders = {name: f"{FOLDER}/{name}" for name in ("out", *self._folders)}
        fixed = {"seed": str(SEED), "config_file": f"{FOLDER}/config_file", "processes": "1", **folders}
        fixed |= {"python": around.python, "code": str(around.folder)}
        values = {**self._part.each, **given}
        if known is not None:
            stages = [name.removesuffix(".out") for name in self._folders]
            check_placeholders(own.command, [*known, *self._part.each], stages, f"stages.{own.name}.command")
        named = placeholders(own.command)
        left = {key: value for key, value in given.items() if key not in named}
        command = without_unknown(own.command, {*fixed, *values})
        filled = Filling(values, left, fixed, own.rename, options).words(command)
        return with_interpreter(filled, around.python)[1:]


def _with_placeholders(value: Plain) -> Plain:
    """A value of a program's answer in which what stood in for the seed and for folders has its name again."""
    if isinstance(value, list | tuple):
        return [_with_placeholders(item) for item in value]
    if value == SEED or value == str(SEED):
        return "{seed}"
    if isinstance(value, str) and FOLDER in value:
        return re.sub(rf"{FOLDER}/([\w.-]+)", r"{\1}", value)
    return value
