"""Keys that a run does not read: they move no id, a level of nothing else is refused, no finished run is lost."""

from __future__ import annotations

import dataclasses
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from ablative.study.cli import main
from ablative.study.core.errors import ConfigError, StoreError
from ablative.study.core.files import write_json
from ablative.study.core.identity import config_id
from ablative.study.core.typed import dump, read_config
from ablative.study.home.journal import Journal, read
from ablative.study.home.paths import Home
from ablative.study.plan.former_runs import describe, former_runs
from ablative.study.plan.plan import Plan, make_plan
from ablative.sweeps.submission.take_over import take_over

FROZEN = json.loads(gzip.decompress((Path(__file__).parents[1] / "frozen" / "ids.json.gz").read_bytes()))
METHODS = {"clip": {"objective": "clip"}, "masked": {"objective": "masked_clip"}, "mae_clip": {"objective": "mae_clip"}}


def plan_of(folder: Path, overrides: tuple[str, ...] = (), **study: Any) -> Plan:
    content = {
        "name": "keys",
        "base": {"model": "tiny", "data": "shapes", "schedule": "demo"},
        "seeds": [0],
        "protocols": ["zero_shot"],
        **study,
    }
    (folder / "study").mkdir(exist_ok=True)
    (folder / "study" / "keys.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return make_plan("keys", overrides, str(folder), Home(folder / "home"))


def test_a_word_moves_only_runs_that_read_its_key() -> None:
    stored = {item["id"] for item in FROZEN if item["study"] == "demo"}
    moved = [task for task in make_plan("demo", ["objective.mask_ratio=0.5"]).runs if task.task_id not in stored]
    assert {task.config.objective.name for task in moved} == {"mae", "m3ae", "mae_clip"}
    moved = [task for task in make_plan("demo", ["objective.input_mask_ratio=0.5"]).runs if task.task_id not in stored]
    assert {task.config.objective.name for task in moved} == {"masked_clip"}


def test_what_is_not_read_is_recorded_as_the_config_groups_have_it(tmp_path: Path) -> None:
    """The groups' value, not the schema's: presets set keys that their own objective does not read."""
    factors = {"method": {"mae": {"objective": "mae"}, **METHODS}}
    plan, word = (plan_of(tmp_path, words, factors=factors) for words in ((), ("objective.local_steps=3",)))
    by_method = {task.cells[0]["method"]: task for task in word.runs}
    assert by_method["mae"].config == plan.runs[0].config
    assert by_method["mae"].config.objective.local_steps == 8
    assert by_method["mae_clip"].config.objective.local_steps == 3


@pytest.mark.parametrize(
    ("levels", "words"),
    [
        (
            {"low": {"objective.mask_ratio": 0.5}, "high": {"objective.mask_ratio": 0.9}},
            r"factors.ratio.low: changes nothing, it sets objective.mask_ratio, which no run .*"
            r"it is objective.input_mask_ratio that they read",
        ),
        ({"few": {}, "many": {"objective.similarity_noise": 0.1}}, r"factors.ratio.many: changes nothing"),
        (
            {"few": {}, "deep": {"objective.w_image": 0.3, "objective.w_text": 0.3}},
            r"factors.ratio.deep: changes nothing",
        ),
    ],
)
def test_a_level_that_only_sets_what_no_run_reads_is_refused(tmp_path: Path, levels: Any, words: str) -> None:
    """Three such levels trained the same run three times, and were printed as three results."""
    with pytest.raises(ConfigError, match=words):
        plan_of(tmp_path, factors={"method": {"masked": METHODS["masked"]}, "ratio": levels})


def test_a_word_that_no_run_reads_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"override 'objective.w_image=0.3': changes nothing, no run"):
        plan_of(tmp_path, ("objective.w_image=0.3",), factors={"method": {"clip": METHODS["clip"]}})


def test_a_level_that_some_run_reads_is_one_run_elsewhere(tmp_path: Path) -> None:
    levels = {"low": {"objective.mask_ratio": 0.5}, "high": {"objective.mask_ratio": 0.9}}
    plan = plan_of(tmp_path, factors={"method": METHODS, "ratio": levels})
    cells = {task.cells[0]["method"]: len(task.cells) for task in plan.runs}
    assert len(plan.runs) == 4 and cells == {"clip": 2, "masked": 2, "mae_clip": 1}


