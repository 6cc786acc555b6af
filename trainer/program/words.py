"""Placeholders in the words of a command: which there are, and what they are filled with.

`{args}` becomes the keys that the program is given, in one of four styles; `{key}` one of them; `{seed}`, `{out}`,
`{STAGE.out}`, `{config_file}` and `{processes}` what their names say. No shell reads the words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ablative.study.core.errors import ConfigError, unknown
from ablative.study.core.typed import Settings

Plain = Any
"""One value of a configuration, of the types that JSON has."""
STYLES = ("equals", "space", "hydra", "flags")
"""`--key=value` (`{args}`), `--key value`, `key=value`; `flags` is the first, but for true and false `--key` or
nothing, and for lists `--key 1 2`."""
FIXED = ("seed", "out", "config_file", "processes", "python")
RESUMED = ("resume.file", "resume.folder")
"""What `resume.args` may name in addition: the newest file that `resume.file` means, and the folder that it is in."""
_WORD = re.compile(r"\{([A-Za-z_][\w.-]*(?::[A-Za-z]+)?)\}")
_PLAIN = re.compile(r"[A-Za-z0-9_./@:+-]+")
"""Text that Hydra's grammar takes without quotes, as long as it is no number and no word of YAML."""


def placeholders(texts: Iterable[str]) -> list[str]:
    """Names in braces, in order, with their style (`args:space`). Other braces are text."""
    return [name for text in texts for name in _WORD.findall(text)]


def reads_all(names: Collection[str]) -> bool:
    """Whether a command with these placeholders is given every key."""
    return any(name.partition(":")[0] in ("args", "config_file") for name in names)


def check_placeholders(texts: Sequence[str], keys: Collection[str], stages: Collection[str], where: str) -> None:
    """Raise ConfigError for a placeholder that means nothing.

    Args:
        texts: words of a command.
        keys: of the stage's configuration.
        stages: whose output folders it may name.
        where: for messages.
    """
    allowed = ["args", *(f"args:{style}" for style in STYLES), *FIXED, *(f"{stage}.out" for stage in stages), *keys]
    for name in placeholders(texts):
        if name not in allowed:
            hint = ""
            if name.endswith(".out"):
                hint = f"; a stage names the folders of those that it comes after: after: {name.removesuffix('.out')}"
            raise ConfigError(unknown("word", name, allowed, f"{where}: {{{name}}}") + hint)


def without_unknown(texts: Sequence[str], known: Collection[str]) -> list[str]:
    """Words of a command without those that hold other keys than these, and without the options before them."""
    found: list[str] = []
    for text in texts:
        names = [name for name in placeholders([text]) if name.partition(":")[0] != "args"]
        if all(name in known for name in names):
            found.append(text)
        elif found and found[-1].startswith("-") and "=" not in found[-1] and _WORD.fullmatch(text):
            found.pop()
    return found


@dataclass(frozen=True)
class Filling:
    """What placeholders are filled with."""

    values: Settings
    """Dotted key → value, of the whole configuration."""
    given: Settings
    """Those that `{args}` means."""
    fixed: Mapping[str, str]
    """`seed`, `out`, `train.out`, …"""
    rename: Mapping[str, str]
    """Key → what the command line calls it."""
    options: Settings
    """Key → `{"flags": […], "kind": …}`, where the program was asked."""

    def words(self, texts: Iterable[str]) -> list[str]:
        """The words of a command, filled in; a word that is `{args}` alone becomes as many as there are keys."""
        return [word for text in texts for word in self._word(text)]

    def text(self, text: str) -> str:
        """One text, filled in."""
        return _WORD.sub(lambda match: self._value(match[1]), text)

    def knows(self, text: str) -> bool:
        """Whether there is something to fill in, and all of it is known."""
        names = placeholders([text])
        return bool(names) and all(name in self.fixed or name in self.values for name in names)

    def _word(self, text: str) -> Iterator[str]:
        match = _WORD.fullmatch(text)
        if match is None or match[1].partition(":")[0] != "args":
            yield self.text(text)
            return
        style = match[1].partition(":")[2] or "equals"
        for key, value in self.given.items():
            yield from self._argument(key, value, style)

    def _argument(self, key: str, value: Plain, style: str) -> Iterator[str]:
        name = self.rename.get(key, key)
        if style == "hydra":
            yield f"{name}={hydra_text(value)}"
            return
        option = self.options.get(key)
        if option is not None and key not in self.rename:
            yield from _by_option(key, value, option)
            return
        flag = name if name.startswith("-") else f"--{name}"
        if isinstance(value, bool) and style == "flags":
            yield from [flag] if value else []
        elif isinstance(value, list | tuple) and style != "equals":
            yield from (flag, *map(plain_text, value))
        elif style != "space":
            yield f"{flag}={plain_text(value)}"
        else:
            yield from (flag, plain_text(value))

    def _value(self, name: str) -> str:
        if name.partition(":")[0] == "args":
            # Inside another word there is one text for all keys.
            return " ".join(self._word(f"{{{name}}}"))
        return self.fixed[name] if name in self.fixed else plain_text(self.values[name])


def _by_option(key: str, value: Plain, option: Settings) -> Iterator[str]:
    """Words for an option of `argparse`, whatever its name and action."""
    flags, kind = option["flags"], option["kind"]
    long = [flag for flag in flags if flag.startswith("--")] or flags
    if not long:
        yield from map(plain_text, value if isinstance(value, list | tuple) else [value])
    elif kind in ("true", "false"):
        yield from [long[0]] if bool(value) == (kind == "true") else []
    elif kind == "boolean":
        yield long[0] if value else option["negative"][0]
    elif kind == "count":
        yield from [long[0]] * int(value)
    elif isinstance(value, list | tuple):
        yield from (long[0], *map(plain_text, value))
    elif value is not None:
        yield f"{long[0]}={plain_text(value)}"


def plain_text(value: Plain) -> str:
    """A value as most command lines take it: Python's words for true, false and nothing, JSON for mappings."""
    if isinstance(value, Mapping):
        return json.dumps(value)
    if isinstance(value, list | tuple):
        return ",".join(map(plain_text, value))
    return str(value)


def hydra_text(value: Plain) -> str:
    """A value in Hydra's grammar of overrides."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{hydra_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(hydra_text, value)) + "]"
    if isinstance(value, int | float):
        return str(value)
    text = str(value)
    if _PLAIN.fullmatch(text) and not _is_other(text):
        return text
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", text)
    trailing = len(escaped) - len(escaped.rstrip("\\"))
    return f"'{escaped}{chr(92) * trailing}'"


def _is_other(text: str) -> bool:
    """Whether Hydra would read the text as a number, true, false or nothing, or as more than a text."""
    try:
        float(text)
    except ValueError:
        return text.lower() in ("true", "false", "null", "nan", "inf", "") or ":" in text
    return True
