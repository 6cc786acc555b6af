"""The script that says which modules and names of a program there are: `python imports.py NAME…`, nothing is imported.

NAME is `module` (of `python -m`) or `module:function`. One line each, in order: what is wrong with it after a `!`, or
the module's file.
Standard library alone, syntax of Python 3.8.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder


def located(name: str) -> tuple[ModuleSpec | None, str]:
    """The spec of a module and "", or None and what there is not; only the finders of a top-level name are asked."""
    head, *rest = name.split(".")
    spec = importlib.util.find_spec(head)
    path = head
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            break
        path = path + "." + part
        spec = PathFinder.find_spec(path, list(spec.submodule_search_locations))
    if spec is None or path != name:
        return None, f"there is no module '{path if spec is None else name}'"
    return spec, ""


def said(target: str) -> str:
    """What there is to say of a target: a fault that is seen without importing it, or its file."""
    name, _, wanted = target.partition(":")
    spec, fault = located(name)
    if spec is not None and not wanted and spec.submodule_search_locations is not None:
        spec, fault = located(name + ".__main__")
    if spec is None:
        return "!" + fault
    path = spec.origin or ""
    fault = fault_of_source(path, wanted.split(".")[0]) if wanted and path.endswith(".py") else ""
    return "!" + fault if fault else path


def fault_of_source(path: str, wanted: str) -> str:
    """What is wrong with a module's file: its syntax, what it imports, or that it does not bind a name."""
    with open(path, "rb") as file:
        source = file.read()
    try:
        tree = ast.parse(source, path)
    except SyntaxError as error:
        return f"{path}:{error.lineno}: {error.msg}"
    # A module that changes the path may import what is not found without that.
    for node in tree.body if b"sys.path" not in source else ():
        for module in imported(node):
            if importlib.util.find_spec(module) is None:
                return f"{path}:{node.lineno}: there is no module '{module}'"
    names = set(bound(tree.body))
    if wanted in names or "*" in names or "__getattr__" in names:
        return ""
    return f"{path} defines no '{wanted}' ({', '.join(sorted(names)[:12]) or 'nothing'})"


def imported(node: ast.stmt) -> list[str]:
    """Top-level names of the modules that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name.split(".")[0] for alias in node.names]
    if isinstance(node, ast.ImportFrom) and not node.level and node.module:
        return [node.module.split(".")[0]]
    return []


def bound(statements: Sequence[ast.stmt]) -> Iterator[str]:
    """Names that statements bind; "*": it cannot be seen."""
    for node in statements:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            for alias in node.names:
                yield (alias.asname or alias.name).split(".")[0]
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                for found in ast.walk(target):
                    if isinstance(found, ast.Name):
                        yield found.id
        elif not isinstance(node, (ast.Expr, ast.Pass)):
            # Branches, loops and context managers may bind anything.
            yield "*"


if __name__ == "__main__":
    # As `python -m` and `ablative.call` import: from the folder in which they run.
    sys.path[0] = os.getcwd()
    for target in sys.argv[1:]:
        print(said(target))
