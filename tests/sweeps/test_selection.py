"""`--budget` and `--for`: which tasks are handed over, what is said of the others, and that only those are run."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
from fakes import FAKE, HERE, tiny_plan

from ablative.study.cli import main
from ablative.study.core.errors import AblateError, ConfigError
from ablative.study.core.files import read_json, write_json
from ablative.study.core.packages import PACKAGES
from ablative.study.home.journal import Journal
from ablative.study.home.paths import Home
from ablative.study.plan.plan import Plan, Task, make_plan
from ablative.sweeps import run as runs
from ablative.sweeps.status.render import notice
from ablative.sweeps.status.task_states import survey
from ablative.sweeps.submission import submit as submissions
from ablative.sweeps.submission.selection import select

STUDY = """
name: grid
base: {model: tiny, data: shapes, schedule: demo, objective: mae_clip}
seeds: [0, 1]
factors:
  pooling: {gap: {model.pooling: gap}, map: {model.pooling: map}, max: {model.pooling: max}}
  masking: {a: {objective.mask_ratio: 0.5}, b: {objective.mask_ratio: 0.75}}
baseline: {pooling: gap, masking: a}
protocols: [zero_shot, linear_probe]
tables:
  main: {rows: [pooling], split: masking, columns: [{metric: zero_shot/*/top1}]}
  probes: {rows: [pooling], where: {masking: b}, columns: [{metric: linear_probe/*/top1}]}
