"""Probes: one asks for the whole configuration of each cell of a plan, of the user's program as it is.

A process of the program answers all requests (`asking`). The first of a plan is asked twice (`twice`), and all answers
are kept for the next plan (`kept_answers`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

from ablative.study.core.errors import ConfigError
from ablative.study.core.typed import Settings
from ablative.trainer.program.probes.asking import Asking
from ablative.trainer.program.probes.program import Answer, Invocation, Option, Program, split
from ablative.trainer.program.probes.twice import check_constant

SECONDS = 300.0
"""Time within which a program has to come to the point where it reads its configuration."""


def argparse_probe(invocation: Invocation, unhashed: Sequence[str], seconds: float = SECONDS) -> ProgramProbe:
    """A probe of a program that parses its command line with argparse."""
    return ProgramProbe("argparse", invocation, unhashed, seconds)


def hydra_probe(invocation: Invocation, unhashed: Sequence[str], seconds: float = SECONDS) -> ProgramProbe:
    """A probe of a Hydra application: what `--cfg job --resolve` prints."""
    return ProgramProbe("hydra", invocation, unhashed, seconds)


def type_probe(invocation: Invocation, unhashed: Sequence[str], name: str, seconds: float = SECONDS) -> TypeProbe:
    """A probe of a configuration's type; `name`: `pkg.mod:Config`, a dataclass or a model of pydantic."""
    return TypeProbe(invocation, unhashed, name, seconds)


class _Base:
    """What all kinds have in common."""

    def __init__(self, kind: str, invocation: Invocation, unhashed: Sequence[str], seconds: float) -> None:
        self._where, self._unhashed = invocation.where, tuple(unhashed)
        self._asking = Asking(kind, invocation, seconds)

    def close(self) -> None:
        """End the process that answers."""
        self._asking.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(self, program: Program, request: Settings) -> Answer:
        reply = self._asking.values(program, request)
        check_constant(reply.get("varying", {}), self._unhashed, self._where, program.name)
        return Answer(reply["values"], _options(reply.get("options", {})))


class ProgramProbe(_Base):
    """A `Probe` of a command."""

    def resolve(self, words: Sequence[str]) -> Answer:
        """The configuration of a command (`Probe.resolve`)."""
        program, arguments = split(words, self._where)
        return self._answer(program, {"arguments": arguments})

    def options(self, words: Sequence[str]) -> Mapping[str, Option]:
        """What a program with argparse takes, even where these words lack arguments that it requires.

        Raises:
            ConfigError: the program did not come to its parser.
        """
        program, arguments = split(words, self._where)
        return _options(self._asking.options(program, {"arguments": arguments}))


class TypeProbe(_Base):
    """A probe of a configuration's type."""

    def __init__(self, invocation: Invocation, unhashed: Sequence[str], name: str, seconds: float) -> None:
        super().__init__("type", invocation, unhashed, seconds)
        module, colon, kind = name.partition(":")
        if not (colon and all(part.isidentifier() for part in (*module.split("."), *kind.split(".")))):
            raise ConfigError(f"{invocation.where}: type: expected `package.module:Class`, found '{name}'")
        self._program = Program((name,))

    def resolve_values(self, values: Settings) -> Answer:
        """The whole configuration: the values, nested as the type has them, and its defaults; raises ConfigError."""
        return self._answer(self._program, {"type": self._program.name, "values": dict(values)})


def _options(found: Settings) -> dict[str, Option]:
    return {
        name: Option(
            flags=tuple(option["flags"]),
            kind=option["kind"],
            negative=tuple(option["negative"]),
            choices=tuple(option["choices"] or ()),
        )
        for name, option in found.items()
    }
