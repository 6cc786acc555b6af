"""Messages with the place that they are about: a line of the study's file, or a word of the command line."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ablative.study.core.errors import ConfigError
from ablative.study.syntax.factors import as_written
from ablative.study.syntax.yaml_text import Document, shown

_OUTPUT = re.compile(r"(table|figure|effect)s? '([^']*)'")
"""How a message begins that a report may give as well."""
_UNKNOWN = re.compile(r"(?:^|: )unknown [\w ]+ '([^']*)'")


class Places:
    """Where what a study says is written."""

    def __init__(self, documents: Sequence[Document], words: Mapping[str, object]) -> None:
        """Look keys up in the study's file first, then in those that it starts from.

        Args:
            documents: the study's own file, then those.
            words: keys of the study that the command line sets, and their values.
        """
        self.where = shown(documents[0].path)
        self._documents, self._words = documents, words

    @contextlib.contextmanager
    def naming_lines(self) -> Iterator[None]:
        """Give errors of the user's file its path and the line, or the word that is at fault."""
        try:
            yield
        except ConfigError as error:
            if type(error) is not ConfigError:
                raise
            raise ConfigError(self.located(str(error))) from error.__cause__

    def located(self, message: str) -> str:
        """The message with the file and line, or the word, of the key that it begins with."""
        bare = message.removeprefix(f"{self.where}: ")
        subject = _OUTPUT.sub(r"\1s.\2", bare, count=1) if _OUTPUT.match(bare) else bare
        named = _UNKNOWN.search(subject)
        whole = f"{subject[: named.start()]}.{named[1]}".removeprefix(".") if named else ""
        for key in self._words:
            if _begins(subject, key) or whole == key:
                return f"override '{key}={as_written(self._words[key])}': {bare}"
        for document in self._documents:
            # A config group's name alone means the choice of the study's base.
            keys = (key for key in document.lines if _begins(subject, key.removeprefix("base.")))
            key = max(keys, key=len, default="")
            if named:
                inner = f"{key}.{named[1]}" if key else named[1]
                key = inner if inner in document.lines else key
            if key:
                return f"{shown(document.path)}:{document.lines[key]}: {bare}"
        return message


def _begins(message: str, key: str) -> bool:
    return message.startswith(key) and message[len(key) : len(key) + 1] in (":", ".", "[", " ", "'")


def about(message: str, keys: Iterable[str]) -> str | None:
    """The key, of several of a configuration, whose value a message is on; None: none of them."""
    head, _, rest = message.partition(": ")
    if named := re.match("unknown key '([^']*)'", rest):
        head = f"{head}.{named[1]}"
    return next((key for key in keys if head == key or head.startswith((f"{key}.", f"{key}["))), None)
