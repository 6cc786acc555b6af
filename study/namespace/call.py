"""Call a function of a study with its configuration: `python -m ablative.call module:function`.

It runs in the study's interpreter: standard library alone, syntax of Python 3.8.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import os
import sys
import typing
from collections.abc import Callable

import ablative

Value = typing.Any
"""Whatever a program has."""


def main(target: str) -> None:
    """Import the function and call it; the exit status is that of the process."""
    folder = os.environ["ABLATE_TASK"]
    with open(os.path.join(folder, "task.json"), encoding="utf-8") as file:
        config = json.load(file)["config"]
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    function = found(target)
    context = ablative.context()
    result = function(*arguments(function, config, context))
    if isinstance(result, dict):
        context.log(context._step + 1, result)
    elif isinstance(result, (int, float)) and not isinstance(result, bool):
        context.log(context._step + 1, {"result": result})
    if not os.path.exists(os.path.join(folder, "stopping.jsonl")):
        with open(os.path.join(folder, "returned"), "w", encoding="utf-8"):
            pass


def found(target: str) -> Value:
    """The object of `module:name`; raises ImportError or AttributeError."""
    module, _, name = target.partition(":")
    value = importlib.import_module(module)
    for part in name.split("."):
        value = getattr(value, part)
    return value


def arguments(function: Callable[..., Value], config: dict[str, Value], context: ablative.Context) -> tuple[Value, ...]:
    """What the function takes: the configuration, as its annotation says, and the context where it has room for it."""
    taken = [
        parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    if not taken:
        return ()
    try:
        kind = typing.get_type_hints(function).get(taken[0].name)
    except NameError:
        kind = None
    own = built(kind, config)
    return (own, context) if len(taken) > 1 else (own,)


def built(kind: Value, config: dict[str, Value]) -> Value:
    """The configuration as an object of a dataclass or a pydantic model; otherwise the dictionary."""
    if hasattr(kind, "model_validate"):
        return kind.model_validate(config)
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        return config
    hints = typing.get_type_hints(kind)
    values = {}
    for name, value in config.items():
        inner = hints.get(name)
        values[name] = built(inner, value) if isinstance(value, dict) else _sequence(inner, value)
    return kind(**values)


def _sequence(kind: Value, value: Value) -> Value:
    return tuple(value) if isinstance(value, list) and getattr(kind, "__origin__", kind) is tuple else value


if __name__ == "__main__":
    main(sys.argv[1])
