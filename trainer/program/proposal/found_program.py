"""What a program is and which keys it has: asked by the probes where it parses options, else read from its source."""

from __future__ import annotations

import ast
import difflib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ablative.study.core.errors import ConfigError
from ablative.study.core.typed import Settings
from ablative.trainer.program.config import dotted
from ablative.trainer.program.probes.probe import argparse_probe, hydra_probe
from ablative.trainer.program.probes.program import Invocation, Option
from ablative.trainer.program.proposal.other_parsers import CLICK, click_options, parser_of, refuse, with_words
from ablative.trainer.program.proposal.own_words import own_words, parses_options
from ablative.trainer.program.proposal.settings_script import has_settings, settings_script
from ablative.trainer.program.words import Plain

GLOBALS = "globals"
"""Kind of a script that overwrites its top-level names by `--name=value`."""
WORDS = "words"
"""Kind of a script that reads its command line itself: no more is known of its keys than what it is given."""


@dataclass(frozen=True)
class Found:
    """A program."""

    kind: str
    """`argparse`, `hydra`, `globals`, `words` or `function`."""
    target: str
    """The script, `-m module`, or `module:function`."""
    folder: Path
    """It is started there."""
    values: Mapping[str, Plain]
    """Dotted key → default; None also where there is none, or it is not known."""
    options: Mapping[str, Option] = field(default_factory=dict)
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Config group of a Hydra app → its options, the default first."""
    words: tuple[str, ...] = ()
    """Arguments that the user gives to every run, without those that are among the values."""
    computed: Mapping[str, str] = field(default_factory=dict)
    """Settings of a script whose values are no constants → the expressions that compute them."""
    given: tuple[str, ...] = ()
    """Keys that the words of a script give which reads them itself; the others are from what it has written."""
    style: str = "equals"
    """How such words are written: `equals`, `space` or `hydra`."""
    quoted: frozenset[str] = frozenset()
    """Keys whose values were in quotes there."""
    reports: tuple[str, ...] = ()
    """Names that a function's source hands to `log` or returns."""

    @property
    def unknown(self) -> list[str]:
        """Keys of a function without a default: it cannot be run before the study gives them values."""
        return [key for key, value in self.values.items() if value is None] if self.kind == "function" else []


def started_in(target: str, module: bool) -> Path:
    """The folder that the program is started in, and that its study file lies in.

    That is the current one, where people start a script that is in a folder below; else the script's own.
    """
    path = Path(os.path.abspath(target))
    here = module or ":" in target or path.is_relative_to(Path.cwd())
    return Path() if here else path.parent


def find_program(target: str, module: bool, words: tuple[str, ...], python: str, cache: Path) -> Found:
    """The program that `ablate init` is to describe.

    Args:
        target: path of a script, or `module:function` of the current folder.
        module: `target` is a module, as of `python -m`.
        words: arguments that every run needs.
        python: interpreter that runs it.
        cache: folder for answers of the program.

    Raises:
        ConfigError: there is no such program, or it does not say which options it has.
    """
    if re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", target):
        return _function(target)
    folder = started_in(target, module)
    program = ["-m", target] if module else [_script(target).relative_to(os.path.abspath(folder)).as_posix()]
    path = _file_of(target) if module else _script(target)
    source = _source(path) if path else ""
    found = Found("argparse", " ".join(program), folder, {}, words=words)
    invocation = Invocation(python, folder.resolve(), {}, f"init: {program[-1]}", cache)
    if path is None:
        return _asked(found, program, invocation)
    if re.search(r"\bhydra\.main\b|from hydra import main", source):
        with hydra_probe(invocation, ("*",)) as probe:
            values = dotted(probe.resolve([*program, *words]).values)
        return replace(found, kind="hydra", values=values, groups=_groups(path, source))
    if has_settings(ast.parse(source)):
        own = settings_script(path, words, folder)
        return replace(found, kind=GLOBALS, values=own.values, words=own.words, computed=own.computed)
    if (library := parser_of(source)) == CLICK:
        return _click(found, program, python)
    if not parses_options(path):
        read = own_words(words)
        if library and not read.values:
            raise refuse(found.target, library)
        more = replace(found, given=tuple(read.values), style=read.style, quoted=read.quoted)
        return replace(more, kind=WORDS, values=read.values, words=read.words)
    return _asked(found, program, invocation)


def _click(found: Found, program: Sequence[str], python: str) -> Found:
    """A command whose options all have their values from the study: those that runs are given, else the defaults."""
    values, words = with_words(click_options(found.folder, program, found.words, python), found.words)
    given = tuple(key for key, value in values.items() if value is not None)
    return replace(found, kind=WORDS, values=values, words=words, given=given, style="flags")


