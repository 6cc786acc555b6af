"""YAML files as text: what Hydra would read wrongly without a word is refused, and the line of each key is known."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from ablative.study.core.errors import ConfigError

DEEPEST = 50
"""Levels of nesting; what is nested deeper cannot be composed."""
_OCTAL = re.compile(r"[-+]?0[0-7_]+")
_SIXTIES = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")
_PACKAGE = re.compile(r"^\s*#\s*@", re.MULTILINE)
_MERGE = "tag:yaml.org,2002:merge"
_FLOAT = re.compile(
    r"""[-+]?[0-9]+(_[0-9]+)*(\.[0-9_]*([eE][-+]?[0-9]+)?|[eE][-+]?[0-9]+)
    |\.[0-9]+(_[0-9]+)*([eE][-+][0-9]+)?
    |[-+]?[0-9]+(_[0-9]+)*(:[0-5]?[0-9])+\.[0-9_]*
    |[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)""",
    re.VERBOSE,
)


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Reads scalars as Hydra's loader does: `1e-3` is a number, a date is text."""


_Loader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0] not in ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:float")]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(f"^(?:{_FLOAT.pattern})$", re.X), "-+0123456789.")


@dataclass(frozen=True)
class Document:
    """The keys of a YAML file and the lines on which they are written."""

    path: Path
    lines: Mapping[str, int]
    """Dotted key → its line, counted from 1; `columns[0]` for the items of a list."""
    defaults: tuple[str, ...]
    """Names in Hydra's list of defaults: files of the same folder that this one starts from."""
    empty: bool
    """It holds no keys."""
    alone: dict[str, object] | None
    """Its content, where Hydra would add nothing to it: no list of defaults, package or interpolation; else None."""


def shown(path: Path) -> str:
    """A path for messages: relative where it lies below the working folder."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def read_text(path: Path) -> str:
    """The file's text, whatever the locale; raises ConfigError where it is no UTF-8."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{shown(path)}: no UTF-8 (byte {error.start}); save the file as UTF-8") from None


def load_yaml(text: str) -> object:
    """What a text of YAML means to Hydra."""
    found: object = yaml.load(text, Loader=_Loader)
    return found


def read_document(path: Path) -> Document:
    """The file's keys.

    Raises:
        ConfigError: it is no UTF-8, no YAML or no mapping, or holds what would be read as something else than it
            says: equal keys (`0.1` and `0.10`), octal numbers, minutes (`1:30`), infinite numbers.
    """
    text = read_text(path)
    try:
        _check_depth(text, path)
        loader = _Loader(text)
        root = loader.get_single_node()
    except yaml.YAMLError as error:
        raise ConfigError(_not_yaml(error, text, path)) from None
    if root is not None and not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{shown(path)}:{_line(root)}: expected keys and values, found {_short(root)}")
    lines = dict(_Keys(loader, path).of(root)) if root is not None else {}
    return Document(path, lines, tuple(_defaults(root)), not lines, _alone(text))


def content(path: Path) -> object:
    """The file's content as plain values, without Hydra; raises ConfigError as `read_document` does."""
    read_document(path)
    found: object = yaml.load(read_text(path), Loader=_Loader)
    return found


def _alone(text: str) -> dict[str, object] | None:
    if "${" in text or _PACKAGE.search(text):
        return None
    try:
        content = _plain(yaml.load(text, Loader=_Loader))
    except (yaml.YAMLError, TypeError):
        return None  # Hydra says what is wrong with it
    return content if isinstance(content, dict) and "defaults" not in content else None


