"""Levels that start from another run (`from: {factor: level}`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ablative.study.core.errors import ConfigError
from ablative.study.home.paths import Home
from ablative.study.plan.plan import Plan, make_plan

LENGTHS = {
    "half": {"schedule.steps": 20},
    "tuned": {"schedule.steps": 10, "schedule.lr": 0.0001, "from": {"length": "half"}},
    "twice": {"schedule.steps": 5, "from": {"length": "tuned"}},
}


def plan_of(folder: Path, **study: Any) -> Plan:
    content = {
        "name": "staged",
        "base": {"model": "tiny", "data": "shapes", "schedule": "demo"},
        "seeds": [0, 1],
        "factors": {
            "method": {"clip": {"objective": "clip"}, "mae": {"objective": "mae"}},
            "length": LENGTHS,
        },
        "baseline": {"method": "mae", "length": "twice"},
        "protocols": ["linear_probe"],
        **study,
    }
    (folder / "study").mkdir(exist_ok=True)
    (folder / "study" / "staged.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return make_plan("staged", ["schedule.warmup_steps=2"], str(folder), Home(folder / "home"))


def test_a_run_needs_that_of_the_same_cell_and_seed(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    by_cell = {(run.cells[0]["method"], run.cells[0]["length"], run.seed): run for run in plan.runs}
    assert len(by_cell) == 12
    for (method, length, seed), run in by_cell.items():
        before = {"half": None, "tuned": "half", "twice": "tuned"}[length]
        parent = by_cell[method, before, seed].task_id if before else ""
        assert run.config.parent == parent
        assert run.needs == ((parent,) if parent else ()) and run.need_runs == run.needs
        assert run.need_stages == (("from",) if parent else ())
    order = [task.task_id for task in plan.tasks]
    assert all(order.index(need) < order.index(task.task_id) for task in plan.tasks for need in task.needs)


def test_a_run_without_a_parent_keeps_its_id(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    staged = plan_of(tmp_path)
    plain = plan_of(
        tmp_path / "plain",
        factors={"length": {"half": LENGTHS["half"]}},
        baseline={},
        base={
            "model": "tiny",
            "data": "shapes",
            "schedule": "demo",
            "objective": "clip",
        },
    )
    assert {run.task_id for run in plain.runs} < {run.task_id for run in staged.runs}


@pytest.mark.parametrize(
    ("levels", "words"),
    [
        ({"a": {}, "b": {"from": {"length": "c"}}}, r"factors.length.b.from.length: unknown level 'c'.*allowed: a, b"),
        (
            {"a": {}, "b": {"from": {"lenght": "a"}}},
            r"factors.length.b.from: unknown factor 'lenght'; did you mean",
        ),
        ({"a": {}, "b": {"from": {"length": "b"}}}, r"factors.length.b.from: 'b' would start from itself"),
        ({"a": {}, "b": {"from": "a"}}, r"factors.length.b.from: expected factor: level, found 'a'"),
        (
            {"a": {"schedule.steps": 9, "from": {"length": "b"}}, "b": {"from": {"length": "a"}}},
            r"length=a starts from .*length=b starts from .*length=a; a run cannot start from itself",
        ),
    ],
)
def test_a_parent_that_cannot_be_is_refused(tmp_path: Path, levels: Any, words: str) -> None:
    factors = {"method": {"clip": {"objective": "clip"}, "mae": {"objective": "mae"}}, "length": levels}
    with pytest.raises(ConfigError, match=words):
        plan_of(tmp_path, factors=factors, baseline={})


def test_a_parent_that_is_dropped_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"starts from the same cell with length=half, which is no cell of the grid"):
        plan_of(tmp_path, drop=[{"length": "half", "method": "mae"}])
