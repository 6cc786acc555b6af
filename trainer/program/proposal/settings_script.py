"""Settings of a script that overwrites its top-level names by `--name=value`, read from its source."""

from __future__ import annotations

import ast
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ablative.trainer.program.words import Plain

_READERS = ("globals", "exec")
"""What such a script calls where it reads its arguments."""
_OPERATIONS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: operator.pow,
}


@dataclass(frozen=True)
class SettingsScript:
    """What a script can be given, and what it is given."""

    values: Mapping[str, Plain]
    computed: Mapping[str, str]
    """Settings whose values are no constants → the expressions that compute them."""
    words: tuple[str, ...]
    """Arguments that are no setting of the script."""


def has_settings(tree: ast.Module) -> bool:
    """Whether a script overwrites its own names; one that parses options hands over what argparse has found."""
    calls = {_called(node) for node in ast.walk(tree)}
    parses = {name.lstrip(".") for name in calls} & {"parse_args", "parse_known_args", "ArgumentParser"}
    return bool(calls & {*_READERS}) and not parses


def settings_script(path: Path, words: Sequence[str], folder: Path) -> SettingsScript:
    """The settings of a script, with the values that the arguments of every run give them.

    Args:
        path: of the script; it can be parsed.
        words: arguments: `--name=value` sets a value, and so does each constant of a Python file that is named.
        folder: that the script is started in.
    """
    values, computed = _settings(_before_arguments(ast.parse(path.read_text(encoding="utf-8", errors="replace"))))
    names, left = {*values, *computed}, []
    for word in words:
        name, equals, text = word.removeprefix("--").partition("=")
        if word.startswith("--") and equals and name in names:
            values[name] = _value(text)
            computed.pop(name, None)
            continue
        left.append(word)
        if word.endswith(".py") and (folder / word).is_file():
            set_there, computed_there = _settings(_parsed(folder / word).body)
            values.update({key: value for key, value in set_there.items() if key in names})
            computed = {key: text for key, text in computed.items() if key not in set_there}
            computed.update({key: f"{text} in {word}" for key, text in computed_there.items() if key in names})
    order = [name for name in [*values, *computed] if name not in computed]
    return SettingsScript({name: values[name] for name in order}, computed, tuple(left))


def _parsed(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_text(encoding="utf-8", errors="replace"))
    except SyntaxError:
        return ast.Module([], [])


def _before_arguments(tree: ast.Module) -> list[ast.stmt]:
    """Statements up to that which reads the arguments: a name that is assigned later cannot be overwritten."""
    reading = {*_READERS}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and any(_called(inner) in reading for inner in ast.walk(node)):
            reading.add(node.name)
    for number, node in enumerate(tree.body):
        if not isinstance(node, ast.FunctionDef) and any(_called(inner) in reading for inner in ast.walk(node)):
            return tree.body[:number]
    return tree.body


def _called(node: ast.AST) -> str:
    """Name of the function that an expression calls; of a method, with a dot before it."""
    function = node.func if isinstance(node, ast.Call) else None
    return function.id if isinstance(function, ast.Name) else f".{getattr(function, 'attr', '')}"


def _settings(body: Sequence[ast.stmt]) -> tuple[dict[str, Plain], dict[str, str]]:
    """Names → constants, and names → expressions; what begins with `_` or is written in capitals is no setting."""
    values: dict[str, Plain] = {}
    computed: dict[str, str] = {}
    for name, node in _assigned(body):
        if name.startswith("_") or name.isupper():
            continue
        try:
            value = _constant(node)
        except (ValueError, TypeError, ArithmeticError):
            computed[name] = ast.unparse(node)
            values.pop(name, None)
            continue
        if isinstance(value, bool | int | float | str):
            values[name] = value
            computed.pop(name, None)
    return values, computed


def _assigned(body: Sequence[ast.stmt]) -> Iterator[tuple[str, ast.expr]]:
    """Names that statements assign, with what they are assigned."""
    for node in body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            yield node.target.id, node.value
        if isinstance(node, ast.Assign):
            for target in node.targets:
                yield from _pairs(target, node.value)


def _pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(target, ast.Name):
        yield target.id, value
    elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        for one, own in zip(target.elts, value.elts, strict=False):
            yield from _pairs(one, own)


def _constant(node: ast.expr) -> Plain:
    """The value of a constant or of arithmetic on constants (`5 * 8`); ValueError for anything else."""
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        return _OPERATIONS[type(node.op)](_constant(node.left), _constant(node.right))
    return ast.literal_eval(node)


def _value(text: str) -> Plain:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