claims:
  attention: {statement: "map[b] > gap[b]", metric: linear_probe/*/top1}
"""
HOUR = 3600.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grid")
    (folder / "study").mkdir()
    (folder / "study" / "grid.yaml").write_text(STUDY)
    return folder


@pytest.fixture(scope="module")
def composed(folder: Path) -> Plan:
    return make_plan("grid", (), str(folder), Home(folder / "home"))


@pytest.fixture
def plan(composed: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """The baseline's first seed is finished, with its probe, from which all others are priced: a run at about an hour
    (by FLOPs a little more with an attention head), an evaluation at a quarter."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("ABLATE_HOME", str(tmp_path))
    plan = dataclasses.replace(composed, home=Home(tmp_path))
    first = plan.runs[0]
    finish(plan, first, HOUR)
    for task in plan.tasks:
        if task.run_id == first.run_id and not task.opens:
            finish(plan, task, HOUR / 4)
    return plan


def finish(plan: Plan, task: Task, seconds: float) -> None:
    write_json(task.paths(plan.home).record, {"state": "completed", "seconds": seconds, "metrics": {}})


def cells(plan: Plan) -> set[tuple[str, str, int]]:
    """Runs of a plan that are not finished."""
    states = survey(plan)
    open_runs = [state.task for state in states.states if not state.finished and state.task.opens]
    return {(task.cells[0]["pooling"], task.cells[0]["masking"], task.seed) for task in open_runs}


def test_a_budget_takes_the_baseline_then_whole_rows(plan: Plan) -> None:
    # A run with two evaluations is a unit of about 1.5 hours; the first of twelve is done.
    found = select(plan, "1.7cpuh")
    assert cells(found.plan) == {("gap", "a", 1)} and len(found.left) == 10
    # The baseline's row lacks two more; the cell of the others would be as cheap.
    found = select(plan, "4.8cpuh")
    assert cells(found.plan) == {("gap", "a", 1), ("gap", "b", 0), ("gap", "b", 1)}
    # Two tables have this row: main's, and with masking b alone that of the probes.
    assert found.rows == (2, 6)
    lines = found.describe()
    assert lines[0].startswith("a budget of 4.8 pays for 3 runs for about 4.")
    assert "core-hours, and completes 2 of 6 table rows" in lines[0]
    assert lines[1].startswith("left out 8 runs for about 1") and "pooling=map,masking=a seed=0,1" in lines[1]
    assert sum(unit.price for unit in found.chosen) <= 4.8
    everything = select(plan, "100cpuh")
    assert len(everything.plan.tasks) == len(plan.tasks) and not everything.left
    assert everything.describe() == [everything.describe()[0]] and everything.rows == (6, 6)


def test_what_is_done_or_cannot_be_helped_is_not_paid_for(plan: Plan) -> None:
    failed = next(task for task in plan.runs if task.cells[0] == {"pooling": "gap", "masking": "b"})
    submissions.prepare_home(plan.home)
    write_json(
        failed.paths(plan.home).failure,
        {"cause": "code", "type": "ValueError", "message": "", "fingerprint": "f", "snapshot": code_of_today()},
    )
    found = select(plan, "100cpuh")
    assert found.rows[1] == 4, "the two rows of the failed run cannot be completed"
    assert failed.run_id not in {unit.run.run_id for unit in found.chosen}
    assert failed in found.plan.tasks, "its failure is still told"
    assert len(found.chosen) == 10 and all(len(unit.tasks) == 3 for unit in found.chosen)


def code_of_today() -> str:
    from ablative.sweeps.queue import snapshot

    return snapshot.current(PACKAGES[:2])


def test_for_takes_only_what_the_table_needs(plan: Plan) -> None:
    found = select(plan, output="probes")
    open_tasks = [state.task for state in survey(found.plan).states if not state.finished]
    assert len(open_tasks) == 12 and {task.stage for task in open_tasks} == {"train", "linear_probe"}
    assert {task.cells[0]["masking"] for task in open_tasks} == {"b"}
    assert found.describe() == [] and found.to_json() == {}
    both = select(plan, "2.6cpuh", "probes")
    assert len(both.chosen) == 2 and both.rows == (1, 3), "a unit is 1.25 hours: its other evaluation is not wanted"
    with pytest.raises(ConfigError, match="unknown table or claim 'probe'; did you mean 'probes'"):
        select(plan, output="probe")


def test_a_part_of_a_plan_is_written_as_the_whole_study(plan: Plan) -> None:
    part = select(plan, "1.7cpuh").plan
    part.write()
    written = read_json(plan.home.study("grid").plan)
    assert written is not None and len(written["tasks"]) == len(plan.tasks)


def test_budgets_that_pay_for_nothing_are_refused(plan: Plan) -> None:
    with pytest.raises(AblateError, match=r"pays for none of 11 runs; the cheapest, .* costs about 1\.\d core-hours"):
        select(plan, "0.1cpuh")
    with pytest.raises(ConfigError, match=r"would run on CPUs here \(cluster=local\); give core-hours, such as 3cpuh"):
        select(plan, "3gpuh")


def test_gpu_hours_are_those_of_the_cluster(folder: Path, tmp_path: Path) -> None:
    words = ("cluster=slurm", "cluster.gpus=1", "cluster.gpu_type=h100")
    plan = make_plan("grid", words, str(folder), Home(tmp_path))
    full = select(plan, "1000gpuh")
    assert full.currency == "H100-hours" and not full.left
    price = sum(unit.price for unit in full.chosen)
    half = select(plan, f"{price / 2:.6f}gpuh")
    assert 0 < len(half.chosen) < 12 and sum(unit.price for unit in half.chosen) <= price / 2
    assert half.to_json()["left"][0].keys() == {"run_id", "cell", "seed", "price"}


def test_plan_shows_and_submit_and_run_take_the_selection(
    plan: Plan, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["grid", "--config-dir", str(folder), "--budget", "1.7cpuh"]
    assert main(["plan", *words], standalone=False) == 0
    text = capsys.readouterr().out
    assert "1 cells, 2 runs, 6 tasks; 3 missing" in text and "left out 10 runs" in text
    assert main(["plan", *words, "--json"], standalone=False) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["budget"]["hours"], data["budget"]["unit"], len(data["budget"]["left"])) == (1.7, "cpuh", 10)
    taken: list[Plan] = []

    def submit(plan: Plan, *_: Any) -> submissions.Submission:
        taken.append(plan)
        return submissions.Submission(submissions.Choice((), (), ()), None, 0, "")

    monkeypatch.setattr(submissions, "submit", submit)
    assert main(["submit", *words, "--json"], standalone=False) == 0
    assert json.loads(capsys.readouterr().out)["budget"]["price"] == pytest.approx(1.5, abs=0.1)
    assert main(["submit", "grid", "--config-dir", str(folder), "--for", "probes"], standalone=False) == 0
    assert main(["submit", "grid", "--config-dir", str(folder), "--for", "attention"], standalone=False) == 0
    assert [len(cells(part)) for part in taken] == [1, 6, 4]
    assert main(["submit", *words[:-1], "much"], standalone=False) == 2
    assert "such as 200gpuh" in capsys.readouterr().err


def test_run_does_the_selection_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    plan = tiny_plan(Home(tmp_path / "home"))
    prices = [unit.price for unit in select(plan, "1000cpuh").chosen]
    chosen = select(plan, f"{math.ceil(1e6 * (prices[0] + min(prices[1:]))) / 1e6}cpuh")
    assert len(chosen.chosen) == 2 and len(chosen.left) == 1
    said: list[str] = []
    states = runs.Watcher(chosen.plan, 1, lambda _: None, said.append, FAKE).run()
    assert states.finished and len(states.states) == 4
    assert survey(plan).counts == {"completed": 4, "eligible": 1, "waiting": 1}
    assert len(list(plan.home.study("tiny").submissions.iterdir())) == 1, "nothing is handed over a second time"
    assert notice(plan, survey(plan)) == "", "the third run was left out, and nobody failed to do it"


def test_status_tells_what_was_spent_and_wasted(plan: Plan, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["status", "grid", "--config-dir", str(folder)]
    second, third = plan.runs[1:3]
    finish(plan, second, HOUR)
    record = read_json(second.paths(plan.home).record)
    write_json(second.paths(plan.home).record, {**record, "spent": {"wasted": HOUR / 2, "gpus": 0, "cores": 2}})
    journal = Journal(third.paths(plan.home).journal)
    journal.event("started")
    journal.tags({"ablate.cores": 1, "ablate.gpus": 0})
    journal.close()
    write_json(third.paths(plan.home).failure, {"cause": "killed", "message": "", "snapshot": ""})
    assert main(words, standalone=False) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "spent: 3.5 core-hours, 1 of them wasted (29%)" in text, "two cores for an hour, of which half was lost"
    assert main([*words, "--json"], standalone=False) == 0
    cost = json.loads(capsys.readouterr().out)["cost"]
    assert cost["study"]["core_hours"] == pytest.approx(3.5, abs=0.01)
    assert cost["runs"][second.run_id]["core_wasted"] == pytest.approx(1.0)
    assert cost["cells"]["pooling=gap,masking=a"] == {
        **cost["study"],
        "core_hours": pytest.approx(3.5),
        "core_wasted": pytest.approx(1.0, abs=0.01),
        "kwh": pytest.approx(cost["study"]["kwh"], abs=1e-4),
    }
    assert cost["tables"]["main"]["core_hours"] == pytest.approx(3.25, abs=0.01), "without the probe"
    assert cost["tables"]["probes"]["core_hours"] == pytest.approx(0.0, abs=0.01)
