"""Evaluations that are killed or stopped between data sets go on, and end as if nothing had happened."""

from __future__ import annotations

import math
import os
import signal
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml
from forked import Forked
from tiny_run import job, make_config, make_home, write_run

from ablative.study.core.errors import Interrupted
from ablative.study.core.files import read_json, write_json
from ablative.study.core.typed import plain
from ablative.study.costs.usage import TaskUsage
from ablative.study.home.journal import metric_rows, read
from ablative.study.home.paths import Home, RunPaths, TaskPaths
from ablative.trainer.clip import evaluate
from ablative.trainer.clip.evaluate import Scores
from ablative.trainer.clip.spec.config import DatasetConfig, EvaluationConfig, ProtocolConfig
from ablative.trainer.clip.tasks import execute
from ablative.trainer.torch.meter import ElapsedCost

SHAPES = DatasetConfig(name="shape", kind="shapes", task="shape", train=60, test=40)
SETS = tuple(replace(SHAPES, name=name, task=name) for name in ("shape", "color", "count"))
QUESTIONS = tuple(
    replace(SHAPES, name=f"questions{seed}", task="questions", train=10, test=10, seed=seed) for seed in range(3)
)
PROTOCOLS = {
    "zero_shot": ({}, SETS),
    "linear_probe": ({"epochs": 2, "batch_size": 32}, SETS),
    "finetune": ({"epochs": 1, "batch_size": 32}, SETS),
    "vqa": ({"epochs": 1, "batch_size": 64}, QUESTIONS),
}
RUN = "aaaaaaaaaaaa"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """With a finished run."""
    home = make_home(tmp_path)
    execute(job(write_run(home, make_config("clip", schedule__steps=2), RUN), home))
    return home


def write_evaluation(home: Home, kind: str, name: str) -> TaskPaths:
    fields, datasets = PROTOCOLS[kind]
    protocol = ProtocolConfig(name=kind, kind=kind, **fields)
    paths = home.run(RUN).evaluation(name)
    paths.root.mkdir(parents=True)
    config = EvaluationConfig(run_id=RUN, protocol=protocol, datasets=datasets)
    paths.config.write_text(yaml.safe_dump(plain(config)))
    return paths


def values(paths: TaskPaths) -> dict[str, float]:
    """The record's metrics, but for what they cost."""
    record = read_json(paths.record)
    assert record is not None
    return {name: value for name, value in record["metrics"].items() if not name.startswith("cost/")}


