"""Every key that can be written, read from the classes that declare it: type, default, range and docstring."""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from pathlib import Path

import yaml

from ablative.study.core.plugins import Plugins
from ablative.study.core.typed import plain

NAMES = {int: "whole number", float: "number", bool: "true or false", str: "text", object: "anything"}
NAME = "NAME"
"""Part of a key that the user chooses."""
ITEM = "[]"
"""After a key whose value is a list of mappings: what follows is a key of one of them."""


UNSET = "not set"
"""A default that no value has."""


class UndocumentedError(Exception):
    """A key has no docstring: a mistake of ours, or of a trainer's author."""


@dataclass(frozen=True)
class Key:
    """One key."""

    name: str
    """Dotted; `NAME` where the user chooses the part."""
    kind: str
    """What its value is, for people."""
    default: str
    """The default, as YAML writes it; empty: it has to be given."""
    limits: str
    """Its range, for people; empty: there is none."""
    meaning: str
    owner: str
    """`study` (key of every study file), `cluster`, or the trainer that has it."""
    choices: tuple[str, ...] = ()
    """Allowed values; empty: whatever the type allows."""

    def matches(self, prefix: str) -> bool:
        """Whether the key is the prefix, or lies below it; what the user chose fits `NAME`."""
        own, wanted = _parts(self.name), _parts(prefix)
        if len(wanted) > len(own):
            return False
        pairs = list(zip(own, wanted, strict=False))
        *before, (last, begun) = pairs
        whole = all(NAME in (mine, its) or mine == its for mine, its in before)
        return whole and (last in (NAME, begun) or last.startswith(begun))


def _parts(name: str) -> list[str]:
    return name.replace(ITEM, "").split(".")


def declared(kind: object, prefix: str, owner: str) -> Iterator[Key]:
    """The keys below `prefix`, whose value is a mapping that the class (or the form of classes) declares.

    Raises:
        UndocumentedError: one of them has no docstring.
    """
    if not (isinstance(kind, type) and is_dataclass(kind)):
        for below, deeper in _sections(kind, prefix):
            yield from declared(below, deeper, owner)
        return
    hints, documents = typing.get_type_hints(kind, include_extras=True), docstrings(kind)
    for spec in fields(kind):
        own = spec.name.rstrip("_")
        name = f"{prefix}.{own}" if prefix else own
        written = spec.metadata.get("written") or hints[spec.name]
        inner = [key for one, deeper in _sections(written, name) for key in declared(one, deeper, owner)]
        if spec.name not in documents:
            raise UndocumentedError(f"{kind.__module__}.{kind.__qualname__}.{spec.name} ({name}) has no docstring")
        if not inner or not (isinstance(written, type) and is_dataclass(written)):
            yield _key(name, written, spec, documents[spec.name], owner)
        yield from inner


def _key(name: str, written: object, spec: Field[object], meaning: str, owner: str) -> Key:
    choices = spec.metadata.get("choices")
    # Executors of other distributions are found where a cluster is configured; here each reference names our own.
    found = tuple(choices.shipped if isinstance(choices, Plugins) else choices or ())
    shown = " | ".join(str(choice) for choice in found if choice != "")
    return Key(
        name, shown or kind_of(written), _default(spec), limits(spec.metadata), meaning, owner, tuple(map(str, found))
    )


def _sections(kind: object, name: str) -> Iterator[tuple[type, str]]:
    """The classes in a form, each with the prefix of its keys."""
    kind = _bare(kind)
    if isinstance(kind, type) and is_dataclass(kind):
        yield kind, name
        return
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (list, tuple):
        yield from _sections(arguments[0], name + ITEM)
    elif origin is dict:
        yield from _sections(arguments[1], f"{name}.{NAME}")
    elif is_union(origin):
        seen: set[type] = set()
        for argument in arguments:
            for found, deeper in _sections(argument, name):
                if found not in seen:
                    seen.add(found)
                    yield found, deeper.replace(ITEM, "") if deeper == name + ITEM else deeper


def kind_of(kind: object) -> str:
    """A type in words."""
    if typing.get_origin(kind) is typing.Annotated:
        return str(typing.get_args(kind)[1])
    if isinstance(kind, type) and is_dataclass(kind):
        return "keys and values"
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (list, tuple):
        return f"list of {_plural(kind_of(arguments[0]))}"
    if origin is dict:
        return f"{{{NAME}: {kind_of(arguments[1])}}}"
    if is_union(origin):
        found = [kind_of(argument) for argument in arguments if argument is not type(None)]
        return " or ".join(dict.fromkeys(found)) + (", or null" if type(None) in arguments else "")
    return NAMES.get(kind if isinstance(kind, type) else object, "anything")


def _plural(kind: str) -> str:
    if kind.startswith("{"):
        return kind
    return {"keys and values": "mappings", "anything": "values"}.get(kind, f"{kind}s")


def is_union(origin: object) -> bool:
    """Whether a type with this origin is one of several."""
    return origin in (typing.Union, types.UnionType)


def _bare(kind: object) -> object:
    return typing.get_args(kind)[0] if typing.get_origin(kind) is typing.Annotated else kind


def _default(spec: Field[object]) -> str:
    value = spec.default
    if value is MISSING:
        return "" if spec.default_factory is MISSING else "{}"
    if value is None and type(None) not in typing.get_args(spec.type):
        return UNSET
    text = yaml.safe_dump(plain(value), default_flow_style=True, allow_unicode=True, width=10**6)
    return str(text).split("\n")[0]


def limits(metadata: Mapping[str, object]) -> str:
    """A field's range in words."""
    words = (("low", "≥"), ("above", ">"), ("high", "≤"), ("below", "<"))
    found = ((sign, metadata.get(name)) for name, sign in words)
    return ", ".join(f"{sign} {value:g}" for sign, value in found if isinstance(value, int | float))


@functools.cache
def docstrings(kind: type) -> Mapping[str, str]:
    """Field → its docstring, as written below it in the class or one that it inherits from."""
    found: dict[str, str] = {}
    for cls in reversed(kind.__mro__):
        if not is_dataclass(cls):
            continue
        node = next((node for node in _parsed(inspect.getfile(cls)).body if _named(node) == cls.__name__), None)
        for statement, after in itertools.pairwise(getattr(node, "body", [])):
            text = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else None
            target = statement.target if isinstance(statement, ast.AnnAssign) else None
            if isinstance(target, ast.Name) and isinstance(text, str):
                found[target.id] = " ".join(text.split())
    return found


@functools.cache
def _parsed(file: str) -> ast.Module:
    return ast.parse(Path(file).read_text(encoding="utf-8"))


def _named(node: ast.stmt) -> str:
    return node.name if isinstance(node, ast.ClassDef) else ""