def _plain(value: object) -> object:
    """The value with a copy for each alias; raises TypeError for a type that no configuration may have."""
    if isinstance(value, dict):
        return {_scalar(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else _scalar(value)


def _scalar(value: object) -> object:
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise TypeError(f"{type(value)} in a configuration")


def _check_depth(text: str, path: Path) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ConfigError(f"{shown(path)}:{event.start_mark.line + 1}: nested more than {DEEPEST} levels deep")


def _not_yaml(error: yaml.YAMLError, text: str, path: Path) -> str:
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        place = f":{mark.line + 1}" if mark else ""
        reason = " ".join(filter(None, [error.context, error.problem]))
        return f"{shown(path)}{place}: not YAML: {reason}"
    return f"{shown(path)}: not YAML: {' '.join(str(error).split())}"


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _short(node: yaml.Node) -> str:
    return repr(node.value) if isinstance(node, yaml.ScalarNode) else f"a {node.id}"


def _defaults(root: yaml.MappingNode | None) -> Iterator[str]:
    for key, value in root.value if root is not None else ():
        if key.value == "defaults" and isinstance(value, yaml.SequenceNode):
            yield from (item.value for item in value.value if isinstance(item, yaml.ScalarNode))


class _Keys:
    """Walks through the nodes of one file and checks them."""

    def __init__(self, loader: _Loader, path: Path) -> None:
        self._loader, self._path = loader, path
        self._seen: set[int] = set()
        """Nodes that were walked through; an alias means one of them again."""
        self._open: list[int] = []

    def of(self, node: yaml.Node, prefix: str = "") -> Iterator[tuple[str, int]]:
        """(Dotted key, line) of everything below a node."""
        if id(node) in self._open:
            raise self._error(node, f"{prefix}: an alias (*) within what it stands for")
        if id(node) in self._seen:
            return
        self._seen.add(id(node))
        self._open.append(id(node))
        if isinstance(node, yaml.MappingNode):
            yield from self._mapping(node, prefix)
        elif isinstance(node, yaml.SequenceNode):
            for place, item in enumerate(node.value):
                yield f"{prefix}[{place}]", _line(item)
                yield from self.of(item, f"{prefix}[{place}]")
        else:
            self._value(node, prefix)
        self._open.pop()

    def _mapping(self, node: yaml.MappingNode, prefix: str) -> Iterator[tuple[str, int]]:
        known: list[tuple[object, str]] = []
        for key, value in node.value:
            if key.tag == _MERGE:
                yield from self.of(value, prefix)
                continue
            name = self._key(key, prefix)
            text = key.value if isinstance(name, str) is False else repr(key.value)
            for other, written in known:
                if other == name or str(other) == str(name):
                    at = f"{prefix}: " if prefix else ""
                    if written == text:
                        raise self._error(key, f"{at}found duplicate key {key.value}")
                    raise self._error(
                        key, f"{at}{written} and {text} are one name, {name}; write both in quotes, and differently"
                    )
            known.append((name, text))
            at = f"{prefix}.{name}" if prefix else str(name)
            yield at, _line(key)
            yield from self.of(value, at)

    def _key(self, node: yaml.Node, prefix: str) -> object:
        """What a key is read as."""
        at = f"{prefix}: " if prefix else ""
        if not isinstance(node, yaml.ScalarNode):
            raise self._error(node, f"{at}expected a name before the colon, found {_short(node)}; put it in quotes")
        self._check_number(node, f"{prefix}.{node.value}" if prefix else str(node.value))
        name = self._loader.construct_object(node)
        if name is None or (isinstance(name, float) and not math.isfinite(name)):
            raise self._error(node, f"{at}a name is read as {_read(name)}; write '{node.value}' in quotes")
        return name

    def _value(self, node: yaml.Node, prefix: str) -> None:
        self._check_number(node, prefix)
        if node.tag.endswith(":float") and not math.isfinite(float(self._loader.construct_object(node))):
            raise self._error(node, f"{prefix}: {node.value} is no finite number")

    def _check_number(self, node: yaml.Node, at: str) -> None:
        if not node.tag.endswith((":int", ":float")):
            return
        if _OCTAL.fullmatch(node.value):
            plain = node.value.replace("_", "")
            raise self._error(
                node,
                f"{at}: {node.value} is read as an octal number, {int(plain, 8)}; write {int(plain)}, or "
                f"'{node.value}' in quotes",
            )
        if _SIXTIES.fullmatch(node.value):
            seconds = self._loader.construct_object(node)
            raise self._error(node, f"{at}: {node.value} is read as {seconds}, base 60; write '{node.value}' in quotes")

    def _error(self, node: yaml.Node, text: str) -> ConfigError:
        return ConfigError(f"{shown(self._path)}:{_line(node)}: {text}")


def _read(name: object) -> str:
    return "null" if name is None else f"the number {name}"
