"""Where cells stand in tables and figures, by hand."""

from __future__ import annotations

import pytest

from ablative.study.core.errors import ConfigError
from ablative.study.plan.outputs.layout import split_levels, table_layout
from ablative.study.spec.design import allows
from ablative.study.spec.outputs import ColumnConfig, TableConfig

FACTORS = {"scale": ("small", "large"), "method": ("clip", "mae")}
CELLS = [
    {"scale": "large", "method": "clip"},
    {"scale": "small", "method": "clip"},
    {"method": "mae"},
]
TABLE = TableConfig(rows=("method",), columns=(ColumnConfig(metric=("train/loss",)),), split="scale")


def test_a_factor_that_a_cell_lacks_does_not_exclude_it() -> None:
    assert allows({"a": "x"}, {"a": ("x", "y"), "b": ("z",)})
    assert not allows({"a": "x"}, {"a": ("y",)})


def test_rows_and_splits_follow_the_study() -> None:
    assert split_levels(TABLE, FACTORS, CELLS) == ("small", "large")
    places = table_layout("main", TABLE, FACTORS, CELLS)
    assert places == {
        ("clip",): {"small": CELLS[1], "large": CELLS[0]},
        ("mae",): {"small": CELLS[2], "large": CELLS[2]},
    }
    assert list(places) == [("clip",), ("mae",)]


def test_a_clash_names_the_levels() -> None:
    table = TableConfig(rows=("method",), columns=TABLE.columns)
    with pytest.raises(ConfigError, match=r"row 'clip' stands for several cells \(scale=large and scale=small\)"):
        table_layout("main", table, FACTORS, CELLS)
