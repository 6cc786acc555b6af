"""Damaged files of a home: named on standard error and taken as absent, so that one file costs one task at most."""

from __future__ import annotations

import dataclasses
import errno
import functools
import os
import sys
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from types import UnionType
from typing import TypeVar

T = TypeVar("T")

Shape = object
"""What a JSON value has to be: a type (`float` takes whole numbers), a set of allowed texts, a tuple of
alternatives (None among them), a list of one shape for all items, or a mapping. Its keys are names (`name?` may be
missing), or `str` for all values; names that it does not list may have any value."""

Test = Callable[[object], bool]
"""Whether a value has a shape."""

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
    if _test(_Same(shape))(value):
        return ""
    if shape is None or isinstance(shape, type):
        return _expected(value, shape, at)
    if isinstance(shape, tuple):
        return misfit(value, shape[0], at)
    if isinstance(shape, frozenset):
        return f"{at}: {_short(value)} is none of {', '.join(sorted(shape))}"
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
    names = _names(cls)
    return {name: value for name, value in content.items() if name in names}


@functools.cache
def _names(cls: type) -> frozenset[str]:
    return frozenset(spec.name for spec in dataclasses.fields(cls))


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
        items = [(key, item, shape[str]) for key, item in value.items()]
    else:
        absent = [key for key in map(str, shape) if not key.endswith("?") and key not in value]
        if absent:
            return f"{at}: no '{absent[0]}'".removeprefix(": ")
        names = {str(key).removesuffix("?"): each for key, each in shape.items()}
        items = [(key, value[key], each) for key, each in names.items() if key in value]
    found = (misfit(item, each, f"{at}.{key}" if at else str(key)) for key, item, each in items)
    return next(filter(None, found), "")


class _Same:
    """A shape as a key: mappings have no hash, and most shapes are constants."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape

    def __hash__(self) -> int:
        return id(self.shape)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.shape is other.shape


@functools.lru_cache(maxsize=128)
def _test(same: _Same) -> Test:
    return _test_of(same.shape)


def _test_of(shape: Shape) -> Test:
    """The function that a shape is: files have some hundred values, commands read thousands of files, and nearly all
    of them are whole."""
    if shape is None:
        return lambda value: value is None
    if isinstance(shape, frozenset):
        return lambda value: isinstance(value, str) and value in shape
    if isinstance(shape, type):
        return _test_of_type(shape)
    if isinstance(shape, tuple):
        some = [_test_of(one) for one in shape]
        return lambda value: any(test(value) for test in some)
    if isinstance(shape, list):
        each = _test_of(shape[0])
        return lambda value: isinstance(value, list) and all(map(each, value))
    assert isinstance(shape, dict), shape
    if str in shape:
        each = _test_of(shape[str])
        return lambda value: isinstance(value, dict) and all(map(each, value.values()))
    tests = [(str(key).removesuffix("?"), _test_of(each)) for key, each in shape.items()]
    required = {str(key) for key in shape if not str(key).endswith("?")}
    return lambda value: (
        isinstance(value, dict)
        and required <= value.keys()
        and all([test(value[name]) for name, test in tests if name in value])
    )


def _test_of_type(kind: type) -> Test:
    """JSON's true and false are no numbers."""
    kinds = (int, float) if kind is float else (kind,)
    logical = kind in (bool, object)
    return lambda value: type(value) in kinds or (isinstance(value, kinds) and (logical or not isinstance(value, bool)))


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
