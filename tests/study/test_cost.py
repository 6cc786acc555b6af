"""Estimates from finished tasks and from FLOPs, time spent and wasted, and energy: by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablative.study.core.files import write_json
from ablative.study.costs import estimate as estimate_module
from ablative.study.costs.devices import driven, find, known, label
from ablative.study.costs.estimate import (
    ASSUMED_FLOPS_PER_CORE,
    ASSUMED_SECONDS,
    ASSUMED_UTILISATION,
    estimate,
)
from ablative.study.costs.history import facts, similarity_keys
from ablative.study.costs.usage import TaskUsage, Usage, total
from ablative.study.home.attempt_times import Elapsed, attempts, elapsed
from ablative.study.home.paths import Home
from ablative.study.plan.plan import Plan, Task, make_plan
from ablative.trainer.clip.models.flops import run_flops
from ablative.trainer.clip.spec.config import RunConfig

STUDY = """
name: priced
base: {model: tiny, data: shapes, schedule: demo}
seeds: [0, 1, 2]
factors:
  length: {short: {schedule.steps: 20}, long: {schedule.steps: 40}, none: {schedule.steps: 0}}
  method: {clip: {objective: clip}, mae_clip: {objective: mae_clip}}
protocols: [zero_shot]
"""


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return plan_of(tmp_path_factory.mktemp("priced"))


def plan_of(folder: Path, *overrides: str) -> Plan:
    (folder / "study").mkdir(exist_ok=True)
    (folder / "study" / "priced.yaml").write_text(STUDY)
    return make_plan("priced", overrides, str(folder), Home(folder / "home"))


@pytest.fixture
def plan(composed: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return dataclasses.replace(composed, home=Home(tmp_path))


def tasks(plan: Plan, kind: str = "pretrain", **levels: str) -> list[Task]:
    return [task for task in plan.tasks if task.kind == kind and levels.items() <= task.cells[0].items()]


def flops(task: Task) -> float:
    assert isinstance(task.config, RunConfig)
    return run_flops(task.config)


def finish(plan: Plan, task: Task, seconds: float, **more: Any) -> None:
    """A record with what estimates read."""
    environment = {"device": "x86_64", "processes": 1}
    write_json(
        task.paths(plan.home).record, {"state": "completed", "seconds": seconds, "environment": environment, **more}
    )


def test_without_history_flops_are_set_against_a_core(plan: Plan) -> None:
    costs = estimate(plan)
    (short, *_), (long, *_) = tasks(plan, length="short", method="clip"), tasks(plan, length="long", method="clip")
    assert costs.core_seconds[short.task_id] == pytest.approx(flops(short) / ASSUMED_FLOPS_PER_CORE)
    assert costs.core_seconds[long.task_id] == pytest.approx(2 * costs.core_seconds[short.task_id])
    evaluation = tasks(plan, "evaluate")[0]
    assert costs.core_seconds[evaluation.task_id] == ASSUMED_SECONDS
    assert (costs.source[short.task_id], costs.source[evaluation.task_id], costs.gpus) == ("flops", "assumed", ())
    assert "18 guessed from FLOPs at 40 GFLOP/s a core; 18 at an assumed 5 s a task" in costs.summary(plan.tasks)


def test_like_runs_by_their_median_and_in_proportion_to_flops(plan: Plan) -> None:
    for task, seconds in zip(tasks(plan, length="short", method="clip"), (10.0, 12.0, 100.0), strict=True):
        finish(plan, task, seconds)
    costs = estimate(plan)
    short, long = tasks(plan, length="short", method="clip"), tasks(plan, length="long", method="clip")
    assert [costs.core_seconds[task.task_id] for task in short] == [10.0, 12.0, 100.0]
    assert [costs.core_seconds[task.task_id] for task in long] == pytest.approx([24.0] * 3)
    assert (costs.source[short[0].task_id], costs.source[long[0].task_id]) == ("measured", "history")
    assert costs.basis(long) == "from finished tasks like these"
    # Another objective takes as many seconds for a FLOP, as far as anybody knows.
    (other, *_) = tasks(plan, length="long", method="mae_clip")
    assert costs.core_seconds[other.task_id] == pytest.approx(24.0 * flops(other) / flops(long[0]))
    assert costs.source[other.task_id] == "loose history"


def test_untrained_runs_tell_nothing_of_training(plan: Plan) -> None:
    for task in tasks(plan, length="none", method="clip"):
        finish(plan, task, 3.0)
    costs = estimate(plan)
    assert costs.source[tasks(plan, length="short")[0].task_id] == "flops"
    (none, *_) = tasks(plan, length="none", method="mae_clip")
    assert (costs.core_seconds[none.task_id], costs.source[none.task_id]) == (3.0, "loose history")


def test_wasted_time_and_diverged_runs_do_not_count(plan: Plan) -> None:
    first, second, third = tasks(plan, length="short", method="clip")
    finish(plan, first, 30.0, spent={"wasted": 18.0, "gpus": 0, "cores": 1})
    finish(plan, second, 1.0, state="diverged")
    costs = estimate(plan)
    assert costs.core_seconds[third.task_id] == pytest.approx(12.0)
    assert costs.source[second.task_id] == "measured"


def test_finished_runs_of_other_studies_count_too(plan: Plan) -> None:
    (short, *_) = tasks(plan, length="short", method="clip")
    assert isinstance(short.config, RunConfig)
    written = facts(plan.trainer, short.stage, short.config, {})
    assert (written["like"], written["loose"]) == similarity_keys(plan.trainer, short.stage, short.config, {})
    record = {"state": "completed", "seconds": 7.0, "alike": written, "environment": {"processes": 2}}
    write_json(plan.home.run("f" * 12).record, record)
    write_json(plan.home.run("e" * 12).record, {"state": "completed", "seconds": 1.0})
    write_json(plan.home.run("d" * 12).record, {**record, "state": "diverged", "seconds": 1.0})
    costs = estimate(plan)
    assert costs.core_seconds[short.task_id] == pytest.approx(14.0), "two processes for seven seconds"
    assert costs.source[short.task_id] == "history"


def test_records_that_are_given_are_not_read_again(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    (short, other, *_) = tasks(plan, length="short", method="clip")
    record = {"state": "completed", "seconds": 4.0}
    monkeypatch.setattr(estimate_module, "read_record", None)
    assert estimate(plan, {short.task_id: record}).core_seconds[other.task_id] == pytest.approx(4.0)


def test_gpu_hours_from_like_runs_on_that_gpu_else_from_its_peak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(tmp_path, "cluster=slurm", "cluster.gpus=1", "cluster.gpu_type=h200", "cluster.cpus=4")
    (short, *_), (long, *_) = tasks(plan, length="short", method="clip"), tasks(plan, length="long", method="clip")
    costs = estimate(plan)
    h200 = find("h200")
    assert h200 is not None
    expected = flops(short) / (h200.fp32 * ASSUMED_UTILISATION)
    assert costs.gpu_hours[short.task_id] == {"H200": pytest.approx(expected / 3600)}
    assert costs.core_seconds[short.task_id] == pytest.approx(4 * expected), "four cores are held meanwhile"
    environment = {"device": "NVIDIA H200", "processes": 2}
    finish(plan, short, 1800.0, environment=environment, cost={"gpu_hours": 1.0})
    costs = estimate(plan)
    assert costs.gpu_hours[long.task_id] == {"H200": pytest.approx(2.0)}
    assert (costs.gpus, costs.either, costs.source[long.task_id]) == (("H200",), False, "history")
    assert costs.price([long], "gpuh") == pytest.approx(2.0) and costs.price([long], "cpuh") == pytest.approx(8.0)
    other = estimate(plan_of(tmp_path, "cluster=slurm", "cluster.gpus=1", "cluster.gpu_type=a100"))
    assert other.gpus == ("A100",) and other.source[long.task_id] == "flops", "nothing like it ran on an A100"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not estimate(plan_of(tmp_path)).gpus, "in fp32 and without a GPU: core-hours"


def test_devices_are_found_by_the_words_of_their_names() -> None:
    names = {"NVIDIA A100-SXM4-80GB": "A100", "NVIDIA A10": "A10", "nvidia_h100_pcie": "H100 PCIe", "h100": "H100"}
    assert {name: label(name) for name in names} == names
    assert (find("NVIDIA A1000"), label("NVIDIA RTX A1000")) == (None, "RTX A1000")
    for device in known():
        assert device.bf16 > device.fp32 > 1e13 and 50 < device.watts < 2000 and "data sheet" in device.source
    assert "\n" not in driven()


def entry(seconds: float, name: str, **fields: Any) -> dict[str, Any]:
    return {"t": int(1000 * seconds), "kind": "event", "name": name, **fields}


def report(seconds: float, step: int) -> dict[str, Any]:
    return {"t": int(1000 * seconds), "kind": "metrics", "step": step, "values": {}}


KILLED = [entry(0, "started"), report(4, 10), report(8, 20), report(9, 22)]
"""Nine seconds and 22 steps, and no word at the end."""
SAVED = entry(21, "checkpoint restored", step=22)
AGAIN = [entry(20, "resumed"), entry(21, "checkpoint restored", step=20), report(25, 30), entry(26, "completed")]


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], Elapsed(0, 0)),
        ([entry(0, "started"), entry(5, "completed")], Elapsed(5, 0)),
        ([entry(0, "started"), entry(5, "diverged")], Elapsed(5, 5)),
        ([entry(0, "started"), entry(5, "failed")], Elapsed(5, 5)),
        # The checkpoint was of step 20, which was reported after 8 of the 9 seconds.
        ([*KILLED, *AGAIN], Elapsed(15, 1)),
        # Its checkpoint was of no use to the next attempt.
        ([*KILLED, entry(20, "resumed"), entry(26, "completed")], Elapsed(15, 9)),
        # Stopped as asked: it saved before it ended. A program that did not is known by where it went on.
        ([*KILLED, entry(9, "interrupted"), entry(20, "resumed"), SAVED, *AGAIN[2:]], Elapsed(15, 0)),
        ([*KILLED, entry(9, "interrupted"), *AGAIN], Elapsed(15, 1)),
        # A later attempt began at the beginning: all before it is lost.
        ([*KILLED, *AGAIN[:-1], entry(30, "resumed"), entry(32, "completed")], Elapsed(9 + 5 + 2, 14)),
        ([*KILLED, *AGAIN[:-1], entry(27, "diverged")], Elapsed(16, 16)),
    ],
)
def test_time_spent_and_wasted(entries: list[dict[str, Any]], expected: Elapsed) -> None:
    found = elapsed(attempts(entries))
    assert (found.seconds, found.wasted) == (pytest.approx(expected.seconds), pytest.approx(expected.wasted))


def test_a_task_that_is_not_over_keeps_what_it_has_saved() -> None:
    found = attempts(KILLED)
    assert elapsed(found) == Elapsed(9, 9)
    assert elapsed(found, saved=6.0) == Elapsed(9, 3)
    assert elapsed(found, alive=True) == Elapsed(9, 0)
    again = attempts([*KILLED, *AGAIN[:-1]])
    assert elapsed(again, saved=6.0) == Elapsed(14, 1 + 5), "nothing was saved since the second began"


def test_usage_by_hand() -> None:
    items = [
        TaskUsage(3600, 900, 4, 8, "NVIDIA H200", queue_seconds=1800, utilisation=40.0),
        TaskUsage(7200, 0, 1, 1, "NVIDIA H100 PCIe", utilisation=60.0),
        TaskUsage(1800, 1800, 0, 2, "x86_64"),
        TaskUsage(3600, 0, 1, 1, "a GPU of unknown power"),
    ]
    usage = total(items)
    expected = Usage(
        gpu_hours=7.0, gpu_wasted=1.0, core_hours=1.0, core_wasted=1.0, queue_hours=0.5,
        utilisation=(40 * 4 + 60 * 2) / 6, kwh=4 * 0.7 + 2 * 0.35 + 0.2 + 12 * 0.012,
    )  # fmt: skip
    assert dataclasses.astuple(usage) == pytest.approx(dataclasses.astuple(expected))
    assert usage.describe() == (
        "7 GPU-hours, 1 of them wasted (14%) and 1 core-hours, 1 of them wasted (100%); 0.5 hours in the queue; "
        "47 % of the GPUs' peak; about 3.84 kWh"
    )
    assert total([]).describe() == ""


def test_the_energy_of_two_gpus_and_three_cores_for_ten_hours_by_hand() -> None:
    """20 GPU-hours at 700 W and 30 core-hours at 12 W, whether cores are counted as held or measured as busy."""
    task = TaskUsage(36000, 0, 2, 3, "NVIDIA H100 80GB HBM3")
    assert (task.gpu_hours, task.core_hours) == (20, 30)
    assert task.energy_kwh == pytest.approx(14.36)
    assert dataclasses.replace(task, cores=16, cpu_hours=30.0).energy_kwh == pytest.approx(14.36)
    assert total([task]).describe() == "20 GPU-hours; about 14.36 kWh"


def test_what_a_record_tells() -> None:
    old = {"state": "diverged", "seconds": 9.0, "environment": {"processes": 2, "device": "NVIDIA A100-SXM4-40GB"}}
    assert TaskUsage.of({**old, "cost": {"gpu_hours": 0.1}}) == TaskUsage(9.0, 9.0, 2, 2, "NVIDIA A100-SXM4-40GB")
    told = {
        "state": "completed", "seconds": 9.0, "spent": {"wasted": 2.0, "gpus": 0, "cores": 3},
        "environment": {"scheduler": {"queue_seconds": 60.0}}, "cost": {"flops_utilisation": None},
    }  # fmt: skip
    assert TaskUsage.of(told) == TaskUsage(9.0, 2.0, 0, 3, "", 60.0)


def test_a_search_is_priced_before_it_is_done(tmp_path: Path, call_ablate: Callable[..., str]) -> None:
    """20 trials and 2 seeds of 3 repeats, 26 runs an arm, each with one evaluation."""
    shown = " ".join(call_ablate(tmp_path / "home", "plan", "weights", "--for", "weights").split())
    assert "The search, 2 arms of 20 trials, the best repeated with 2 seeds: about" in shown
    assert "52 at an assumed 5 s a task" in shown
    words = ("plan", "weights", "tables.weights.where={pooling: [map]}", "--for", "weights")
    assert "The search, 1 arm of 20 trials" in call_ablate(tmp_path / "home", *words), "the table waits for one arm"
