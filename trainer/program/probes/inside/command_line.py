"""`sys.argv` of a program that answers for several command lines, and what the program has asked of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator

PARSERS = ("click", "fire", "absl", "docopt", "tyro", "cyclopts", "plac", "clize", "sacred")
"""Libraries other than argparse that parse command lines; a program that lets them goes on to train."""


class CommandLine(list):  # type: ignore[type-arg]
    """A list that records what the user's code reads, apart from the name of the program.

    A program that looks for `--config` in `sys.argv` before it parses comes another way for another command line: then
    its parser answers for those alone to which all that was asked has the same answer.
    """

    def __init__(
        self, words: Iterable[str], is_users: Callable[[str], bool], parsed_by: Callable[[str], object]
    ) -> None:
        """`parsed_by` is called when one of `PARSERS` reads the words."""
        super().__init__(words)
        self._is_users, self._parsed_by = is_users, parsed_by
        self._asked: list[tuple[Callable[[list[str]], object], object]] = []
        self.recording = True

    def _ask(self, question: Callable[[list[str]], object]) -> object:
        answer = question(list(super().__iter__()))
        caller = sys._getframe(2)
        library = str(caller.f_globals.get("__name__")).split(".")[0]
        if self.recording and library in PARSERS:
            self._parsed_by(library)
        if self.recording and self._is_users(caller.f_code.co_filename):
            self._asked.append((question, answer))
        return answer

    def gave(self, words: object) -> bool:
        """Whether the program has read a part of the command line in order to have it parsed.

        That says nothing of the way that it came.
        """
        others = [pair for pair in self._asked if pair[1] is not words]
        given = len(others) < len(self._asked)
        self._asked = others
        return given

    def same_way(self, words: list[str]) -> bool:
        """Whether the program would have come the same way with other words."""
        line = [*super().__getitem__(slice(1)), *words]
        return all(question(line) == answer for question, answer in self._asked)

    def __getitem__(self, at: object) -> object:  # type: ignore[override]
        if at == 0:
            return super().__getitem__(0)

        def question(line: list[str]) -> object:
            try:
                return line[at]  # type: ignore[call-overload]
            except IndexError:
                return IndexError

        found = self._ask(question)
        if found is IndexError:
            raise IndexError("list index out of range")
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._ask(lambda line: line))  # type: ignore[call-overload, no-any-return]

    def __len__(self) -> int:
        return self._ask(len)  # type: ignore[return-value]

    def __contains__(self, word: object) -> bool:
        return self._ask(lambda line: word in line)  # type: ignore[return-value]

    def __eq__(self, other: object) -> bool:
        return self._ask(lambda line: line == other)  # type: ignore[return-value]

    __hash__ = None

    def __reduce__(self) -> tuple[object, ...]:
        return list, (list(super().__iter__()),)


def _reads_all(name: str) -> Callable[..., object]:
    def method(line: CommandLine, *arguments: object) -> object:
        line._ask(list)
        found: object = getattr(list, name)(line, *arguments)
        return found

    return method


for _name in ("index", "count", "copy", "pop", "remove", "insert", "append", "extend", "__add__", "__delitem__"):
    setattr(CommandLine, _name, _reads_all(_name))
