"""Damaged files of a home: named on standard error and taken as absent, so that one file costs one task at most."""

from __future__ import annotations

import dataclasses
import errno
import functools
import os
import sys
import typing
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import TypeVar

T = TypeVar("T")

Shape = object
"""What a JSON value has to be: a type (`float` takes whole numbers), a set of allowed texts, a tuple of
alternatives (None among them), a list of one shape for all items, or a mapping. Its keys are names (`name?` may be
missing), or `str` for all values; names that it does not list may have any value."""

DAMAGE = (errno.EISDIR, errno.EACCES, errno.EPERM, errno.ELOOP)
"""What says that one file cannot be read; by other errors the disk cannot, and all its files would seem absent."""

_named: set[tuple[str, str]] = set()


class DamagedError(Exception):
    """A file is there, and is not what was once written."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: damaged ({reason})")
        self.path, self.reason = path, reason


def misfit(value: object, shape: Shape, at: str = "") -> str:
    """What of a JSON value does not have the shape; empty: all of it has.

    >>> misfit({"state": "done"}, {"state": frozenset({"completed"})})
    "state: 'done' is none of completed"
    """
    if shape is None or isinstance(shape, type):
        return "" if _is(value, shape) else _expected(value, shape, at)
    if isinstance(shape, tuple):
        return "" if any(_fits(value, each) for each in shape) else misfit(value, shape[0], at)
    if isinstance(shape, frozenset):
        known = isinstance(value, str) and value in shape
        return "" if known else f"{at}: {_short(value)} is none of {', '.join(sorted(shape))}"
    if isinstance(shape, list):
        if not isinstance(value, list):
            return _expected(value, list, at)
        return next(filter(None, (misfit(item, shape[0], f"{at}[{i}]") for i, item in enumerate(value))), "")
    assert isinstance(shape, dict), shape
    return _misfit_of_object(value, shape, at)


@functools.cache
def shape_of(cls: type) -> dict[str, Shape]:
    """Shape of a dataclass as JSON; fields with a default may be missing."""
    hints = typing.get_type_hints(cls)
    optional = {
        spec.name: spec.default is not dataclasses.MISSING or spec.default_factory is not dataclasses.MISSING
        for spec in dataclasses.fields(cls)
    }
    return {f"{name}?" if optional[name] else name: _shape_of_hint(hints[name]) for name in optional}


def fields_of(cls: type, content: Mapping[str, T]) -> dict[str, T]:
    """What of a file's content are fields of a dataclass: the rest is of a later version, or a slip in an editor."""
    names = {spec.name for spec in dataclasses.fields(cls)}
    return {name: value for name, value in content.items() if name in names}


def _shape_of_hint(hint: object) -> Shape:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return shape_of(hint)
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, UnionType):
        return tuple(None if each is type(None) else _shape_of_hint(each) for each in inner)
    if origin in (tuple, list):
        return [_shape_of_hint(inner[0])]
    if origin is not None:
        return {str: _shape_of_hint(inner[1])} if len(inner) == 2 and inner[0] is str else dict
    # Any is a class, too, of which nothing is an instance.
    return hint if isinstance(hint, type) and hint is not typing.Any else object


def note(path: Path, reason: str, outcome: str = "taken as absent") -> None:
    """Name a damaged file on standard error, once in a process."""
    if (str(path), outcome) not in _named:
        _named.add((str(path), outcome))
        print(f"ablate: {path}: damaged ({reason}), {outcome}", file=sys.stderr, flush=True)


def forget() -> None:
    """Name again what was named before: another command begins in this process."""
    _named.clear()


def set_aside(path: Path, reason: str) -> None:
    """Give a damaged file, or the folder in its place, the name `<name>.damaged`, so that it can be written anew."""
    target, number = path.with_name(f"{path.name}.damaged"), 1
    while os.path.lexists(target):
        number += 1
        target = path.with_name(f"{path.name}.damaged.{number}")
    os.rename(path, target)
    note(path, reason, f"kept as {target.name}")


def _misfit_of_object(value: object, shape: Mapping[object, Shape], at: str) -> str:
    if not isinstance(value, dict):
        return _expected(value, dict, at)
    if str in shape:
        sure = _sure(shape[str])  # a record has fifty numbers, and a command reads thousands of records
        items = ((key, item, shape[str]) for key, item in value.items() if type(item) not in sure)
    else:
        named = {str(key): each for key, each in shape.items()}
        absent = [key for key in named if not key.endswith("?") and key not in value]
        if absent:
            return f"{at}: no '{absent[0]}'".removeprefix(": ")
        names = {key.removesuffix("?"): each for key, each in named.items()}
        items = ((key, value[key], each) for key, each in names.items() if key in value)
    found = (misfit(item, each, f"{at}.{key}" if at else str(key)) for key, item, each in items)
    return next(filter(None, found), "")


def _fits(value: object, shape: Shape) -> bool:
    """Whether there is no misfit; its text would take longer."""
    return _is(value, shape) if shape is None or isinstance(shape, type) else not misfit(value, shape)


def _sure(shape: Shape) -> set[type]:
    """Types of which every value has the shape; values of others may have it, too."""
    given = shape if isinstance(shape, tuple) else (shape,)
    kinds = {type(None) if each is None else each for each in given if each is None or isinstance(each, type)}
    return kinds | ({int} if float in kinds else set())


def _is(value: object, kind: type | None) -> bool:
    if kind is None:
        return value is None
    if isinstance(value, bool):
        return kind in (bool, object)
    return isinstance(value, (int, float) if kind is float else kind)


def _expected(value: object, kind: type | None, at: str) -> str:
    words: dict[object, str] = {
        dict: "an object",
        list: "a list",
        str: "text",
        int: "a whole number",
        float: "a number",
        None: "null",
    }
    return f"{at}: expected {words.get(kind, kind)}, found {_short(value)}".removeprefix(": ")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:40] + "…"
