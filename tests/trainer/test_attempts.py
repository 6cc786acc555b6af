"""Attempts at a task of a trainer that knows neither torch nor anything else of the shipped one."""

from __future__ import annotations

import dataclasses
import re
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from ablative.study.core.errors import DataError, Interrupted
from ablative.study.core.files import read_json, write_json
from ablative.study.core.processes import UNUSED
from ablative.study.costs.history import facts
from ablative.study.costs.usage import TaskUsage
from ablative.study.home.journal import Entry, read
from ablative.study.home.paths import Home, RunPaths
from ablative.study.trainers import Config, Configurations, JobTask, Progress, Request, Trainer
from ablative.trainer.runner.attempts import RunningTask, run_attempt
from ablative.trainer.runner.environment import processor
from ablative.trainer.runner.record import Result

CONFIG = {"size": 3, "inner": {"rate": 0.5}}


class Plain(Trainer):
    name, entry, packages = "plain", "plain:execute", ("test_attempts",)

    def configurations(self, request: Request) -> Configurations:
        raise NotImplementedError

    def progress(self, stage: str, config: Config, entries: Sequence[Entry]) -> Progress:
        last = entries[-1]
        return Progress(last["step"], 1000, shown={"loss": str(last["values"].get("fit/loss"))})


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setattr("ablative.trainer.runner.attempts.trainer", lambda name: {"plain": Plain()}[name])
    return Home(tmp_path)


def write(home: Home, name: str) -> RunPaths:
    paths = home.run(name)
    paths.root.mkdir(parents=True)
    paths.config.write_text(yaml.safe_dump(CONFIG))
    return paths


def job(home: Home, paths: RunPaths, **needs: RunPaths) -> JobTask:
    return JobTask(paths.root.name, "fit", 1, paths, home, needs, "plain", lambda: False)


def entries(paths: RunPaths, kind: str) -> list[dict[str, Any]]:
    return [entry for entry in read(paths.journal)[0] if entry["kind"] == kind]


def burn(seconds: float) -> None:
    """Keep a processor busy, in another process."""
    program = f"import time\nwhile time.process_time() < {seconds}: pass"
    subprocess.run([sys.executable, "-S", "-c", program], check=True)


def test_its_record_holds_what_every_trainers_does(home: Home) -> None:
    data, paths = write(home, "d"), write(home, "r")
    write_json(data.record, {"state": "completed"})

    def work(task: RunningTask) -> Result:
        assert task.config == CONFIG and task.job.needs["prepare"] == data
        burn(0.2)
        return Result({"fit/latency": 0.25, "fit/odd": float("nan")})

    run_attempt(job(home, paths, prepare=data), work)
    record = read_json(paths.record)
    own = ("state", "task_id", "stage", "needs", "kind", "attempts", "diverged")
    assert [record[key] for key in own] == ["completed", "r", "fit", ["d"], "pretrain", 1, None]
    assert record["metrics"] == {**record["metrics"], "fit/latency": 0.25, "fit/odd": None}
    assert record["cost"]["cpu_hours"] * 3600 >= 0.2 and record["cost"]["gpu_hours"] == 0.0
    assert record["seconds"] + 0.001 >= record["cost"]["seconds"] >= 0.2
    assert record["alike"] == facts(Plain(), "fit", CONFIG, {"prepare": CONFIG})
    assert record["environment"]["device"] == processor() and record["environment"]["processes"] == 1
    assert record["spent"] == {"wasted": 0.0, "gpus": 0, "cores": 1}
    assert TaskUsage.of(record).cpu_hours == record["cost"]["cpu_hours"]
    assert [entry["values"] for entry in entries(paths, "params")] == [{"size": "3", "inner.rate": "0.5"}]
    reported = {name: value for entry in entries(paths, "metrics") for name, value in entry["values"].items()}
    assert reported.keys() == record["metrics"].keys() and reported["fit/odd"] == "nan"
    run_attempt(job(home, paths), lambda task: pytest.fail("it is done"))


def test_what_it_measures_itself_is_not_measured_again(home: Home) -> None:
    paths = write(home, "r")

    def work(task: RunningTask) -> Result:
        task.hold("Some GPU", 2, 4)
        task.journal.metrics(7, {"fit/loss": 1.0})
        time.sleep(0.01)
        return Result({"fit/loss": 1.0, "cost/seconds": 5.0}, environment={"processes": 2})

    run_attempt(job(home, paths), work)
    record = read_json(paths.record)
    assert record["cost"]["seconds"] == 5.0 and 0 < record["cost"]["gpu_hours"] < 1 / 3600
    assert (record["spent"]["gpus"], record["spent"]["cores"]) == (2, 4)
    assert (record["environment"]["device"], record["environment"]["processes"]) == ("Some GPU", 2)
    losses = [entry["step"] for entry in entries(paths, "metrics") if "fit/loss" in entry["values"]]
    assert losses == [7]


