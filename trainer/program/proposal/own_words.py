"""A script that reads its command line itself: its keys are what it is given, in the style of that."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from ablative.trainer.program.config import dotted
from ablative.trainer.program.words import Plain

_PARSERS = re.compile(r"(?i)arg(ument)?_?pars|parse_(known_)?args|cli\b|\btyro\b|simple_parsing|draccus|\btap\b")
"""What is in the source of a program that parses its options with argparse, or with a library on top of it."""
_KEY = r"[A-Za-z_][\w.-]*"
_STYLES = {"equals": re.compile(rf"--({_KEY})=(.*)", re.DOTALL), "hydra": re.compile(rf"({_KEY})=(.*)", re.DOTALL)}
_FLAG = re.compile(rf"--({_KEY})")
_PLAIN = {"true": True, "false": False, "null": None}
_MOST_FILES, _MOST_BYTES = 500, 200_000


@dataclass(frozen=True)
class OwnWords:
    """The words of every run, as keys and their values."""

    values: Mapping[str, Plain]
    style: str
    """How `{args}` writes them: `equals`, `space` or `hydra`."""
    quoted: frozenset[str]
    """Keys whose values were in quotes: the program takes the words for Python."""
    words: tuple[str, ...]
    """Those that are no keys."""


def parses_options(script: Path) -> bool:
    """Whether a script, or a module that it imports from its folder, has options that argparse could be asked for."""
    left, seen = [script.resolve()], set[Path]()
    while left and len(seen) < _MOST_FILES:
        path = left.pop()
        if path in seen:
            continue
        seen.add(path)
        text = path.read_text(encoding="utf-8", errors="replace")
        if _PARSERS.search(text):
            return True
        left += _imported(path, text)
    return False


def own_words(words: Sequence[str]) -> OwnWords:
    """The keys that a command line gives, in the style of the first of them."""
    values: dict[str, Plain] = {}
    quoted, left, style, number = set(), [], "", 0
    while number < len(words):
        found, key, text, used = _pair(words[number : number + 2])
        if not found or (style and found != style):
            left.append(words[number])
            number += 1
            continue
        style = found
        values[key] = _value(text, style)
        if text[:1] in ("'", '"'):
            quoted.add(key)
        number += used
    return OwnWords(values, style or "equals", frozenset(quoted), tuple(left))


def written_configuration(out: Path, given: Mapping[str, Plain]) -> tuple[Path | None, dict[str, Plain]]:
    """The file of an output folder in which a program has written its whole configuration, and the keys in it.

    It is the file that has all keys which the program was given; without one these are all that is known.
    """
    for path in sorted(out.rglob("*")) if given else ():
        if path.suffix not in (".json", ".yaml", ".yml") or path.stat().st_size > _MOST_BYTES:
            continue
        try:
            tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError):
            continue
        found = dotted(tree) if isinstance(tree, dict) else {}
        if found.keys() >= given.keys():
            return path, {**{key: value for key, value in found.items() if _is_plain(value)}, **given}
    return None, dict(given)


def _pair(words: Sequence[str]) -> tuple[str, str, str, int]:
    """Style, key, value and number of words of a setting at the beginning; no style: there is none."""
    for style, form in _STYLES.items():
        if match := form.fullmatch(words[0]):
            return style, match[1], match[2], 1
    match = _FLAG.fullmatch(words[0])
    if match and len(words) == 2 and not words[1].startswith("-"):
        return "space", match[1], words[1], 2
    return "", "", "", 0


def _value(text: str, style: str) -> Plain:
    if style == "hydra" and text in _PLAIN:
        return _PLAIN[text]
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return value if _is_plain(value) else text


def _is_plain(value: Plain) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def _imported(path: Path, text: str) -> Iterator[Path]:
    """Files of modules that a file imports, of those that lie in its folder or in one above it in its repository."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return
    above = path.parents[:4]
    git = next((number for number, folder in enumerate(above) if (folder / ".git").exists()), len(above) - 1)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from _files([name.name for name in node.names], above[: git + 1])
        elif isinstance(node, ast.ImportFrom):
            own = node.module or ""
            names = [own, *(f"{own}.{name.name}".strip(".") for name in node.names)]
            yield from _files(names, [path.parents[node.level - 1]] if node.level else above[: git + 1])


def _files(modules: Sequence[str], folders: Sequence[Path]) -> Iterator[Path]:
    for inner in (Path(*name.split(".")) for name in modules if name):
        for folder in folders:
            options = (folder / inner.with_suffix(".py"), folder / inner / "__init__.py")
            yield from (file for file in options if file.is_file())
