"""A study that starts from another: null takes away what it does not want, in its file and on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ablative.study.core.errors import ConfigError
from ablative.study.home.paths import Home
from ablative.study.plan.plan import Plan, make_plan
from ablative.study.spec.inherit import without_removed


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("home"))


def derived(folder: Path, home: Home, *overrides: str, base: str = "demo", **own: object) -> Plan:
    (folder / "study").mkdir(exist_ok=True)
    text = yaml.safe_dump({"defaults": [base, "_self_"], "name": "mine", **own})
    (folder / "study" / "mine.yaml").write_text(text)
    return make_plan("mine", overrides, str(folder), home)


def test_null_takes_away(tmp_path: Path, home: Home) -> None:
    plan = derived(tmp_path, home, claims={"masking_hurts": None}, tables={"probes": None}, seeds=[0])
    whole = make_plan("demo", home=home).study
    assert set(whole.claims) - set(plan.study.claims) == {"masking_hurts"}
    assert set(whole.tables) - set(plan.study.tables) == {"probes"}
    assert not derived(tmp_path, home, claims=None).study.claims
    assert not derived(tmp_path, home, "claims=null").study.claims
    plan = derived(tmp_path, home, "claims.masking_hurts=null", "claims.pooling_matters_more.where.scale=null")
    assert "masking_hurts" not in plan.study.claims
    assert set(plan.study.claims["pooling_matters_more"].where) == {"method"}


def test_what_is_said_of_a_level_goes_with_it(tmp_path: Path, home: Home) -> None:
    claims = {"max_shrinks_gain": None, "pooling_matters_more": None, "masking_hurts": None}
    plan = derived(tmp_path, home, claims=claims, factors={"pooling": {"max": None}, "method": {"masked_clip": None}})
    assert plan.study.factors["pooling"] == ("map", "gap")
    assert not [cell for cell in plan.cells if "max" in cell.values() or cell["method"] == "masked_clip"]
    ids = {task.task_id for task in plan.tasks}
    assert ids < {task.task_id for task in make_plan("demo", home=home).tasks}


def test_what_is_said_of_a_factor_goes_with_it() -> None:
    data = {
        "factors": {"a": {"x": {}, "y": None}, "b": None},
        "applies": {"b": {"a": "x"}, "c": {"a": ["x", "y"]}},
        "drop": [{"a": "y", "b": "z"}, {"a": "x"}, {"b": "z"}, {"a": ["x", "y"]}],
        "baseline": {"a": "x", "b": "z"},
        "tables": {
            "t": {
                "rows": ["a", "b"],
                "split": "b",
                "where": {"a": ["x", "y"], "b": "z"},
                "reference": {"levels": {"a": {"x": {}, "y": {}}, "b": {}}},
            }
        },
        "claims": {"c": {"where": {"a": "y"}}, "d": {"where": {"a": ["x", "y"]}}},
        "figures": {"f": {"where": {"b": "z"}}},
    }
    assert without_removed(data) == {
        "factors": {"a": {"x": {}}},
        "applies": {"c": {"a": ["x"]}},
        "drop": [{"a": ["x"]}, {"a": ["x"]}],
        "baseline": {"a": "x"},
        "tables": {"t": {"rows": ["a"], "where": {"a": ["x"]}, "reference": {"levels": {"a": {"x": {}}}}}},
        "claims": {"d": {"where": {"a": ["x"]}}},  # the other one was about nothing that is left
        "figures": {"f": {"where": {}}},
    }


def test_claims_without_cells_are_told_together_with_the_way_out(tmp_path: Path, home: Home) -> None:
    with pytest.raises(ConfigError) as error:
        derived(tmp_path, home, drop=[{"scale": "small"}, {"pooling": "max"}])
    text = str(error.value)
    assert "claims.small_gain.statement: no cell of the study, as `where` leaves it, is 'mae_clip[map]'" in text
    assert "neither can the cells answer gap_shrinks_gain, max_shrinks_gain, scale_shrinks_gain" in text
    remedy = yaml.safe_load(text.partition("without: claims: ")[2].partition(" (all claims away: claims=null)")[0])
    assert derived(tmp_path, home, drop=[{"scale": "small"}, {"pooling": "max"}], claims=remedy).study.claims


def test_an_empty_level_of_ones_own_is_no_removal(tmp_path: Path, home: Home) -> None:
    (tmp_path / "study").mkdir()
    for levels, words in (
        ("{plain: , wide: {model.width: 96}}", "null takes a level away; one that changes nothing is {}"),
        ("", "no levels"),
    ):
        text = f"name: mine\nbase: {{model: tiny, data: shapes, schedule: demo}}\nfactors:\n  size: {levels}\n"
        (tmp_path / "study" / "mine.yaml").write_text(text)
        with pytest.raises(ConfigError, match=words):
            make_plan("mine", (), str(tmp_path), home)