def _asked(found: Found, program: Sequence[str], invocation: Invocation) -> Found:
    with argparse_probe(invocation, ("*",)) as probe:
        options = probe.options([*program, *found.words])
        try:
            values: Settings = probe.resolve([*program, *found.words]).values
        except ConfigError as error:
            raise ConfigError(
                f"{error}; what every run needs comes after --: ablate init {found.target} -- WORDS"
            ) from None
    return replace(found, values=values, options=options)


def _script(target: str) -> Path:
    path = Path(os.path.abspath(target))
    if not path.is_file():
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.py")], n=1)
        hint = f"; did you mean '{Path(target).parent / near[0]}'?" if near else ""
        raise ConfigError(f"init: no script '{target}'; expected a .py file, module:function, or -m MODULE{hint}")
    return path


def _file_of(module: str) -> Path | None:
    """The file of a module, or of a package that is run, in the current folder; None: it is elsewhere."""
    inner = Path(*module.split("."))
    return next((path.absolute() for path in (inner.with_suffix(".py"), inner / "__main__.py") if path.is_file()), None)


def _source(path: Path) -> str:
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        ast.parse(text)
    except SyntaxError as error:
        raise ConfigError(f"init: {path}:{error.lineno}: {error.msg}") from None
    return text


def _groups(path: Path, source: str) -> dict[str, list[str]]:
    """Folders of the app's configurations that hold several options."""
    named = re.search(r"config_path\s*=\s*[\"']([^\"']*)[\"']", source)
    folder = path.parent / (named[1] if named else "")
    found: dict[str, list[str]] = {}
    for inner in sorted(p for p in folder.iterdir() if p.is_dir()) if named and folder.is_dir() else []:
        options = sorted(file.stem for file in inner.glob("*.yaml"))
        if len(options) > 1:
            main = re.search(r"config_name\s*=\s*[\"']([^\"']*)[\"']", source)
            file = folder / f"{(main[1] if main else 'config').removesuffix('.yaml')}.yaml"
            text = file.read_text() if file.is_file() else ""
            default = re.search(rf"^\s*-\s*{re.escape(inner.name)}:\s*(\w+)", text, re.MULTILINE)
            if default and default[1] in options:
                found[inner.name] = [default[1], *(name for name in options if name != default[1])]
    return found


def _function(target: str) -> Found:
    module, _, name = target.partition(":")
    path = Path(*module.split(".")).with_suffix(".py")
    if not path.is_file():
        raise ConfigError(f"init: no module '{module}' in this folder: there is no {path}")
    functions = {node.name: node for node in ast.parse(_source(path)).body if isinstance(node, ast.FunctionDef)}
    if name not in functions:
        near = difflib.get_close_matches(name, functions, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(functions) or 'none'}"
        raise ConfigError(f"init: {path} has no function '{name}'; {hint}")
    tree = ast.parse(path.read_text())
    reports = _reported_names(tree, functions[name])
    return Found("function", target, Path(), _read_keys(tree, functions[name]), reports=reports)


def _reported_names(module: ast.Module, function: ast.FunctionDef) -> tuple[str, ...]:
    """Keys of dictionaries that the module hands to a `log`, and that the function returns."""
    found: list[ast.Dict] = []
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "log":
            found += [argument for argument in node.args if isinstance(argument, ast.Dict)]
    returned = [node.value for node in ast.walk(function) if isinstance(node, ast.Return)]
    found += [value for value in returned if isinstance(value, ast.Dict)]
    keys = [key.value for one in found for key in one.keys if isinstance(key, ast.Constant)]
    return tuple(dict.fromkeys(map(str, keys)))


def _read_keys(module: ast.Module, function: ast.FunctionDef) -> dict[str, Plain]:
    """Keys that the module takes from what it calls the configuration: `config["lr"]`, `config.get("lr", 0.1)`."""
    if not function.args.args:
        return {}
    name = function.args.args[0].arg
    found: dict[str, Plain] = {}
    for node in ast.walk(module):
        if isinstance(node, ast.Subscript) and _is_name(node.value, name) and isinstance(node.slice, ast.Constant):
            found.setdefault(str(node.slice.value), None)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get":
            constants = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
            if _is_name(node.func.value, name) and constants:
                key = str(constants[0])
                found[key] = constants[1] if len(constants) > 1 else found.get(key)
    return found


def _is_name(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name
