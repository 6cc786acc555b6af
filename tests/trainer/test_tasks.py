"""A task from its directory to its record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_run import job, make_config, make_home, write_run

from ablative.study.core.errors import ConfigError, DataError, Interrupted
from ablative.study.core.files import read_json
from ablative.study.core.identity import flatten
from ablative.study.core.typed import plain
from ablative.study.home.journal import metric_rows, read
from ablative.study.home.paths import Home, TaskPaths
from ablative.study.home.task_state import directory_state
from ablative.trainer.clip.spec.config import DatasetConfig, EvaluationConfig, ProtocolConfig
from ablative.trainer.clip.tasks import execute


def write_evaluation(home: Home, run_id: str = "aaaaaaaaaaaa") -> TaskPaths:
    protocol = ProtocolConfig(name="zero_shot", kind="zero_shot")
    datasets = (DatasetConfig(name="shapes_shape", kind="shapes", task="shape", test=40),)
    paths = home.run(run_id).evaluation("bbbbbbbbbbbb")
    paths.root.mkdir(parents=True)
    paths.config.write_text(
        yaml.safe_dump(plain(EvaluationConfig(run_id=run_id, protocol=protocol, datasets=datasets)))
    )
    return paths


def entries(paths: TaskPaths, kind: str) -> list[dict[str, Any]]:
    return [entry for entry in read(paths.journal)[0] if entry["kind"] == kind]


def names(paths: TaskPaths) -> list[str]:
    return [event["name"] for event in entries(paths, "event")]


def test_a_run_leaves_journal_model_and_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABLATE_COMMIT", "abc123")
    monkeypatch.setenv("ABLATE_DIRTY", "1")
    home, config = make_home(tmp_path), make_config(runtime__checkpoint_seconds=1e-6)
    paths = write_run(home, config)
    execute(job(paths, home))
    record = read_json(paths.record)
    assert (record["state"], record["task_id"], record["kind"]) == ("completed", "aaaaaaaaaaaa", "pretrain")
    assert (record["attempts"], record["diverged"]) == (1, None)
    assert record["finished"] >= record["started"] and record["seconds"] >= record["cost"]["seconds"] > 0
    assert record["environment"]["commit"] == "abc123" and record["environment"]["dirty"] is True
    assert record["environment"]["packages"].keys() >= {"ablate", "torch"}
    assert names(paths) == ["started", "completed"]
    last = {name: value for name, step, value, _ in metric_rows(read(paths.journal)[0]) if step == 8}
    assert record["metrics"] == last
    params = {key: value for entry in entries(paths, "params") for key, value in entry["values"].items()}
    assert {key: str(value) for key, value in flatten(config).items()}.items() <= params.items()
    assert paths.model.exists() and not paths.checkpoint.exists()


def test_a_finished_task_is_left_alone(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    paths = write_run(home, make_config())
    paths.record.write_text(json.dumps({"state": "completed"}))
    execute(job(paths, home))
    assert not paths.journal.exists() and not paths.model.exists()


def test_attempts_add_up_and_parameters_are_reported_once(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    paths = write_run(home, make_config())
    for _ in range(2):
        with pytest.raises(Interrupted):
            execute(job(paths, home, lambda: True))
        assert directory_state(paths).state == "none"
    execute(job(paths, home))
    restored = "checkpoint restored"
    assert names(paths) == [
        "started", "interrupted", "resumed", restored, "interrupted", "resumed", restored, "completed",
    ]  # fmt: skip
    record = read_json(paths.record)
    assert record["attempts"] == 3
    spans = [entry["t"] for entry in entries(paths, "event") if entry["name"] in ("started", "completed")]
    assert 0 < record["seconds"] <= (spans[1] - spans[0]) / 1000 + 0.01
    assert sum("model.width" in entry["values"] for entry in entries(paths, "params")) == 1


def test_a_diverged_run_is_a_result_and_its_evaluations_too(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    paths = write_run(home, make_config("mae_clip", schedule__lr=1e38))
    execute(job(paths, home))
    record = read_json(paths.record)
    assert record["state"] == "diverged" and record["diverged"]["step"] <= 3 and record["diverged"]["culprit"]
    assert names(paths) == ["started", "diverged"]
    assert not paths.model.exists() and not paths.checkpoint.exists()
    evaluation = write_evaluation(home)
    execute(job(evaluation, home))
    found = read_json(evaluation.record)
    assert (found["state"], found["metrics"], found["diverged"]) == ("diverged", {}, record["diverged"])
    assert directory_state(evaluation).state == "diverged"


def test_not_a_number_is_null_in_the_record(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    paths = write_run(home, make_config("clip", schedule__lr=1e38))
    execute(job(paths, home))
    assert None in read_json(paths.record)["metrics"].values()


def test_an_evaluation_reports_its_metrics(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    execute(job(write_run(home, make_config("clip", schedule__steps=2)), home))
    paths = write_evaluation(home)
    execute(job(paths, home))
    record = read_json(paths.record)
    assert record["state"] == "completed"
    reported = {name: value for name, _, value, _ in metric_rows(read(paths.journal)[0])}
    assert reported == record["metrics"]
    assert 0 <= record["metrics"]["zero_shot/shapes_shape/top1"] <= 100


def test_an_evaluation_needs_a_finished_run(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    write_run(home, make_config())
    paths = write_evaluation(home)
    with pytest.raises(DataError, match=r"task aaaaaaaaaaaa \(train\) is not finished; run it before 'protocol'"):
        execute(job(paths, home))
    assert names(paths) == ["started", "failed"]


def test_a_broken_configuration_is_one_clear_error(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    paths = write_run(home, make_config())
    paths.config.write_text(paths.config.read_text().replace("patch_size", "pach_size"))
    with pytest.raises(ConfigError, match="did you mean 'patch_size'"):
        execute(job(paths, home))
    assert entries(paths, "event")[-1]["type"] == "ConfigError"


def test_a_run_that_ran_out_of_memory_is_the_same_with_half_the_micro_batch(tmp_path: Path) -> None:
    home, config = make_home(tmp_path), make_config()
    whole = write_run(home, config)
    halved = write_run(home, config, "cccccccccccc")
    for attempt in (1, 2):
        halved.past_failure(attempt).write_text('{"cause": "out of memory"}')
    losses = {}
    for paths in (whole, halved):
        execute(job(paths, home))
        losses[paths] = [value for name, _, value, _ in metric_rows(read(paths.journal)[0]) if name == "train/loss"]
    assert len(losses[halved]) == 8 and losses[halved] == pytest.approx(losses[whole], rel=1e-4)
    environment = read_json(halved.record)["environment"]
    assert (environment["halvings"], environment["micro_batch"]) == (2, config.schedule.batch_size // 4)
    assert "halvings" not in read_json(whole.record)["environment"]
    assert "micro-batch halved" in names(halved) and "micro-batch halved" not in names(whole)
