"""What a plan can know of a study's SQL and functions: queries are bound to the views of an empty warehouse."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ablative.reports.store.store_tables import StoreTables
from ablative.reports.store.warehouse import Warehouse
from ablative.study.core.errors import ConfigError, unknown

if TYPE_CHECKING:
    from ablative.study.plan.plan import Plan


class NoStore:
    """A tracking store that knows no experiment."""

    def read(self, experiment: str, tables: StoreTables) -> bool:
        return False

    def history(self, run_uuids: Sequence[str], metrics: Sequence[str], tables: StoreTables, name: str) -> None:
        pass


def check_outputs(plan: Plan) -> None:
    """Refuse queries that the study's views do not answer and functions that are not there: raises ConfigError."""
    from ablative.reports.figures.custom import bound
    from ablative.reports.tables.query_tables import check_query

    custom = {name: figure for name, figure in plan.study.figures.items() if figure.kind == "custom"}
    with Warehouse(NoStore(), plan) as warehouse:
        for name, query in plan.study.queries.items():
            check_query(f"{plan.study.where}: queries.{name}", query, warehouse)
        for name, figure in custom.items():
            where = f"{plan.study.where}: figures.{name}"
            bound(figure.sql, warehouse, where)
            _check_function(figure.function, where)


def _check_function(function: str, where: str) -> None:
    """Refuse a function that its file does not define, or whose module is not installed; nothing is run."""
    source, _, name = function.rpartition(":")
    if not source.endswith(".py"):
        try:
            found = importlib.util.find_spec(source)
        except ImportError:
            found = None
        if found is None:
            raise ConfigError(f"{where}.function: there is no module '{source}'")
        return
    try:
        tree = ast.parse(Path(source).read_text(encoding="utf-8"), source)
    except (OSError, UnicodeDecodeError, SyntaxError) as error:
        raise ConfigError(f"{where}.function: cannot load {source}: {error}") from None
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    plain = all(
        isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom | ast.Expr) for node in tree.body
    )
    if name not in names and plain:  # what a file assigns may be a function too
        raise ConfigError(unknown("function", name, names, f"{where}.function: {source}"))
