"""What a program with `argparse` would run with: it is run up to its first parse, and each request is parsed there.

A program may parse twice (`parse_known_args` for a configuration file, then `parse_args` with new defaults): the
forked process that answers goes on from the first parse to the last.
"""

from __future__ import annotations

import argparse
import contextlib
import dis
import functools
import io
import pathlib
import sys
import types
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from ablative.trainer.program.probes.inside.command_line import CommandLine
from ablative.trainer.program.probes.inside.plain_values import plain
from ablative.trainer.program.probes.inside.running import run_program

if TYPE_CHECKING:
    from ablative.trainer.program.probes.inside.running import Message, Session

    Parse = Callable[..., "argparse.Namespace | tuple[argparse.Namespace, list[str]]"]

METHODS = ("parse_args", "parse_known_args", "parse_intermixed_args", "parse_known_intermixed_args")
KINDS = {
    "_StoreAction": "value",
    "_StoreTrueAction": "true",
    "_StoreFalseAction": "false",
    "BooleanOptionalAction": "boolean",
    "_AppendAction": "list",
    "_ExtendAction": "list",
    "_AppendConstAction": "constant",
    "_StoreConstAction": "constant",
    "_CountAction": "count",
    "_SubParsersAction": "value",
}
"""Class of an action of argparse → kind of an option (`Option.kind`)."""
_NO_VALUE = ("_HelpAction", "_VersionAction")
_TYPES = (None, int, float, str, bool, complex, pathlib.Path)
"""Types of arguments that keep no state."""


