"""Figures that cannot be drawn as declared are one clear error."""

from __future__ import annotations

from typing import Any

import pytest

from ablative.study.core.errors import ConfigError
from ablative.study.plan.outputs.figure_checks import check_figure, positions
from ablative.study.spec.design import Cell
from ablative.study.spec.outputs import FigureConfig
from ablative.study.spec.study_file import Study, parse_study

CELLS: list[Cell] = [
    {"scale": "large", "method": "clip"},
    {"scale": "small", "method": "clip"},
    {"method": "mae"},
]
FACTORS = {
    "scale": {"small": {"data.pairs": 1000}, "large": {"data.pairs": 2000}},
    "method": {"clip": {"objective": "clip"}, "mae": {"objective": "mae"}},
}
LINES = {"kind": "lines", "metric": ("train/loss",), "x": "scale", "hue": "method"}


@pytest.fixture(scope="module")
def study() -> Study:
    columns = [{"metric": "train/loss"}]
    effects = {name: {"kind": name, "factors": ["scale"], "columns": columns} for name in ("factors", "suite")}
    return parse_study({"name": "s", "factors": FACTORS, "effects": effects}, "study/s.yaml")


def test_every_cell_needs_a_place(study: Study) -> None:
    config = FigureConfig(kind="bars", metric=("train/loss",), x="method")
    with pytest.raises(ConfigError, match="several cells share the place 'clip'; use scale as x"):
        check_figure("f", config, study, CELLS)
    check_figure("f", FigureConfig(kind="bars", metric=("train/loss",), x="method", hue="scale"), study, CELLS)
    check_figure("f", FigureConfig(**LINES, position="data.pairs", panel="metric"), study, CELLS)


def test_numbers_of_levels() -> None:
    assert positions("f", FigureConfig(**LINES, position="data.pairs"), FACTORS) == {"small": 1000.0, "large": 2000.0}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"kind": "scatter", "metric": ("train/loss",)}, "scatter needs 2 metrics, found 1"),
        ({"kind": "bars"}, "bars needs 1 metric, found 0"),
        ({"kind": "effects", "effects": "factors", "metric": ("train/loss",)}, "effects needs no metrics, found 1"),
        ({"kind": "effects"}, "kind effects needs 'effects'"),
        ({"kind": "effects", "effects": "factor"}, "factors"),
        ({"kind": "effects", "effects": "suite"}, "effects of kind factors"),
        ({"kind": "custom", "sql": "select 1"}, "kind custom needs 'function'"),
        ({"kind": "custom", "function": "f.py:draw"}, "kind custom needs 'sql'"),
        ({"kind": "custom", "function": "draw", "sql": "select 1"}, "expected FILE.py:NAME or MODULE:NAME"),
        ({"kind": "panels"}, "kind panels needs 'show'"),
        ({**LINES, "show": "tsne"}, "'show' belongs to kind panels, not to lines"),
        ({"kind": "bars", "metric": ("train/loss",), "position": "data.pairs"}, "'position' belongs to kind lines"),
        ({**LINES, "position": "data.pears"}, "level 'small' of 'scale' sets no positive number as data.pears"),
        ({"kind": "heatmap", "metric": ("train/loss",), "panel": "metric"}, "heatmap has no panel for each metric"),
    ],
)
def test_what_a_kind_needs(study: Study, config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_figure("f", FigureConfig(**config), study, CELLS)


def test_panels_of_too_many_cells(study: Study) -> None:
    cells = [{"scale": str(i)} for i in range(7)]
    with pytest.raises(ConfigError, match="7 cells, but panels show up to 6; choose some in where"):
        check_figure("f", FigureConfig(kind="panels", show="tsne"), study, cells)
