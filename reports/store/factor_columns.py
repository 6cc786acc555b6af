"""The columns of a study's factors, where results have one for each: in SQL, Parquet and Python alike."""

from __future__ import annotations

import json
from collections.abc import Iterable

BY_FACTOR = "results_by_factor"
"""The view that has them."""
PLACE = "/* factors */"
"""Where its SQL has them."""
OTHERS = ("seed", "metric", "value", "unit", "run_id", "step")
"""The other columns of results and curves."""


def factor_columns(factors: Iterable[str]) -> dict[str, str]:
    """Factor → its column: its name, or `NAME_factor` where SQL cannot distinguish that from another column.

    >>> factor_columns(["lr", "Seed", "LR"])
    {'lr': 'lr', 'Seed': 'Seed_factor', 'LR': 'LR_factor'}
    """
    taken, found = set(OTHERS), {}
    for factor in factors:
        column = factor
        while column.lower() in taken:
            column = f"{column}_factor"
        taken.add(column.lower())
        found[factor] = column
    return found


def factors_sql(factors: Iterable[str]) -> str:
    """The columns in SQL, each followed by a comma."""
    lines = []
    for factor, column in factor_columns(factors).items():
        path = f"$.{json.dumps(factor, ensure_ascii=False)}".replace("'", "''")
        name = column.replace('"', '""')
        lines.append(f"results.cell ->> '{path}' as \"{name}\",")
    return "\n    ".join(lines)
