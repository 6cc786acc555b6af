"""Figures of the user's own: a query over the study's views, and a function that draws its rows."""

from __future__ import annotations

import importlib
import runpy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablative.reports.figures.figure_data import FigureData
from ablative.reports.figures.style import COLUMN_INCHES, Color
from ablative.reports.store.warehouse import Warehouse
from ablative.study.core.errors import AblateError, ConfigError, unknown

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def frame(sql: str, warehouse: Warehouse, where: str) -> Any | None:
    """Rows of a query as a pandas frame, None where there are none; raises ConfigError with DuckDB's reason."""
    import duckdb

    warehouse.provide(sql)
    try:
        found = warehouse.connection.sql(sql)
        rows = None if found is None else found.to_arrow_table().to_pandas()
    except duckdb.Error as error:
        raise ConfigError(f"{where}: sql: {' '.join(str(error).split())}") from None
    return None if rows is None or rows.empty else rows


def bound(sql: str, warehouse: Warehouse, where: str) -> dict[str, str]:
    """Column of a query → its type; raises ConfigError with DuckDB's reason for one that the views do not answer."""
    import duckdb

    warehouse.provide(sql)
    try:
        found = warehouse.connection.sql(sql)
    except duckdb.Error as error:
        raise ConfigError(f"{where}.sql: {' '.join(str(error).split())}") from None
    return {} if found is None else dict(zip(found.columns, map(str, found.types), strict=True))


def draw_custom(data: FigureData, color: Callable[[str, str], Color]) -> Figure:
    """What the user's function draws on a figure as wide as a column; raises ConfigError where it fails.

    It is called with the figure, the query's rows as a pandas frame, and `color(factor, level)`, the colour of a level
    in all figures of the study.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(COLUMN_INCHES, 2.35))
    function = load(data.config.function, f"figure '{data.name}'")
    try:
        function(figure, data.own, color)
    except AblateError:
        raise
    except Exception as error:  # the user's code may fail in any way, and the error is about the study file
        message = f"{type(error).__name__}: {error}"
        raise ConfigError(f"figure '{data.name}': {data.config.function}: {message}") from error
    return figure


def load(function: str, where: str) -> Callable[..., object]:
    """The function that `FILE.py:NAME` (from the working folder) or `MODULE:NAME` means; raises ConfigError.

    `study.core.registry.load` loads what the packages name themselves, where a missing name is a fault of ours. This
    target is the user's: it may be a file, and the error names the line of the study file and the functions to choose.
    """
    source, _, name = function.rpartition(":")
    opened = partial(runpy.run_path, source) if source.endswith(".py") else partial(_module, source)
    try:
        names = opened()
    except (OSError, ImportError, SyntaxError) as error:
        raise ConfigError(f"{where}: function: cannot load {Path(source)}: {error}") from None
    if not callable(names.get(name)):
        own = [key for key, value in names.items() if callable(value) and not key.startswith("_")]
        raise ConfigError(unknown("function", name, own, f"{where}: {source}"))
    found: Callable[..., object] = names[name]
    return found


def _module(name: str) -> dict[str, Any]:
    return vars(importlib.import_module(name))
