"""Tables of effects: values by hand, incomplete grids, one seed, and refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
import stores

from ablative.reports.build import report
from ablative.reports.tables.tables import Entry, Table
from ablative.study.core.errors import ConfigError
from ablative.study.plan.plan import Plan


def effects(plan: Plan, folder: Path) -> dict[str, Table]:
    return {table.name: table for table in report(plan, folder, ["md"]).tables if table.name in plan.study.effects}


def entry(table: Table, label: str, column: int = 0) -> Entry:
    [found] = [row.entries[column] for row in table.rows if row.levels[0] == label]
    return found


def test_contrasts_and_shares_by_hand(full: Plan, tmp_path: Path) -> None:
    # stores.expected: scale +30, mae_clip +10, gap +3, the seed itself; no interaction, no noise within cells
    table = effects(full, tmp_path)["factors"]
    assert [row.levels[0] for row in table.rows] == [
        "scale: large − small",
        "method: mae_clip − clip",
        "pooling: gap − map",
        "scale, share",
        "method, share",
        "pooling, share",
        "scale × method, share",
        "scale × pooling, share",
        "method × pooling, share",
        "interactions of three or more, share",
        "seeds, alike in all cells, share",
        "seeds within cells, share",
    ]
    for label, value in (
        ("scale: large − small", 30.0),
        ("method: mae_clip − clip", 10.0),
        ("pooling: gap − map", 3.0),
    ):
        found = entry(table, label)
        assert found.summary is not None and found.summary.mean == pytest.approx(value) and found.summary.n == 3
    squares = {"scale": 15.0**2, "method": 5.0**2, "pooling": 1.5**2, "seeds, alike in all cells": 2 / 3}
    for factor, own in squares.items():
        found = entry(table, f"{factor}, share")
        assert found.summary is not None
        assert found.summary.mean == pytest.approx(100 * own / sum(squares.values()))
    assert any("scale (2) × method (2) × pooling (2), 3 seeds." in note for note in table.notes)


def test_an_incomplete_grid_is_cut_and_says_so(partial: Plan, tmp_path: Path) -> None:
    # at large scale clip has nothing and mae_clip gap neither: the level goes
    table = effects(partial, tmp_path)["factors"]
    assert [row.levels[0] for row in table.rows][:2] == ["method: mae_clip − clip", "pooling: gap − map"]
    assert any("left out, since results are missing: scale: large" in note for note in table.notes)


def test_one_seed_gets_no_interval(tmp_path: Path) -> None:
    plan = stores.plan_of(tmp_path, overrides=("seeds=[0]",))
    stores.track(plan, f"sqlite:///{plan.home.store}")
    tables = effects(plan, tmp_path / "out")
    found = entry(tables["factors"], "pooling: gap − map")
    assert found.literal == "+3.0" and not found.best
    assert "One seed (n = 1): no interval and no test." in tables["factors"].notes
    assert entry(tables["suite"], "clip").literal.count("[") == 0


def test_suite_by_hand(full: Plan, tmp_path: Path) -> None:
    table = effects(full, tmp_path)["suite"]
    assert [row.levels[0] for row in table.rows] == ["clip", "mae_clip"]
    assert [column.label for column in table.columns] == ["mean", "IQM", "P(> clip)"]
    better = entry(table, "mae_clip", 2)
    assert better.summary is not None and better.summary.mean == 1.0  # 10 points above, at every task
    assert entry(table, "clip", 2).missing == "–"
    assert table == effects(full, tmp_path)["suite"]  # seeded


def test_a_suite_of_which_less_is_better(full: Plan, tmp_path: Path) -> None:
    table = effects(stores.redeclared(full, "linear_probe/", better="lower"), tmp_path)["suite"]
    assert [column.label for column in table.columns] == ["mean", "IQM", "P(< clip)"]
    worse = entry(table, "mae_clip", 2)
    assert worse.summary is not None and worse.summary.mean == 0.0
    assert any("P(< arm): chance of being better" in note for note in table.notes)


def test_nothing_yet_is_a_table_without_numbers(tmp_path: Path) -> None:
    tables = effects(stores.plan_of(tmp_path), tmp_path / "out")
    assert tables["factors"].rows == () and any("no full grid" in note for note in tables["factors"].notes)
    assert tables["suite"].rows == ()


def test_two_cells_in_one_place_are_refused(tmp_path: Path) -> None:
    text = stores.STUDY.replace("    factors: [scale, method, pooling]\n", "    factors: [method, pooling]\n")
    with pytest.raises(ConfigError, match=r"effects 'factors': several cells share the place 'clip, map'; add scale"):
        stores.plan_of(tmp_path, text)
    text = stores.STUDY.replace("  factors:\n    factors", "  main:\n    factors")
    with pytest.raises(ConfigError, match=r"effects\.main: a table has this name already"):
        stores.plan_of(tmp_path / "b", text)