def finish(home: Home, plan: Plan, former: Any, seed: int = 0) -> str:
    """A finished run with an evaluation as version 0.1.0 left it, under the id of `former`."""
    run_id = config_id(former)
    paths = home.run(run_id)
    journal = Journal(paths.journal)
    journal.params({"objective.mask_ratio": former.objective.mask_ratio})
    journal.metrics(1, {"train/loss": 1.5})
    journal.close()
    paths.config.write_text(dump(former))
    write_json(paths.record, {"state": "completed", "task_id": run_id, "kind": "pretrain", "seconds": 1.0})
    paths.checkpoints.mkdir()
    paths.model.write_bytes(b"weights")
    (paths.root / "shipped").mkdir()
    (paths.root / "shipped" / "keys.json").write_text("{}")
    evaluation = plan.trainer.bind(
        "zero_shot", next(t for t in plan.tasks if t.stage == "zero_shot").config, {"train": run_id}, 0
    )
    child = paths.evaluation(config_id(evaluation))
    Journal(child.journal).metrics(0, {"zero_shot/shapes_shape/top1": 50.0})
    child.config.write_text(dump(evaluation))
    write_json(child.record, {"state": "completed", "task_id": child.root.name, "kind": "evaluate", "seconds": 1.0})
    return run_id


def test_a_finished_run_under_a_former_id_is_named_and_taken_over(tmp_path: Path) -> None:
    levels = {"low": {"objective.mask_ratio": 0.5}, "high": {"objective.mask_ratio": 0.9}}
    plan = plan_of(tmp_path, factors={"method": METHODS, "ratio": levels})
    run = next(task for task in plan.runs if task.cells[0]["method"] == "clip")
    assert len(run.former_ids) == 2
    former = dataclasses.replace(run.config, objective=dataclasses.replace(run.config.objective, mask_ratio=0.9))
    assert config_id(former) == run.former_ids[1]
    former_id = finish(plan.home, plan, former)
    (found,) = former_runs(plan)
    assert found.run.task_id == run.task_id and [task.stage for task, _ in found.tasks] == ["train", "zero_shot"]
    assert former_id in describe((found,)) and "--take-over" in describe((found,))

    assert take_over(plan, (found,)) == 2
    paths = run.paths(plan.home)
    assert read_config(paths.config)["objective"]["mask_ratio"] == run.config.objective.mask_ratio
    record = json.loads(paths.record.read_text())
    assert (record["task_id"], record["taken_over"], record["state"]) == (run.task_id, former_id, "completed")
    entries, _ = read(paths.journal)
    assert entries[0]["values"] == {"objective.mask_ratio": str(run.config.objective.mask_ratio)}
    assert entries[-1]["name"] == "taken over" and entries[1]["values"] == {"train/loss": 1.5}
    assert paths.model.read_bytes() == b"weights" and not (paths.root / "shipped").exists()
    evaluation = next(task for task in plan.tasks if task.stage == "zero_shot" and task.run_id == run.run_id)
    assert read_config(evaluation.paths(plan.home).config)["run_id"] == run.task_id
    assert json.loads(plan.home.run(former_id).record.read_text())["task_id"] == former_id, "it stays as it was"
    assert not former_runs(plan)


def test_a_run_that_a_worker_begins_meanwhile_is_not_taken_over(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, ("objective.w_text=0.3",), factors={"method": METHODS})
    run = next(task for task in plan.runs if task.cells[0]["method"] == "clip")
    former = dataclasses.replace(run.config, objective=dataclasses.replace(run.config.objective, w_text=0.3))
    finish(plan.home, plan, former)
    (found,) = former_runs(plan)
    Journal(run.paths(plan.home).journal).metrics(1, {"train/loss": 2.5})
    with pytest.raises(StoreError, match="nothing of the run was taken over"):
        take_over(plan, (found,))
    assert [entry["values"] for entry in read(run.paths(plan.home).journal)[0]] == [{"train/loss": 2.5}]


def test_a_submission_asks_what_to_do_with_a_run_under_a_former_id(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(tmp_path, ("objective.w_text=0.3",), factors={"method": METHODS})
    run = next(task for task in plan.runs if task.cells[0]["method"] == "clip")
    for task in plan.tasks:
        if task.run_id != run.run_id:
            write_json(task.paths(plan.home).record, {"state": "completed", "task_id": task.task_id, "seconds": 1.0})
    former = dataclasses.replace(run.config, objective=dataclasses.replace(run.config.objective, w_text=0.3))
    former_id = finish(plan.home, plan, former)
    monkeypatch.setenv("ABLATE_HOME", str(plan.home.root))
    words = ["keys", "objective.w_text=0.3", "--config-dir", str(tmp_path)]
    assert main(["plan", *words], standalone=False) == 0
    assert f"{former_id} (method=clip seed=0); --take-over uses it" in " ".join(capsys.readouterr().out.split())
    assert main(["submit", *words], standalone=False) == 2
    assert "--take-over uses it, --train-again does not" in capsys.readouterr().err
    assert not run.paths(plan.home).record.exists()
    assert main(["submit", *words, "--take-over"], standalone=False) == 0
    assert "1 run taken over (2 tasks)" in capsys.readouterr().err
    assert main(["status", *words, "--json"], standalone=False) == 0
    assert json.loads(capsys.readouterr().out)["counts"] == {"completed": len(plan.tasks)}
