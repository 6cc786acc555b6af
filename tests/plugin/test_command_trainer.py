"""A trainer of another distribution, which runs commands in other processes: from the plan to `report --final`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from installed import install
from shared import with_store

from ablative.study.core.errors import ConfigError
from ablative.study.core.files import read_json
from ablative.study.home.paths import Home
from ablative.study.plan.plan import Plan, make_plan

HERE = Path(__file__).parent


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config folder with the study; the trainer is installed here, and where processes are started from here."""
    site = install(tmp_path / "site", "command-trainer", {"command": "command_trainer:TRAINER"})
    # What lies in a checkout that is edited would make no final report.
    shutil.copy(HERE / "command_trainer.py", site)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", str(site))
    (tmp_path / "conf" / "study").mkdir(parents=True)
    shutil.copy(HERE / "commands.yaml", tmp_path / "conf" / "study")
    return tmp_path / "conf"


def plan(conf: Path, *words: str) -> Plan:
    return make_plan("commands", words, str(conf), Home(conf.parent / "home"))


def ablate(conf: Path, home: Path, *words: str) -> str:
    """Output of a command that must succeed."""
    program = [sys.executable, "-c", "from ablative.study.cli import main; main()", "--home", str(home), *words]
    folders = ["--config-dir", str(conf)]
    done = subprocess.run([*program, *folders], capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_its_plan(conf: Path) -> None:
    found = plan(conf)
    assert found.stages == ("prepare", "fit", "score")
    prepare = found.tasks[0]
    assert len(found.tasks) == 1 + 2 * 3 * 2 and len(prepare.cells) == 2 and len(found.runs) == 6
    fit, score = (next(task for task in found.tasks if task.stage == stage) for stage in ("fit", "score"))
    assert (fit.needs, score.needs, score.run_id) == ((prepare.task_id,), (fit.task_id,), fit.task_id)
    # Such ids are promised to stay.
    assert [task.task_id for task in (prepare, fit, score)] == ["2b35bb9fd029", "51a360ff08ac", "4a78da118cf4"]
    latency = found.declared["fit/latency"]
    assert (latency.unit, latency.better, latency.low, latency.high) == ("s", "lower", None, None)
    assert not found.by_id.keys() & plan(conf, "rows=5").by_id.keys()
    with pytest.raises(ConfigError, match="override: unknown setting 'widht'; did you mean 'width'"):
        plan(conf, "widht=2")


def test_its_study_on_this_machine(conf: Path, tmp_path: Path) -> None:
    home = with_store(tmp_path / "home")
    ablate(conf, home, "run", "commands", "--jobs", "2")
    states = json.loads(ablate(conf, home, "status", "commands", "--json"))
    assert states["counts"] == {"completed": 13}
    printed = ablate(conf, home, "report", "commands", "--final", "--format", "html", "--format", "md")
    assert "claims: 2 supported" in printed
    report = Home(home).study("commands").report
    table = (report / "tables" / "main.md").read_text()
    rows = re.findall(r"^\| (narrow|wide) \| (\S+) ± \S+ \| (\S+) ± ", table, re.MULTILINE)
    assert [row[0] for row in rows] == ["narrow", "wide"]
    assert [cell.startswith("**") for row in rows for cell in row[1:]] == [True, True, False, False]
    values = [read_json(task.paths(Home(home)).record)["metrics"] for task in plan(conf).of_cell({"width": "narrow"})]
    latencies = [found["fit/latency"] for found in values if "fit/latency" in found]
    assert len(latencies) == 3 and rows[0][1].strip("*") == f"{sum(latencies) / 3:.3f}"
    assert "Commands in processes of their own" in (report / "index.html").read_text()


@pytest.mark.long
def test_its_search(conf: Path, tmp_path: Path) -> None:
    home = with_store(tmp_path / "home")
    printed = ablate(conf, home, "search", "commands", "--jobs", "2")
    results = [read_json(path) for path in sorted((home / "studies" / "commands" / "search").glob("*/result.json"))]
    assert [result["cell"]["width"] for result in results] in (["narrow", "wide"], ["wide", "narrow"]), printed
    for result in results:
        found = {trial["values"]["rate"]: trial["objectives"][0] for trial in result["trials"]}
        assert len(found) == 3 and result["best"]["objectives"] == [min(found.values())]
    stages = [read_json(path)["stage"] for path in home.rglob("record.json")]
    # Of a trial, what the goal needs; what does not depend on the seed, once for all trials.
    assert sorted(stages) == ["fit"] * 6 + ["prepare"]
