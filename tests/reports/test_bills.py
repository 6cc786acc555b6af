"""What was spent and wasted, from the store alone: by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from shared import empty_store
from stores import mlflow_client, plan_of, track_task

from ablative.reports.costs.usage_table import bill_table, billed
from ablative.reports.store.database_store import open_store
from ablative.reports.store.warehouse import Warehouse
from ablative.study.core.errors import StoreError
from ablative.study.costs.usage import TaskUsage
from ablative.study.costs.usage_totals import usage_totals
from ablative.study.plan.plan import Plan

STUDY = """
name: pooled
base: {model: tiny, data: shapes, schedule: demo, objective: clip}
seeds: [0, 1]
factors:
  pooling: {map: {model.pooling: map}, gap: {model.pooling: gap}}
protocols: [zero_shot]
tables:
  main: {rows: [pooling], columns: [{metric: zero_shot/*/top1}]}
  gap: {rows: [pooling], where: {pooling: gap}, columns: [{metric: train/loss}]}
"""


def tags(seconds: float, wasted: float, gpus: int, cores: int = 1, **more: str) -> dict[str, str]:
    return {"seconds": f"{seconds}", "seconds_wasted": f"{wasted}", "gpus": f"{gpus}", "cores": f"{cores}", **more}


def store(plan: Plan, path: Path, told: dict[str, dict[str, str]]) -> str:
    """A store with these tasks, each with its tags."""
    path.write_bytes(empty_store().read_bytes())
    uri = f"sqlite:///{path}"
    with mlflow_client(uri) as client:
        experiment = client.create_experiment("pooled")
        for task in plan.tasks:
            if task.task_id in told:
                given = dict(told[task.task_id])
                track_task(client, experiment, task, given.pop("state", "completed"), **given)
    return uri


def test_bills_come_from_the_tags_of_the_attempts(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, STUDY)
    first, second, third, fourth = plan.runs
    told = {
        first.task_id: tags(7200, 1800, 2, device="NVIDIA H200") | {"scheduler.queue_seconds": "900"},
        second.task_id: tags(3600, 3600, 1, state="failed"),
        third.task_id: tags(3600, 0, 0, 4),
        # Tracked before attempts told their costs.
        fourth.task_id: {},
    }
    with Warehouse(open_store(store(plan, tmp_path / "mlflow.db", told), tmp_path), plan) as warehouse:
        table = billed(plan, warehouse)
        assert table is not None
        assert table.columns == (
            "GPU-hours", "wasted GPU-hours", "core-hours", "wasted core-hours", "hours in the queue"
        )  # fmt: skip
        assert dict(table.parts) == {
            "main": ("5", "2", "4", "0", "0.25"),
            "gap": ("0", "0", "4", "0", "0"),
            "the study": ("5", "2", "4", "0", "0.25"),
        }
        assert dict(table.cells)["pooling=map"] == ("5", "2", "0", "0", "0.25")
        assert table.words.startswith("5 GPU-hours, 2 of them wasted (40%) and 4 core-hours; 0.25 hours in the queue")
        rows = warehouse.rows("select task_id, clock_seconds from cost where state = 'failed'")
        assert rows == [(second.task_id, 3600.0)], "a task that failed has a cost, too"


def test_a_store_that_tells_nothing_has_no_bill(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, STUDY)
    uri = store(plan, tmp_path / "mlflow.db", {plan.runs[0].task_id: {}})
    with Warehouse(open_store(uri, tmp_path), plan) as warehouse:
        assert billed(plan, warehouse) is None


def test_more_waste_than_time_is_refused(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, STUDY)
    uri = store(plan, tmp_path / "mlflow.db", {plan.runs[0].task_id: tags(10, 20, 1)})
    with pytest.raises(StoreError, match="cost is not negative"):
        Warehouse(open_store(uri, tmp_path), plan)


def test_evaluations_count_where_a_table_needs_them(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, STUDY)
    found = usage_totals(plan, {task.task_id: TaskUsage(3600, 0, 0, 1) for task in plan.tasks})
    assert (found.study.core_hours, found.tables["main"].core_hours, found.tables["gap"].core_hours) == (8, 8, 2)
    assert set(map(lambda bill: bill.core_hours, found.cells.values())) == {4}
    assert {run: bill.core_hours for run, bill in found.runs.items()} == {task.run_id: 2 for task in plan.runs}
    assert bill_table(found).columns == ("core-hours", "wasted core-hours")
