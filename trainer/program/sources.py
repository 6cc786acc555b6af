"""Where a stage's whole configuration comes from: the study, a file, or the program itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ablative.study.core.errors import ConfigError, unknown
from ablative.study.core.typed import Settings, plain
from ablative.study.spec.sections import Frozen
from ablative.study.syntax.factors import brief
from ablative.study.syntax.words import Tree
from ablative.trainer.program.config import dotted, put
from ablative.trainer.program.definition import KINDS, Described
from ablative.trainer.program.probes.config_file import file_config
from ablative.trainer.program.probes.probe import argparse_probe, hydra_probe, type_probe
from ablative.trainer.program.probes.program import Invocation
from ablative.trainer.program.words import Plain

VALUES = "values"
"""Key, in addition to one of `KINDS`, of values that every cell starts from."""


@dataclass(frozen=True)
class Resolved:
    """A whole configuration."""

    values: Settings
    """Nested as the program nests it."""
    options: Settings
    """Key → how the command line takes it, where the program was asked."""


class Source(Protocol):
    """Resolves the configurations of one stage."""

    given: Tree
    """Dotted keys that the study gives to every cell, and their values."""

    def keys(self) -> tuple[str, ...]:
        """Dotted keys of the configuration that every cell starts from."""
        ...

    def resolve(self, given: Settings) -> Resolved:
        """The whole configuration with some dotted keys set; raises ConfigError for what the program does not take."""
        ...

    def close(self) -> None:
        """End the processes that answer; a further question starts one anew."""
        return None


def described(data: object, where: str) -> Described:
    """What a `config` means; raises ConfigError for what is no configuration."""
    if data is None:
        return Described()
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where}: expected keys and values, or one of {', '.join(KINDS)}, found {brief(data)}")
    kinds = [key for key in data if key in KINDS]
    if len(kinds) != 1 or any(key not in (kinds[0], VALUES) for key in data):
        return Described(kind=VALUES, values=Frozen(data))
    kind, value, values = kinds[0], data[kinds[0]], data.get(VALUES) or {}
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}.{VALUES}: expected keys and values, found {brief(values)}")
    if kind in ("argparse", "hydra"):
        if value is not True:
            raise ConfigError(f"{where}.{kind}: expected true, found {brief(value)}")
        return Described(kind=kind, values=Frozen(values))
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{where}.{kind}: expected {'a path' if kind == 'file' else 'module:class'}")
    return Described(kind=kind, name=value, values=Frozen(values))


class Declared(Source):
    """All values are in the study, or in a file that it names."""

    def __init__(self, values: Settings, where: str, opened: bool) -> None:
        """`opened`: cells may set keys that are not among the values."""
        self.given = dotted(values)
        self._values, self._where, self._open = plain(values), where, opened

    def keys(self) -> tuple[str, ...]:
        return tuple(self.given)

    def resolve(self, given: Settings) -> Resolved:
        values = plain(self._values)
        for key, value in given.items():
            known = has(values, key)
            if not known and not self._open:
                raise ConfigError(unknown("key", key, self.given, self._where))
            put(values, key, plain(_as_before(values, key, value) if known else value))
        return Resolved(values, {})


class Typed(Source):
    """A class of the user's fills in what is not given."""

    def __init__(self, values: Settings, invocation: Invocation, unhashed: Sequence[str], name: str) -> None:
        self.given = dotted(values)
        self._probe = type_probe(invocation, unhashed, name)

    def keys(self) -> tuple[str, ...]:
        return tuple(dotted(self.resolve({}).values))

    def resolve(self, given: Settings) -> Resolved:
        values: Tree = {}
        for key, value in {**self.given, **given}.items():
            put(values, key, plain(value))
        return Resolved(self._probe.resolve_values(values).values, {})

    def close(self) -> None:
        self._probe.close()


class Asked(Source):
    """The program is asked what it would run with, by its own command line."""

    def __init__(
        self,
        values: Settings,
        kind: str,
        invocation: Invocation,
        unhashed: Sequence[str],
        words: Callable[[Settings, Settings, Collection[str] | None], list[str]],
    ) -> None:
        """`words`: (keys that are given, options of the command line, all keys) → words of the command, filled in."""
        self.given = dotted(values)
        self._words, self._kind = words, kind
        self._probe = (argparse_probe if kind == "argparse" else hydra_probe)(invocation, unhashed)
        self._options: Settings = {}
        self._known: tuple[str, ...] | None = None

    def resolve(self, given: Settings) -> Resolved:
        known = self.keys()
        answer = self._probe.resolve(self._words({**self.given, **given}, self._options, known))
        return Resolved(answer.values, self._options)

    def close(self) -> None:
        self._probe.close()

    def _ask_keys(self) -> tuple[str, ...]:
        """All keys of the program, even where arguments that it requires come with the cells."""
        words = self._words(self.given, {}, None)
        if self._kind == "hydra":
            return tuple(dotted(self._probe.resolve(words).values))
        found = self._probe.options(words)
        self._options = {key: dataclasses.asdict(option) for key, option in found.items()}
        return tuple(found)

    def keys(self) -> tuple[str, ...]:
        if self._known is None:
            self._known = self._ask_keys()
        return self._known


def from_file(name: str, values: Settings, folder: Path, where: str) -> Declared:
    """The values of a file with those that the study adds."""
    found = plain(file_config(folder / name, where))
    for key, value in dotted(values).items():
        put(found, key, value)
    return Declared(found, where, opened=False)


def has(tree: Settings, key: str) -> bool:
    """Whether a nested mapping has a dotted key, which may be that of a section."""
    if key in tree:
        return True
    head, _, rest = key.partition(".")
    return bool(rest) and isinstance(tree.get(head), Mapping) and has(tree[head], rest)


def _as_before(tree: Settings, key: str, value: Plain) -> Plain:
    """A whole number for a key whose value has a decimal point keeps the point: programs compare types."""
    before = dotted(tree).get(key)
    return (
        float(value) if isinstance(before, float) and isinstance(value, int) and not isinstance(value, bool) else value
    )
