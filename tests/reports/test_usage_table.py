"""What was spent and wasted, from the store alone: by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from shared import empty_store
from stores import mlflow_client, plan_of, track_task

from ablative.reports.costs.stage_costs import cost_rows, statement
from ablative.reports.costs.usage_table import study_usage, usage_table
from ablative.reports.store.coverage import cover
from ablative.reports.store.database_store import open_store
from ablative.reports.store.results import Results
from ablative.reports.store.warehouse import Warehouse
from ablative.study.core.errors import StoreError
from ablative.study.costs.usage import TaskUsage, amount, total
from ablative.study.costs.usage_totals import usage_totals
from ablative.study.plan.plan import Plan
from ablative.sweeps.status.task_states import Survey, TaskState, task_usage

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


def test_usage_comes_from_the_tags_of_the_attempts(tmp_path: Path) -> None:
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
        table = study_usage(Results(plan, cover(plan, warehouse), warehouse))
        assert table is not None
        assert table.columns == (
            "GPU-hours", "wasted GPU-hours", "core-hours", "wasted core-hours", "hours in the queue"
        )  # fmt: skip
        assert dict(table.parts) == {
            "main": ("5", "2", "4", "0", "0.25"),
            "gap": ("0", "0", "4", "0", "0"),
            "the study": ("5", "2", "4", "0", "0.25"),
        }
        assert dict(table.cells)["map"] == ("5", "2", "0", "0", "0.25")
        assert table.words.startswith("5 GPU-hours, 2 of them wasted (40%) and 4 core-hours; 0.25 hours in the queue")
        rows = warehouse.rows("select task_id, clock_seconds from cost where state = 'failed'")
        assert rows == [(second.task_id, 3600.0)], "a task that failed has a cost, too"


def test_a_store_without_the_tags_gives_no_usage_table(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, STUDY)
    uri = store(plan, tmp_path / "mlflow.db", {plan.runs[0].task_id: {}})
    with Warehouse(open_store(uri, tmp_path), plan) as warehouse:
        assert study_usage(Results(plan, cover(plan, warehouse), warehouse)) is None


def test_more_waste_than_time_is_refused(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, STUDY)
    uri = store(plan, tmp_path / "mlflow.db", {plan.runs[0].task_id: tags(10, 20, 1)})
    with pytest.raises(StoreError, match="cost is not negative"):
        Warehouse(open_store(uri, tmp_path), plan)


def test_evaluations_count_where_a_table_needs_them(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, STUDY)
    found = usage_totals(plan, {task.task_id: TaskUsage(3600, 0, 0, 1) for task in plan.tasks})
    assert (found.study.core_hours, found.tables["main"].core_hours, found.tables["gap"].core_hours) == (8, 8, 2)
    assert set(map(lambda usage: usage.core_hours, found.cells.values())) == {4}
    assert {run: usage.core_hours for run, usage in found.runs.items()} == {task.run_id: 2 for task in plan.runs}
    assert usage_table(found).columns == ("core-hours", "wasted core-hours")


def test_status_and_page_say_the_same_of_the_same_work(tmp_path: Path) -> None:
    """One finished run on 2 H100 for 10 hours with an attempt that was lost, one failed run, one run on CPUs."""
    plan = plan_of(tmp_path, STUDY)
    device = "NVIDIA H100 80GB HBM3"
    given = {
        plan.runs[0].task_id: TaskUsage(36000, 7200, 2, 3, device, 1800, cpu_hours=0.25),
        plan.runs[1].task_id: TaskUsage(3600, 3600, 1, 8, device, 0),
        plan.runs[2].task_id: TaskUsage(3600, 0, 0, 4, "x86_64", 0, cpu_hours=0.25),
    }
    told = {
        task_id: tags(
            usage.seconds, usage.wasted, usage.gpus, usage.cores, device=usage.device,
            state="failed" if usage.cpu_hours is None else "completed",
        ) | {"scheduler.queue_seconds": f"{usage.queue_seconds}"}
        for task_id, usage in given.items()
    }  # fmt: skip
    states = []
    for task in plan.runs[:3]:
        usage, paths = given[task.task_id], task.paths(plan.home)
        if usage.cpu_hours is None:
            values = {"ablate.gpus": usage.gpus, "ablate.cores": usage.cores, "ablate.device": usage.device}
            lines = [
                {"t": 0, "kind": "event", "name": "started"},
                {"t": 0, "kind": "tags", "values": {name: str(value) for name, value in values.items()}},
                {"t": 1000 * usage.seconds, "kind": "event", "name": "failed"},
            ]
            paths.root.mkdir(parents=True)
            paths.journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
            states.append(TaskState(task, "failed", "code"))
            continue
        record = {
            "state": "completed", "seconds": usage.seconds, "cost": {"cpu_hours": usage.cpu_hours},
            "spent": {"wasted": usage.wasted, "gpus": usage.gpus, "cores": usage.cores},
            "environment": {"device": usage.device, "scheduler": {"queue_seconds": usage.queue_seconds}},
        }  # fmt: skip
        states.append(TaskState(task, "completed", detail=record))
    status = total(task_usage(Survey(tuple(states)), plan.home).values())
    with Warehouse(open_store(store(plan, tmp_path / "mlflow.db", told), tmp_path), plan) as warehouse:
        table, rows = study_usage(Results(plan, cover(plan, warehouse), warehouse)), cost_rows(warehouse)
    # 20 + 1 GPU-hours at 700 W; 0.25 + 0.25 busy core-hours, and 8 held by the run that failed, at 12 W.
    assert (status.gpu_hours, status.kwh) == (21, pytest.approx(21 * 0.7 + 8.5 * 0.012))
    assert table is not None and table.words == status.describe()
    assert (rows[-1].gpu_hours, rows[-1].energy_kwh) == (status.gpu_hours, pytest.approx(status.kwh))
    assert f"The estimated energy is {amount(status.kwh)} kWh" in statement(rows, {device: 2}, "")
    assert f"about {amount(status.kwh)} kWh" in status.describe()