@pytest.mark.parametrize("restores", [True, False])
def test_the_cost_is_that_of_the_work_that_was_kept(home: Home, restores: bool) -> None:
    paths = write(home, "r")

    def stopped(task: RunningTask) -> Result:
        burn(0.3)
        task.journal.metrics(1, {"fit/loss": 2.0})
        raise Interrupted("saved after step 1")

    def rest(task: RunningTask) -> Result:
        if restores:
            task.journal.event("checkpoint restored", step=1)
        return Result({"fit/loss": 1.0})

    with pytest.raises(Interrupted):
        run_attempt(job(home, paths), stopped)
    run_attempt(job(home, paths), rest)
    record = read_json(paths.record)
    assert record["attempts"] == 2 and record["seconds"] > 0.3 and len(entries(paths, "params")) == 1
    assert (record["cost"]["seconds"] > 0.3) is restores is (record["cost"]["cpu_hours"] * 3600 > 0.3)
    assert (record["spent"]["wasted"] < 0.2) is restores


def test_divergence_is_a_result_of_whatever_needs_it_too(home: Home) -> None:
    paths, child = write(home, "r"), write(home, "c")
    why = {"step": 3, "culprit": "loss"}
    run_attempt(job(home, paths), lambda task: Result({"fit/loss": float("inf")}, why))
    assert (read_json(paths.record)["state"], read_json(paths.record)["diverged"]) == ("diverged", why)
    run_attempt(job(home, child, **{"from": paths}), lambda task: pytest.fail("there is nothing to start from"))
    record = read_json(child.record)
    assert (record["state"], record["diverged"], record["metrics"]) == ("diverged", why, {})


def test_what_it_needs_must_be_finished(home: Home) -> None:
    paths = write(home, "r")
    with pytest.raises(DataError, match=r"task d \(prepare\) is not finished; run it before 'fit'"):
        run_attempt(job(home, paths, prepare=write(home, "d")), lambda task: Result())
    assert [entry["name"] for entry in entries(paths, "event")] == ["started", "failed"]


def test_the_log_of_any_trainer_has_beginning_progress_results_and_end(
    home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a thousand reports it keeps some; what a resumed attempt reports again is logged, though not journalled."""
    monkeypatch.setenv(UNUSED, "WORLD_SIZE=2")
    paths = write(home, "r")

    def stopped(task: RunningTask) -> Result:
        task.hold("Some GPU", 2, 4, 2)
        for step in range(1, 501):
            task.journal.metrics(step, {"fit/loss": 1 / step})
        task.journal.metrics(500, {"validation/top1": 12.5})
        raise Interrupted("saved after step 500")

    def rest(task: RunningTask) -> Result:
        task.journal.event("checkpoint restored", step=400)
        for step in range(401, 1001):
            task.journal.metrics(step, {"fit/loss": 1 / step, "cost/seconds": 3.0})
        return Result({"fit/loss": 0.001, "probe/top1": float("nan")})

    with pytest.raises(Interrupted):
        run_attempt(job(home, paths), stopped)
    run_attempt(dataclasses.replace(job(home, paths), name="size=3 seed=1"), rest)
    first, second = re.split(r"(?m)^.* attempt 2 of size=3 seed=1 begins$", capsys.readouterr().out)
    for fact in (
        "r, stage fit",
        str(paths.config),
        socket.gethostname(),
        "WORLD_SIZE=2 of the shell",
        "2 GPUs, 4 cores",
    ):
        assert fact in first
    assert "after step 500: validation/top1 12.5" in first and "interrupted after" in first
    assert f" {processor()}: no GPU, 1 core" not in first and f" {processor()}: no GPU, 1 core" in second
    steps = [int(step) for step in re.findall(r" step (\d+)[/:]", second)]
    assert steps[0] == 401 and steps[-1] == 1000 and 12 <= len(steps) <= 14
    assert "resumed at step 400" in second and "step 1000/1000  loss 0.001" in second
    assert second.count("probe/top1 nan") == 2 and second.rstrip().endswith("probe/top1 nan")
    assert re.search(r"completed after [\d.]+ s in 2 attempts\n", second)
