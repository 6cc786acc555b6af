"""Configuration trees of plain files, put together as Hydra would: importing and asking it takes most of a small plan.

Plain are files of the forms in which this program's own are written: `defaults:` with `_self_` in it, whose other
items are `group: option` or `group: ${other group}` in a primary config, and in an option's file names of its group or
`/group/option@key`; `# @package _global_`. OmegaConf says what `${…}` in a value means. All else is Hydra's.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from ablative.study.core.errors import ConfigError
from ablative.study.syntax.words import Tree
from ablative.study.syntax.yaml_text import load_yaml, read_document, read_text

SELF = "_self_"
Source = Callable[[str, str], Path | None]
"""(Config group, option) → its file; None: there is none."""
Package = tuple[str, ...]
"""Keys below which the content of a file goes."""

_NAME = re.compile(r"[\w.-]+")
_GROUP = re.compile(r"\$\{(\w+)\}")
_ELSEWHERE = re.compile(r"/(\w+)/([\w.-]+)@(\w+)")
_MORE = re.compile(r"\+(\w+)@([\w.]+)=([\w.-]+)")
_WHOLE = "# @package _global_"


class NotPlainError(Exception):
    """Only Hydra knows what this means, or what is wrong with it."""


@dataclass(frozen=True)
class _File:
    content: Tree
    defaults: tuple[object, ...]
    whole: bool
    """Its keys are those of the tree, and not of its group's branch."""


def compose_study(source: Source, name: str) -> Tree:
    """The tree of a study: its content below `study`."""
    return _merged(_parts(source, "study", name, ("study",), set()))


def compose_tree(source: Source, primary: Path, choices: Mapping[str, str], more: Sequence[str]) -> Tree:
    """The tree that a primary config starts, with other options of some of its groups.

    Args:
        source: where options lie.
        primary: the config's file.
        choices: config group → option.
        more: further options, as `+group@key.key=option`.
    """
    file = _read(primary)
    groups = {group: option for item in file.defaults if item != SELF for group, option in _pair(item)}
    if SELF not in file.defaults or file.whole or not groups.keys() >= choices.keys():
        raise NotPlainError
    chosen = {**groups, **choices}
    seen: set[tuple[str, str]] = set()
    found: list[tuple[Package, Tree]] = []
    for item in file.defaults:
        if item == SELF:
            found.append(((), file.content))
            continue
        [(group, _)] = _pair(item)
        other = _GROUP.fullmatch(chosen[group])
        option = chosen.get(other[1], "") if other else chosen[group]
        found += _parts(source, group, option, (group,), seen)
    for text in more:
        match = _MORE.fullmatch(text)
        if match is None:
            raise NotPlainError
        found += _parts(source, match[1], match[3], tuple(match[2].split(".")), seen)
    return _merged(found)


def _pair(item: object) -> list[tuple[str, str]]:
    """The only entry of an item of a primary config's list of defaults."""
    pairs = list(item.items()) if isinstance(item, Mapping) else []
    if len(pairs) != 1 or not all(isinstance(part, str) for part in pairs[0]) or not _NAME.fullmatch(pairs[0][0]):
        raise NotPlainError
    return pairs


def _parts(
    source: Source, group: str, option: str, package: Package, seen: set[tuple[str, str]]
) -> Iterator[tuple[Package, Tree]]:
    """What an option's file says, and those that it starts from, in the order in which they are merged."""
    path = source(group, option) if _NAME.fullmatch(option) else None
    if path is None or (group, option) in seen:
        raise NotPlainError
    seen.add((group, option))
    file = _read(path)
    if file.whole:
        if package != (group,) or file.defaults or "hydra" in file.content:
            raise NotPlainError
        yield (), file.content
        return
    if file.defaults and SELF not in file.defaults:
        raise NotPlainError
    for item in file.defaults or (SELF,):
        if not isinstance(item, str):
            raise NotPlainError
        if item == SELF:
            yield package, file.content
        elif elsewhere := _ELSEWHERE.fullmatch(item):
            yield from _parts(source, elsewhere[1], elsewhere[2], (*package, elsewhere[3]), seen)
        else:
            yield from _parts(source, group, item, package, seen)


def _read(path: Path) -> _File:
    stat = path.stat()
    return _read_once(path, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(1024)
def _read_once(path: Path, modified: int, size: int) -> _File:
    """A file as it is now."""
    try:
        read_document(path)  # what Hydra refuses, equal keys for one, is no plain file
        text = read_text(path)
        content = load_yaml(text)
    except (ConfigError, yaml.YAMLError):
        raise NotPlainError from None
    content = {} if content is None else content
    whole = text.startswith(f"{_WHOLE}\n")
    other_directives = "@" in text and re.search(r"^\s*#\s*@", text.removeprefix(_WHOLE), re.MULTILINE)
    if not isinstance(content, dict) or other_directives or not _is_plain(content):
        raise NotPlainError
    defaults = content.pop("defaults", [])
    if not isinstance(defaults, list):
        raise NotPlainError
    return _File(content, tuple(defaults), whole)


def _is_plain(value: object) -> bool:
    """Whether Hydra would take a value as it is."""
    if isinstance(value, dict):
        return all(isinstance(key, str | int | float) and _is_plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or (isinstance(value, str | int | float) and value != "???")


def _merged(parts: Iterable[tuple[Package, Tree]]) -> Tree:
    tree: Tree = {}
    for package, content in parts:
        for key in reversed(package):
            content = {key: content}
        tree = _merge(tree, content)
    return _resolved(tree) if _refers(tree) else tree


def _merge(tree: Tree, content: Tree) -> Tree:
    """Mappings key by key, anything else replaced."""
    found = dict(tree)
    for key, value in content.items():
        own = found.get(key)
        found[key] = _merge(own if isinstance(own, dict) else {}, value) if isinstance(value, dict) else value
    return found


def _refers(value: object) -> bool:
    """Whether a value refers to others."""
    if isinstance(value, Mapping):
        return any(map(_refers, value.values()))
    return any(map(_refers, value)) if isinstance(value, list) else isinstance(value, str) and "${" in value


def _resolved(tree: Tree) -> Tree:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        found: Tree = OmegaConf.to_container(OmegaConf.create(tree), resolve=True)  # type: ignore[assignment]
    except OmegaConfBaseException:
        raise NotPlainError from None
    return found
