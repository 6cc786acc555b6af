"""A configuration of a type of the user's: built from the values that a study gives, with the type's own defaults."""

from __future__ import annotations

import dataclasses
import enum
import importlib
import os
import pathlib
import sys
import typing
from typing import TYPE_CHECKING

from ablative.trainer.program.probes.inside.plain_values import plain

if TYPE_CHECKING:
    from ablative.trainer.program.probes.inside.running import Message, Session

_SCALARS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


class Unknown(Exception):
    """A key that a type does not have."""

    def __init__(self, at: str, key: str, allowed: list[str]) -> None:
        super().__init__(key)
        self.message = {"at": at, "key": key, "allowed": allowed}


class Unfit(Exception):
    """A value that is not of its type."""


class Server:
    """Imports the type once, and builds it for each request."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def run(self, request: Message) -> None:
        sys.path[0] = os.getcwd()
        module, _, names = str(request["type"]).partition(":")
        kind: object = importlib.import_module(module)
        for name in names.split("."):
            if not hasattr(kind, name):
                allowed = [key for key, value in vars(kind).items() if isinstance(value, type)]
                self._session.fail("", unknown={"at": "", "key": name, "allowed": allowed}, ended=True)
            kind = getattr(kind, name)
        if not is_buildable(kind):
            self._session.fail("it is no dataclass and no model of pydantic")
        request = self._session.branch()
        try:
            built = build(kind, request["values"], "")
        except Unknown as error:
            self._session.fail("", unknown=error.message)
        except Unfit as error:
            self._session.fail(str(error))
        except Exception as error:
            # The type's own check, in `__post_init__` or a validator of pydantic.
            self._session.fail(_checked(error))
        self._session.reply({"values": dumped(built)})


def _checked(error: Exception) -> str:
    errors = getattr(error, "errors", None)
    if callable(errors):  # pydantic
        found = [(".".join(map(str, item["loc"])), item["msg"]) for item in errors()]
        return "; ".join(f"{at}: {text}" if at else text for at, text in found)
    text = " ".join(str(error).split())
    return text if isinstance(error, (ValueError, TypeError)) and text else f"{type(error).__name__}: {text}"


def is_model(kind: object) -> bool:
    """A model of pydantic, of version 1 or 2."""
    return isinstance(kind, type) and (hasattr(kind, "model_fields") or hasattr(kind, "__fields__"))


def is_buildable(kind: object) -> bool:
    return isinstance(kind, type) and (dataclasses.is_dataclass(kind) or is_model(kind))


def dumped(value: object) -> object:
    """A built configuration as JSON."""
    for method in ("model_dump", "dict"):
        if is_model(type(value)) and hasattr(value, method):
            return plain(getattr(value, method)())
    return plain(value)


def at(where: str, key: object) -> str:
    return f"{where}.{key}" if where else str(key)


def build(kind: object, values: object, where: str) -> object:
    """A dataclass or model from a mapping, with those inside of it."""
    if not isinstance(values, dict):
        raise Unfit(f"{where}: expected keys and values, found {values!r}")
    if is_model(kind):
        check_model(kind, values, where)
        validate = getattr(kind, "model_validate", None) or kind.parse_obj  # type: ignore[attr-defined]
        return validate(values)
    hints = typing.get_type_hints(kind)
    fields = [spec for spec in dataclasses.fields(kind) if spec.init]  # type: ignore[arg-type]
    names = [spec.name for spec in fields]
    for key in values:
        if key not in names:
            raise Unknown(where, str(key), names)
    for spec in fields:
        without = spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING
        if without and spec.name not in values:
            raise Unfit(f"{at(where, spec.name)}: it has no default, and no value")
    given = {key: convert(hints[key], value, at(where, key)) for key, value in values.items()}
    return kind(**given)  # type: ignore[operator]


def check_model(kind: object, values: dict[str, object], where: str) -> None:
    """Raise Unknown for a key that a model of pydantic would leave out without a word."""
    fields = getattr(kind, "model_fields", None) or kind.__fields__  # type: ignore[attr-defined]
    settings = getattr(kind, "model_config", None)
    extra = settings.get("extra") if settings is not None else kind.Config.extra  # type: ignore[attr-defined]
    names = [*fields, *(spec.alias for spec in fields.values() if spec.alias)]
    for key, value in values.items():
        if key not in names and str(getattr(extra, "value", extra)) != "allow":
            raise Unknown(where, key, list(fields))
        annotation = getattr(fields.get(key), "annotation", None)
        for inner in (annotation, *getattr(annotation, "__args__", ())):
            if is_model(inner) and isinstance(value, dict):
                check_model(inner, value, at(where, key))


def convert(kind: object, value: object, where: str) -> object:
    """A JSON value as what a field's annotation says; an annotation that is not known here takes any value."""
    origin = getattr(kind, "__origin__", None)
    args: tuple[object, ...] = getattr(kind, "__args__", ())
    if type(kind).__name__ == "UnionType":  # int | None, from Python 3.10 on
        origin = typing.Union
    if origin is typing.Union:
        return convert_union(args, value, where)
    if type(kind).__name__ == "_LiteralGenericAlias" or origin is getattr(typing, "Literal", None):
        if value not in args:
            raise Unfit("{}: expected {}, found {!r}".format(where, " or ".join(map(repr, args)), value))
        return value
    if origin in (list, tuple, set, frozenset) or kind in (list, tuple, set, frozenset):
        return convert_items(origin or kind, args, value, where)
    if origin is dict and len(args) == 2 and isinstance(value, dict):
        return {key: convert(args[1], item, at(where, key)) for key, item in value.items()}
    if is_buildable(kind):
        return build(kind, value, where)
    return convert_scalar(kind, value, where)


def convert_union(args: tuple[object, ...], value: object, where: str) -> object:
    if value is None and type(None) in args:
        return None
    failed: Exception | None = None
    for arg in args:
        # The member that is exactly of the value's type goes first: `float | int` keeps 1 an int.
        if arg is type(value):
            return value
    for arg in args:
        try:
            return convert(arg, value, where)
        except (Unfit, Unknown) as error:
            failed = failed if arg is type(None) else error
    raise failed or Unfit(f"{where}: found {value!r}")


def convert_items(kind: object, args: tuple[object, ...], value: object, where: str) -> object:
    if not isinstance(value, list):
        raise Unfit(f"{where}: expected a list, found {value!r}")
    args = tuple(arg for arg in args if not isinstance(arg, typing.TypeVar))
    many = kind is not tuple or (len(args) == 2 and args[1] is Ellipsis)
    if args and not many and len(args) != len(value):
        raise Unfit(f"{where}: expected {len(args)} items, found {value!r}")
    items = []
    for i, item in enumerate(value):
        inner = args[0 if many else i] if args else object
        items.append(convert(inner, item, f"{where}[{i}]"))
    return kind(items)  # type: ignore[operator]


def convert_scalar(kind: object, value: object, where: str) -> object:
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        for member in kind:
            if value in (member.name, member.value):
                return member
        names = ", ".join(member.name for member in kind)
        raise Unfit(f"{where}: expected one of {names}, found {value!r}")
    if isinstance(kind, type) and issubclass(kind, pathlib.PurePath) and isinstance(value, str):
        return kind(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    fits = isinstance(value, kind) if kind in _SCALARS else True
    if not fits or (kind is int and isinstance(value, bool)):
        raise Unfit(f"{where}: expected {_SCALARS[kind]}, found {value!r}")  # type: ignore[index]
    return value
