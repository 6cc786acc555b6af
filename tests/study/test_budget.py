"""What a budget pays for, and what a table needs: by hand."""

from __future__ import annotations

import pytest

from ablative.study.core.errors import ConfigError
from ablative.study.costs.budget import Budget, choose_runs, parse_budget, restrict, rows_of, wanted
from ablative.study.home.paths import Home
from ablative.study.plan.plan import Plan, make_plan

PRICES = {"base0": 3.0, "base1": 3.0, "a0": 2.0, "a1": 2.0, "b0": 1.0, "b1": 1.5, "c0": 5.0}
"""Two seeds of the baseline, of a and of b; one of c."""
BASE, A, B, C = (frozenset(names.split()) for names in ("base0 base1", "a0 a1", "b0 b1", "c0"))
CELLS = [BASE, A, B, C]
NOTHING: frozenset[str] = frozenset()

STUDY = """
name: grid
base: {model: tiny, data: shapes, schedule: demo}
seeds: [0, 1]
factors:
  scale:   {small: {schedule.steps: 20}, large: {schedule.steps: 40}}
  method:  {clip: {objective: clip}, mae: {objective: mae, model.pooling: gap}}
  pooling: {map: {model.pooling: map}, gap: {model.pooling: gap}}
applies: {pooling: {method: [clip]}}
baseline: {scale: small, method: clip, pooling: map}
protocols: [zero_shot, linear_probe]
tables:
  zs: {rows: [method, pooling], split: scale, columns: [{metric: zero_shot/*/top1}, {metric: train/loss}]}
  small: {rows: [method], where: {scale: small, pooling: map}, columns: [{metric: linear_probe/digits/top1}]}
effects:
  moves: {factors: [scale, pooling], where: {method: clip}, columns: [{metric: zero_shot/shapes_object/top1}]}
claims:
  pools: {statement: "clip[map] > clip[gap]", where: {scale: small}, metric: zero_shot/shapes_shape/top1}
  wide: {statement: "small < large", where: {method: mae}, metric: linear_probe/*/top1, estimand: tasks like these}
"""


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    folder = tmp_path_factory.mktemp("grid")
    (folder / "study").mkdir()
    (folder / "study" / "grid.yaml").write_text(STUDY)
    return make_plan("grid", (), str(folder), Home(folder / "home"))


def bought(budget: float, rows: list[frozenset[str]], baseline: frozenset[str] = BASE) -> set[str]:
    return set(choose_runs(PRICES, baseline, rows, CELLS, budget))


def test_the_baseline_comes_first_then_whole_rows_then_what_is_affordable() -> None:
    rows = [BASE, A, B | C]
    assert bought(6.0, rows) == BASE
    # 6 for the baseline's row and 4 for a's: b and c together (7.5) are too much.
    assert bought(10.0, rows) == BASE | A
    # 2.5 more pay for the cell b, although its row stays incomplete; 1 more only for its first seed.
    assert bought(12.5, rows) == BASE | A | B
    assert bought(11.0, rows) == BASE | A | {"b0"}
    assert bought(sum(PRICES.values()), rows) == set(PRICES)


def test_a_whole_row_comes_before_a_cell_that_is_cheaper() -> None:
    assert bought(4.0, [A, B | C], NOTHING) == A
    assert bought(3.5, [A, B | C], NOTHING) == B, "no row is affordable, nor is the cell a"
    assert bought(3.0, [], NOTHING) == B


def test_what_rows_share_is_paid_once() -> None:
    rows = [frozenset({"a0", "b0"}), frozenset({"b0", "b1"}), frozenset({"a0", "c0"})]
    # 2.5 for the second row, then the first lacks only a0, at 2; the third would cost 5 more.
    assert bought(4.5, rows, NOTHING) == {"b0", "b1", "a0"}
    assert bought(9.5, rows, NOTHING) == {"b0", "b1", "a0", "c0"}


def test_cells_of_many_rows_come_before_others() -> None:
    rows = [frozenset({"c0", "base0"}), frozenset({"c0", "base1"})]
    assert bought(5.0, rows, NOTHING) == C, "the baseline is too dear, and a, which is not, stands in no row"


def test_a_baseline_that_is_too_dear_is_bought_in_part() -> None:
    assert bought(3.0, [BASE, A | C]) == B, "its cell does not fit, that of b does"
    assert set(choose_runs({"base0": 3.0, "base1": 3.0}, BASE, [BASE], [BASE], 3.0)) == {"base0"}


def test_budgets_are_hours_with_a_unit() -> None:
    assert parse_budget("200gpuh") == Budget(200.0, "gpuh")
    assert parse_budget(" .5 cpuh") == Budget(0.5, "cpuh")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("200", "unknown unit ''"),
        ("200gpu", "did you mean 'gpuh'"),
        ("-3gpuh", "no number of hours"),
        ("many", "such as 200gpuh"),
        ("1e3gpuh", "unknown unit|no number"),
    ],
)
def test_other_budgets_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_budget(text)


def test_what_a_table_needs(plan: Plan) -> None:
    found = restrict(plan.tasks, wanted(plan, "zs"))
    # 6 cells of 2 seeds; MAE has no joint embedding, so that 4 of them have a zero-shot evaluation.
    assert [sum(task.protocol == name for task in found) for name in (None, "zero_shot", "linear_probe")] == [12, 8, 0]
    found = restrict(plan.tasks, wanted(plan, "small"))
    assert [sum(task.protocol == name for task in found) for name in (None, "zero_shot", "linear_probe")] == [4, 0, 4]
    assert {(task.cells[0]["scale"], task.cells[0].get("pooling", "map")) for task in found} == {("small", "map")}
    assert {task.cells[0]["method"] for task in restrict(plan.tasks, wanted(plan, "moves"))} == {"clip"}
    with pytest.raises(ConfigError, match=r"--for: study 'grid': unknown table or claim 'smal'; did you mean 'small'"):
        wanted(plan, "smal")


def test_what_a_claim_needs(plan: Plan) -> None:
    found = restrict(plan.tasks, wanted(plan, "pools"))
    assert [sum(task.protocol == name for task in found) for name in (None, "zero_shot", "linear_probe")] == [4, 4, 0]
    assert {(cell["scale"], cell["pooling"]) for task in found for cell in task.cells} == {
        ("small", "map"),
        ("small", "gap"),
    }
    with pytest.raises(ConfigError, match=r"claim 'wide' is about tasks like these: no number of seeds decides it"):
        wanted(plan, "wide")


def test_rows_of_a_table_hold_all_of_their_runs(plan: Plan) -> None:
    rows = rows_of(plan, ["zs"])
    assert [len(row) for row in rows] == [4, 4, 4], "two scales of two seeds each"
    assert frozenset().union(*rows) == {task.run_id for task in plan.runs}
    assert [len(row) for row in rows_of(plan, ["small", "zs"])] == [2, 2, 4, 4, 4]
