"""A trainer of another distribution, which runs commands in other processes: from the plan to the report's last word."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from installed import install

from ablative.study import installed_trainers
from ablative.study.core.errors import ConfigError
from ablative.study.home.paths import Home
from ablative.study.plan.plan import Plan, make_plan

HERE = Path(__file__).parent
STUDY = yaml.safe_load("""
name: commands
title: Commands in processes of their own
trainer: command
settings: {rows: 4, width: 1, rate: 0.5}
seeds: [0, 1, 2]
factors:
  width: {narrow: {width: 1}, wide: {width: 3}}
  rate: {slow: {rate: 0.5}, fast: {rate: 2.0}}
baseline: {width: narrow, rate: slow}
tables:
  main:
    rows: [width, rate]
    columns: [{label: Latency, metric: fit/latency}, {label: Gain, metric: score/held out/gain}]
claims:
  narrow_is_faster: {text: Narrow ones are faster., statement: narrow < wide, metric: fit/latency}
  rate_gains: {text: A higher rate gains more., statement: fast > slow, metric: score/held out/gain}
""")


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The trainer is installed, here and in the processes that are started from here."""
    folder = install(tmp_path / "site", "command-trainer", {"command": "command_trainer:TRAINER"})
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(HERE)]))
    return folder


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """A config folder with the study."""
    (tmp_path / "conf" / "study").mkdir(parents=True)
    (tmp_path / "conf" / "study" / "commands.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
    return tmp_path / "conf"


def plan(conf: Path, *words: str) -> Plan:
    return make_plan("commands", words, str(conf), Home(conf.parent / "home"))


def test_its_plan(conf: Path) -> None:
    found = plan(conf)
    assert found.stages == ("prepare", "fit", "score")
    (prepare, *_) = found.tasks
    assert len(found.tasks) == 1 + 4 * 3 * 2 and len(prepare.cells) == 4 and len(found.runs) == 12
    fit, score = (next(task for task in found.tasks if task.stage == stage) for stage in ("fit", "score"))
    assert (fit.needs, score.needs, score.run_id) == ((prepare.task_id,), (fit.task_id,), fit.task_id)
    # Such ids are promised to stay.
    assert [task.task_id for task in (prepare, fit, score)] == ["2b35bb9fd029", "51a360ff08ac", "4a78da118cf4"]
    latency = found.declared["fit/latency"]
    assert (latency.unit, latency.better, latency.low, latency.high) == ("s", "lower", None, None)


def test_what_a_setting_moves(conf: Path) -> None:
    before = plan(conf)
    assert not before.by_id.keys() & plan(conf, "settings.rows=5").by_id.keys()
    with pytest.raises(ConfigError, match="override: unknown setting 'widht'; did you mean 'width'"):
        plan(conf, "widht=2")
    assert installed_trainers.trainer("command").name == "command"
