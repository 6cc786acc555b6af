"""Values of a program as JSON: equal values give equal JSON in every process."""

from __future__ import annotations

import argparse
import dataclasses
import enum
import math
import os
import types
from collections.abc import Mapping


def plain(value: object) -> object:
    """The value as JSON; what JSON has no word for becomes text that says what it is."""
    if isinstance(value, enum.Enum):
        return value.name
    if value is None or isinstance(value, (bool, int, float, str)):
        return _scalar(value)
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, argparse.Namespace):
        return plain(vars(value))
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((plain(item) for item in value), key=repr)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {spec.name: plain(getattr(value, spec.name)) for spec in dataclasses.fields(value)}
    return _other(value)


def _scalar(value: bool | int | float | str | None) -> object:
    """The value without what a subclass adds."""
    for kind in (str, int, float):
        if isinstance(value, kind) and not isinstance(value, bool):
            value = kind(value)
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _other(value: object) -> object:
    """Paths, functions, numbers of NumPy and torch; else the object's own text."""
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    if isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType, types.MethodType)):
        return f"{value.__module__}:{value.__qualname__}"
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "shape", None) == ():
        return plain(item())
    return str(value)