def die_after_a_set(paths: TaskPaths, home: Home) -> None:
    """In a process of its own: an attempt that is killed as soon as one more data set is kept."""
    keep = Scores.keep

    def keep_and_die(*args: object) -> None:
        keep(*args)
        os.kill(os.getpid(), signal.SIGKILL)

    Scores.keep = keep_and_die
    execute(job(paths, home))


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the data sets that were evaluated, as they come."""
    names: list[str] = []
    real = evaluate.score_set

    def counting(model: object, config: EvaluationConfig, dataset: DatasetConfig, *rest: object) -> object:
        names.append(dataset.name)
        return real(model, config, dataset, *rest)

    monkeypatch.setattr(evaluate, "score_set", counting)
    return names


@pytest.mark.parametrize("kind", list(PROTOCOLS))
def test_killed_between_sets_it_ends_with_the_same_values(home: Home, kind: str, evaluated: list[str]) -> None:
    whole, killed = (write_evaluation(home, kind, name) for name in ("whole", "killed"))
    execute(job(whole, home))
    evaluated.clear()
    for count in (1, 2):
        assert Forked(die_after_a_set, killed, home).exitcode() == -signal.SIGKILL
        assert len(read_json(killed.scores)["sets"]) == count and not killed.record.exists()
    execute(job(killed, home))
    assert evaluated == [PROTOCOLS[kind][1][2].name], "the last data set alone"
    assert values(killed) == values(whole) and len(values(whole)) >= 6
    assert list(values(killed)) == list(values(whole))
    reported = {name: value for name, _, value, _ in metric_rows(read(killed.journal)[0])}
    assert reported == read_json(killed.record)["metrics"]
    assert not killed.scores.exists()


def test_asked_to_stop_it_does_so_after_a_set(home: Home, evaluated: list[str]) -> None:
    whole, stopped = (write_evaluation(home, "linear_probe", name) for name in ("whole", "stopped"))
    execute(job(whole, home))
    evaluated.clear()
    for count in (1, 2):
        with pytest.raises(Interrupted, match=f"stopped after {count} of 3 data sets"):
            execute(job(stopped, home, lambda: True))
    spent = read_json(stopped.scores)["spent"]["seconds"]
    execute(job(stopped, home, lambda: True))
    assert evaluated == ["shape", "color", "count"]
    assert values(stopped) == values(whole)
    record = read_json(stopped.record)
    assert record["attempts"] == 3 and record["cost"]["seconds"] > spent > 0
    rows = [(name, step) for name, step, _, _ in metric_rows(read(stopped.journal)[0])]
    assert len(rows) == len(set(rows)), "nothing is reported twice"


def test_stopped_within_a_training_it_ends_with_the_same_values(home: Home) -> None:
    """Two steps for each of three sets: stopped after the first of them, and after the set."""
    whole, stopped = (write_evaluation(home, "finetune", name) for name in ("whole", "stopped"))
    execute(job(whole, home))
    for count in range(1, 6):
        reason = "stopped after step 1 of 2" if count % 2 else f"stopped after {count // 2} of 3 data sets"
        with pytest.raises(Interrupted, match=reason):
            execute(job(stopped, home, lambda: True))
    spent = read_json(stopped.scores)["spent"]["seconds"]
    execute(job(stopped, home, lambda: True))
    assert values(stopped) == values(whole)
    record = read_json(stopped.record)
    assert record["attempts"] == 6 and record["cost"]["seconds"] > spent > 0
    assert not RunPaths(stopped.root).checkpoint.exists()


def test_what_was_kept_of_something_else_is_evaluated_again(
    home: Home, evaluated: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = write_evaluation(home, "zero_shot", "e")

    def attempt() -> list[str]:
        evaluated.clear()
        with pytest.raises(Interrupted):
            execute(job(paths, home, lambda: True))
        return list(evaluated)

    assert attempt() == ["shape"]
    assert attempt() == ["color"]
    with monkeypatch.context() as patched:
        patched.setattr(evaluate, "_code", lambda: "mended")
        assert attempt() == ["shape"], "other code"
    assert attempt() == ["shape"], "and the first again"
    paths.scores.write_text(paths.scores.read_text()[:-20])
    assert attempt() == ["shape"], "a damaged file"
    kept = read_json(paths.scores)
    kept["sets"]["shape"]["content"] = "other"
    write_json(paths.scores, kept)
    assert attempt() == ["shape"], "other data"
    model = home.run(RUN).tokenizer
    model.write_text(model.read_text() + " ")
    assert attempt() == ["shape"], "another model"


def test_scores_keep_what_is_no_number_and_every_digit(tmp_path: Path) -> None:
    metrics = {"a": 100 * 2 / 3, "b": math.nan, "c": 0.1 + 0.2}
    Scores(tmp_path / "scores.json", "key").keep("set", "content", metrics, ElapsedCost(1.5, 2.5, 0.0))
    scores = Scores(tmp_path / "scores.json", "key")
    found = scores.find("set", "content")
    assert found is not None and math.isnan(found.pop("b"))
    assert found == {"a": 100 * 2 / 3, "c": 0.1 + 0.2}
    assert asdict(scores.spent) == {"seconds": 1.5, "cpu_seconds": 2.5, "gpu_seconds": 0.0}
    assert scores.find("set", "other") is None and scores.find("other", "content") is None
    other = Scores(tmp_path / "scores.json", "another key")
    assert other.find("set", "content") is None and other.spent == ElapsedCost()


def test_time_up_to_the_last_kept_set_is_not_lost(home: Home) -> None:
    paths = write_evaluation(home, "linear_probe", "killed")
    assert Forked(die_after_a_set, paths, home).exitcode() == -signal.SIGKILL
    usage = TaskUsage.unfinished(paths)
    assert usage is not None and usage.wasted < 0.5 * usage.seconds
    paths.scores.unlink()
    lost = TaskUsage.unfinished(paths)
    assert lost is not None and lost.wasted == lost.seconds
