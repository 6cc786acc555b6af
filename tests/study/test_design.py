"""Enumeration of cells: full product, conditional factors, drops, one factor at a time, leave one out."""

from __future__ import annotations

import pytest

from ablative.study.core.errors import ConfigError
from ablative.study.spec.design import Design, cell_name

FACTORS = {
    "method": {"clip": {"objective": "clip"}, "mae": {"objective": "mae"}, "mae_clip": {"objective": "mae_clip"}},
    "pooling": {"map": {"model.pooling": "map"}, "gap": {"model.pooling": "gap"}},
    "masking": {"random": {"objective.masking": "random"}, "similarity": {"objective.masking": "similarity"}},
}
APPLIES = {"pooling": {"method": ["clip", "mae_clip"]}, "masking": {"method": ["mae_clip"]}}


def names(design: Design) -> list[str]:
    design.check()
    return [cell_name(cell) for cell in design.cells()]


def test_cells_collapse_where_a_factor_does_not_apply() -> None:
    assert names(Design(FACTORS, APPLIES)) == [
        "method=clip,pooling=map",
        "method=clip,pooling=gap",
        "method=mae",
        "method=mae_clip,pooling=map,masking=random",
        "method=mae_clip,pooling=map,masking=similarity",
        "method=mae_clip,pooling=gap,masking=random",
        "method=mae_clip,pooling=gap,masking=similarity",
    ]


def test_dropped_cells_are_not_enumerated() -> None:
    drop = [{"method": ["mae_clip"], "pooling": ["gap"]}, {"method": ["mae"]}]
    assert len(names(Design(FACTORS, APPLIES, drop))) == 4


def test_one_at_a_time_moves_each_factor_once_and_completes_new_ones() -> None:
    baseline = {"method": "clip", "pooling": "map"}
    assert names(Design(FACTORS, APPLIES, baseline=baseline, kind="one_at_a_time")) == [
        "method=clip,pooling=map",
        "method=clip,pooling=gap",
        "method=mae",
        "method=mae_clip,pooling=map,masking=random",
    ]


def test_leave_one_out_sets_each_factor_to_its_first_level() -> None:
    factors = {name: {"off": {f"model.{name}": 0}, "on": {f"model.{name}": 1}} for name in ("a", "b", "c")}
    design = Design(factors, baseline=dict.fromkeys("abc", "on"), kind="leave_one_out")
    assert names(design) == ["a=off,b=on,c=on", "a=on,b=off,c=on", "a=on,b=on,c=off", "a=on,b=on,c=on"]


def test_a_study_without_factors_has_one_cell() -> None:
    assert names(Design({})) == ["all"]


@pytest.mark.parametrize(
    ("design", "words"),
    [
        (Design(FACTORS, {"poling": {}}), ["unknown factor 'poling'", "did you mean 'pooling'"]),
        (Design(FACTORS, {"pooling": {"method": ["clp"]}}), ["unknown level 'clp'", "did you mean 'clip'"]),
        (Design(FACTORS, {"pooling": {"masking": ["random"]}, "masking": {"pooling": ["map"]}}), ["circle"]),
        (Design(FACTORS, drop=[{"method": ["mae"], "pooling": ["map"]}], applies=APPLIES), ["matches no cell"]),
        (Design(FACTORS, drop=[{}]), ["no cell is left"]),
        (Design({"a": {}}), ["factors.a: no levels"]),
        (Design({"a": {"x": {"model.width": 8}, "y": {"model.width": 8}}}), ["a.y", "changes nothing", "'x'"]),
        (
            Design({"a": {"x": {"model.width": 8}}, "b": {"y": {"model.width": 16}}}),
            ["'a' and 'b' both set model.width"],
        ),
        (Design(FACTORS, APPLIES, baseline={"method": "clip"}), ["is not a cell", "lacks pooling"]),
        (Design(FACTORS, APPLIES, kind="one_at_a_time"), ["baseline: missing"]),
        (
            Design(FACTORS, {"masking": {"method": ["mae"], "pooling": ["map"]}, "pooling": {"method": ["clip"]}}),
            ["applies.masking", "never applies"],
        ),
    ],
)
def test_a_wrong_design_is_one_error(design: Design, words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        design.check()
        design.cells()
    assert all(word in str(error.value) for word in words), str(error.value)