class Server:
    """Takes over at the first parse of the command line."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._depth = 0
        self._parsers: list[argparse.ArgumentParser] = []
        """Those that took part in the present parse: the parser and the sub-parsers that were chosen."""
        self._leftover: list[str] | None = None
        """Words that a preliminary parse has left for the next."""
        self._values: dict[str, object] = {}
        self._options: dict[str, object] = {}

    def run(self, request: Message) -> None:
        self._watch(argparse.ArgumentParser)

        def watch_subclass(kind: type[argparse.ArgumentParser], **options: object) -> None:
            super(argparse.ArgumentParser, kind).__init_subclass__(**options)
            self._watch(kind)

        for name, function in {"__init_subclass__": classmethod(watch_subclass)}.items():
            setattr(argparse.ArgumentParser, name, function)
        run_program(list(request["target"]), _arguments(request), self.session)  # type: ignore[call-overload]

    def _watch(self, kind: type[argparse.ArgumentParser]) -> None:
        """Have the parses that a class defines come here; a subclass (jsonargparse's) may define its own."""
        for name in METHODS:
            if isinstance(vars(kind).get(name), types.FunctionType):
                setattr(kind, name, self._watched(name, vars(kind)[name]))

    def _watched(self, name: str, real: Parse) -> Parse:
        @functools.wraps(real)
        def parse(
            parser: argparse.ArgumentParser,
            args: Sequence[str] | None = None,
            namespace: argparse.Namespace | None = None,
            **more: object,
        ) -> argparse.Namespace | tuple[argparse.Namespace, list[str]]:
            self._parsers.append(parser)
            parsed = functools.partial(real, **more)
            if self._depth == 0 and self._is_command_line(args):
                return self.take_over(parser, name, parsed, args, namespace, sys._getframe(1))
            self._depth += 1
            try:
                return parsed(parser, args, namespace)
            finally:
                self._depth -= 1

        return parse

    def _is_command_line(self, args: Sequence[str] | None) -> bool:
        """The words of the command line, or their end (after a word that chooses the parser), or what is left."""
        if args is None:
            return True
        if not isinstance(args, (list, tuple)):
            return False
        given, words = list(args), sys.argv[1:]
        if given == self._leftover or (isinstance(sys.argv, CommandLine) and sys.argv.gave(args)):
            return True
        return given == words[len(words) - len(given) :] if given else not words

    def take_over(
        self,
        parser: argparse.ArgumentParser,
        name: str,
        real: Parse,
        args: Sequence[str] | None,
        namespace: argparse.Namespace | None,
        frame: types.FrameType,
    ) -> argparse.Namespace | tuple[argparse.Namespace, list[str]]:
        """Answer from here if this is the last parse; else go on, in the process that answers."""
        if frame.f_globals.get("__name__") == "hydra.main":
            self.session.refuse("it is a Hydra application; write `config: {hydra: true}`")
        final = name in ("parse_args", "parse_intermixed_args") or not goes_on_to_parse(frame)
        if not self.session.forked:
            skipped = 0 if args is None else len(sys.argv) - 1 - len(args)

            def quick(request: Message) -> Message:
                first = request is self.session.first
                return self._parsed(parser, real, args if first else _arguments(request)[skipped:], None)

            keeps_no_state = final and namespace is None and is_stateless(parser)
            request = self.session.branch(quick if keeps_no_state else None)
            if request is not self.session.first:
                sys.argv = [sys.argv[0], *_arguments(request)]
                args = None if args is None else sys.argv[1 + skipped :]
        if final:
            answer = self._parsed(parser, real, args, namespace)
            self.session.reply(answer)
        found, self._leftover = self._parse(parser, real, args, namespace)
        self._options.update(options(self._parsers))
        self._values.update(values(found, self._options))
        return found, list(self._leftover)

    def _parse(
        self,
        parser: argparse.ArgumentParser,
        real: Parse,
        args: Sequence[str] | None,
        namespace: argparse.Namespace | None,
    ) -> tuple[argparse.Namespace, list[str]]:
        self._parsers = [parser]
        self._depth += 1
        try:
            found = real(parser, args, namespace)
        finally:
            self._depth -= 1
        return found if isinstance(found, tuple) else (found, [])

    def _parsed(
        self,
        parser: argparse.ArgumentParser,
        real: Parse,
        args: Sequence[str] | None,
        namespace: argparse.Namespace | None,
    ) -> Message:
        """The answer of a parse: every value, or the parser's own words for what is wrong."""
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
                found, leftover = self._parse(parser, real, args, namespace)
        except SystemExit as end:
            known = {**self._options, **options(self._parsers)}
            return {"error": message(said.getvalue(), end), "options": known}
        if leftover:
            words = " ".join(leftover)
            return {"error": f"{parser.prog}: error: its parser leaves over: {words}"}
        known = {**self._options, **options(self._parsers)}
        return {"values": plain({**self._values, **values(found, known)}), "options": known}


def _arguments(request: Message) -> list[str]:
    return list(request["arguments"])  # type: ignore[call-overload, no-any-return]


def values(found: object, known: Iterable[str]) -> dict[str, object]:
    """What was parsed; some libraries (Tap) put it into the parser itself, among what else that holds."""
    everything = dict(vars(found))
    if isinstance(found, argparse.ArgumentParser):
        return {name: everything[name] for name in known if name in everything}
    return everything


def message(said: str, end: SystemExit) -> str:
    """The error of a parser, without its usage."""
    lines = said.strip().splitlines()
    for i in range(len(lines)):
        if ": error: " in lines[i]:
            return " ".join(" ".join(lines[i:]).split())
    return lines[-1].strip() if lines else f"it ended with {end.code}"


def goes_on_to_parse(frame: types.FrameType | None) -> bool:
    """Whether the code that called a parse, or what called that, parses again further on."""
    while frame is not None and frame.f_globals.get("__name__") != run_program.__module__:
        for instruction in dis.get_instructions(frame.f_code):
            if instruction.offset > frame.f_lasti and instruction.argval in METHODS:
                return True
        frame = frame.f_back
    return False


def is_stateless(parser: argparse.ArgumentParser) -> bool:
    """Whether a parse runs code of argparse alone, which changes nothing that the next parse reads."""
    if type(parser) is not argparse.ArgumentParser or parser.fromfile_prefix_chars:
        return False
    for action in parser._actions:
        if type(action).__module__ != "argparse" or action.type not in _TYPES:
            return False
        if isinstance(action, argparse._SubParsersAction) and not all(map(is_stateless, action.choices.values())):
            return False
    return True


def options(parsers: Sequence[argparse.ArgumentParser]) -> dict[str, object]:
    """Destination → how it is given on the command line."""
    found: dict[str, object] = {}
    for parser in parsers:
        for action in parser._actions:
            if action.dest != argparse.SUPPRESS and type(action).__name__ not in _NO_VALUE:
                found[action.dest] = merged(found.get(action.dest), option(action))
    return found


def option(action: argparse.Action) -> dict[str, object]:
    kind = KINDS.get(type(action).__name__, "constant" if action.nargs == 0 else "value")
    if kind == "value" and (isinstance(action.nargs, int) or action.nargs in ("*", "+", "...", "A...")):
        kind = "list" if type(action).__name__ != "_SubParsersAction" else "value"
    flags = list(action.option_strings)
    negative = [flag for flag in flags if flag.startswith("--no-")] if kind == "boolean" else []
    choices = None if action.choices is None else [plain(choice) for choice in action.choices]
    return {
        "flags": [flag for flag in flags if flag not in negative],
        "kind": kind,
        "negative": negative,
        "choices": choices,
    }


def merged(first: object, second: dict[str, object]) -> object:
    """One option of two with the same destination: `--amp` and `--no-amp` are two actions in many programs."""
    if not isinstance(first, dict) or first == second:
        return second
    if {first["kind"], second["kind"]} == {"true", "false"}:
        true, false = (first, second) if first["kind"] == "true" else (second, first)
        return {**true, "kind": "boolean", "negative": false["flags"]}
    return first
