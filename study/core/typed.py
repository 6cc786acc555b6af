"""Plain dictionaries to typed, frozen configurations: every mistake is one error that names its key.

`field` declares what values a field may have, and whether it is part of an identity.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import typing
from collections.abc import Collection, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar

import yaml

from ablative.study.core.damage import DamagedError
from ablative.study.core.errors import ConfigError, unknown
from ablative.study.core.files import read_text
from ablative.study.core.identity import NAMED
from ablative.study.core.plugins import Plugins

T = TypeVar("T")

MISSING: Any = dataclasses.MISSING
Settings = Mapping[str, Any]
"""Keys of a configuration, mostly dotted, and their values."""


def field(
    default: Any = MISSING,
    *,
    choices: Collection[Any] | None = None,
    low: float | None = None,
    high: float | None = None,
    below: float | None = None,
    above: float | None = None,
    identity: bool = True,
    identity_default: Any = MISSING,
    flat: str = NAMED,
    written: object = None,
) -> Any:
    """A configuration field: allowed values (`low`/`high` inclusive, `above`/`below` exclusive).

    Args:
        identity: it is part of ids.
        identity_default: value with which it is no part of them, of a field that was added later.
        flat: how its keys appear among the flattened ones: `NAMED` below the field's name, `INLINE` without it,
            `HIDDEN` not at all.
        written: type of what a file may say, where that is more than the field's own type; for lists of keys.
    """
    metadata = {
        "choices": choices,
        "low": low,
        "high": high,
        "below": below,
        "above": above,
        "identity": identity,
        "identity_default": identity_default,
        "flat": flat,
        "written": written,
    }
    return dataclasses.field(default=default, metadata=metadata)


def build(cls: type[T], data: Mapping[str, Any], where: str = "") -> T:
    """`cls` filled from `data`, recursively.

    Args:
        cls: a frozen dataclass whose fields were made by `field`.
        data: plain values; nested dataclasses as mappings.
        where: prefix of the key in messages, such as ``study/demo.yaml: model``.

    Raises:
        ConfigError: unknown or missing key, wrong type, or a value outside the field's range.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where}: expected keys and values, found {data!r}")
    fields = _fields(typing.cast(Any, cls))
    for key in data:
        if key not in fields:
            raise ConfigError(unknown("key", str(key), fields, where))
    values = {}
    for key, (kind, spec) in fields.items():
        at = f"{where}.{key}" if where else key
        if key not in data:
            if spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING:
                raise ConfigError(f"{at}: missing")
            continue
        value = _convert(kind, data[key], at)
        _check_range(value, spec.metadata, at)
        values[key] = value
    return cls(**values)


def plain(config: Any) -> Any:
    """Typed configuration back to dictionaries, lists and numbers (the content of `config.yaml`)."""
    if dataclasses.is_dataclass(config):
        return {spec.name: plain(getattr(config, spec.name)) for spec in dataclasses.fields(config)}
    if isinstance(config, tuple | list):
        return [plain(item) for item in config]
    if isinstance(config, Mapping):
        return {key: plain(item) for key, item in config.items()}
    return config


def dump(config: Any) -> str:
    """YAML of a typed configuration; the text of a section that many configurations share is made once."""
    if not dataclasses.is_dataclass(config):
        return str(yaml.dump(plain(config), Dumper=_Dumper, sort_keys=False))
    return "".join(_dump_item(spec.name, getattr(config, spec.name)) for spec in dataclasses.fields(config))


@functools.lru_cache(maxsize=4096)
def _dump_item(name: str, value: Any) -> str:
    return str(yaml.dump({name: plain(value)}, Dumper=_Dumper, sort_keys=False))


_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml where it is there: six times as fast."""


def load_config(path: Path, cls: type[T]) -> T:
    """Read back a `config.yaml`; raises ConfigError when it is missing or does not fit `cls`."""
    return build(cls, read_config(path), str(path))


def read_config(path: Path) -> dict[str, Any]:
    """Content of a `config.yaml`; raises ConfigError when it is missing or no mapping."""
    try:
        data = yaml.load(read_text(path), Loader=_Loader)
    except DamagedError as error:
        raise ConfigError(str(error)) from None
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; `ablate submit` writes it") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected keys and values, found {data!r}")
    return data


@functools.cache
def _fields(cls: Any) -> dict[str, tuple[Any, dataclasses.Field[Any]]]:
    hints = typing.get_type_hints(cls)
    return {spec.name: (hints[spec.name], spec) for spec in dataclasses.fields(cls)}


def _convert(kind: Any, value: Any, at: str) -> Any:
    """`value` as `kind`: int becomes float, list becomes tuple, one word becomes a tuple of it; nothing else bends."""
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return build(kind, value, at)
    if kind is Any:
        return value
    origin = typing.get_origin(kind)
    if origin in (typing.Union, UnionType):
        if value is None:
            return None
        return _convert(next(arg for arg in typing.get_args(kind) if arg is not type(None)), value, at)
    if origin is tuple:
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(_convert(typing.get_args(kind)[0], item, f"{at}[{i}]") for i, item in enumerate(items))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{at}: expected keys and values, found {value!r}")
        return {str(key): _convert(typing.get_args(kind)[1], item, f"{at}.{key}") for key, item in value.items()}
    return _convert_scalar(kind, value, at)


def _convert_scalar(kind: type, value: Any, at: str) -> Any:
    found = _scalar(kind, value, at)
    if isinstance(found, float) and not math.isfinite(found):
        raise ConfigError(f"{at}: expected a finite number, found {value}")
    return found


def _scalar(kind: type, value: Any, at: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is float and isinstance(value, str):
        # YAML 1.1 reads 5e-4 as text: the dot is missing.
        try:
            return float(value)
        except ValueError:
            pass
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    raise ConfigError(f"{at}: expected {names.get(kind, kind)}, found {value!r}")


def _check_range(value: Any, metadata: Mapping[str, Any], at: str) -> None:
    choices = metadata.get("choices")
    if choices is not None and value not in choices:
        if isinstance(choices, Plugins):
            raise ConfigError(choices.unknown(str(value), where=at))
        raise ConfigError(unknown("value", str(value), [name for name in choices if name != ""], at))
    if not isinstance(value, int | float) or isinstance(value, bool):
        return
    limits = (
        ("low", "at least", lambda limit: value >= limit),
        ("high", "at most", lambda limit: value <= limit),
        ("above", "more than", lambda limit: value > limit),
        ("below", "less than", lambda limit: value < limit),
    )
    for name, words, holds in limits:
        limit = metadata.get(name)
        if limit is not None and not holds(limit):
            raise ConfigError(f"{at}: {value} is not allowed; it must be {words} {limit}")


def with_values(config: T, values: Settings) -> T:
    """A configuration with other values of some dotted keys; a typed one is checked against its fields."""
    tree = plain(config)
    for key, value in values.items():
        *sections, name = key.split(".")
        branch = tree
        for section in sections:
            branch = branch[section]
        branch[name] = list(value) if isinstance(value, tuple) else value
    found: T = build(type(config), tree) if dataclasses.is_dataclass(config) else tree
    return found
