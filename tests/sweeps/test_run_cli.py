"""The commands, as a user calls them, over tasks that take moments."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fakes import HERE, Behaviours, done, events, tiny_plan, wait_for, write_study

from ablative.study.core.files import read_json, write_json
from ablative.study.home.paths import Home
from ablative.study.plan.plan import Plan
from ablative.sweeps.queue import leases, manifest
from ablative.sweeps.queue.executors import live_jobs
from ablative.sweeps.status.task_states import survey

ABLATE = """
import functools, sys
import ablative.sweeps.cli, ablative.sweeps.run, ablative.sweeps.submission.submit
from fakes import FAKE
from ablative.study.cli import main

ablative.sweeps.run.Watcher = functools.partial(ablative.sweeps.run.Watcher, code=FAKE)
ablative.sweeps.submission.submit.submit = functools.partial(ablative.sweeps.submission.submit.submit, code=FAKE)
ablative.sweeps.cli.call = lambda command, arguments: print("called", command, *arguments) or 0
main()
"""
"""The command line over the tasks of these tests, and without a report, which has nothing to read."""


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    write_study(tmp_path / "config")
    return tiny_plan(Home(tmp_path / "home"))


def behave(plan: Plan, behaviours: Behaviours) -> None:
    write_json(plan.home.root / "behaviour.json", behaviours)


def environment(plan: Plan) -> dict[str, str]:
    path = str(HERE)
    return {**os.environ, "PYTHONPATH": path, "ABLATE_HOME": str(plan.home.root), "COLUMNS": "200"}


def start(plan: Plan, *words: str, **options: Any) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, "-c", ABLATE, *words]
    return subprocess.Popen(command, env=environment(plan), text=True, **{**pipes, **options})


def ablate(plan: Plan, *words: str, code: int = 0) -> str:
    """Output of a command, which must end with this exit code."""
    process = start(plan, *words)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    return output + errors


def study(plan: Plan) -> list[str]:
    return ["tiny", "--config-dir", str(plan.home.root.parent / "config")]


def gone(plan: Plan) -> bool:
    return not any(live_jobs(paths, found) for paths, found in manifest.submissions(plan.home))


def test_run_does_what_is_missing_reports_and_does_nothing_the_second_time(plan: Plan) -> None:
    first = ablate(plan, "run", *study(plan))
    assert re.search(r"submitted 6 tasks to \d workers?", first)
    assert "6/6 done" in first and "called report tiny --config-dir" in first
    assert done(plan.home) == Counter({task.task_id: 1 for task in plan.tasks})
    second = ablate(plan, "run", *study(plan))
    assert "nothing to do: all 6 tasks are done" in second and "called report" in second
    assert done(plan.home) == Counter({task.task_id: 1 for task in plan.tasks})


def test_run_on_a_terminal_shows_a_table_of_what_runs(plan: Plan) -> None:
    behave(plan, {"train": ["sing", 2.0]})
    ours, theirs = pty.openpty()
    process = start(plan, "run", *study(plan), "--jobs", "1", stdout=theirs, stderr=theirs)
    os.close(theirs)
    wait_for((plan.tasks[0].paths(plan.home).root / "progress").exists)
    (file := plan.home.root.parent / "config" / "study" / "tiny.yaml").write_text(file.read_text() + "# edited\n")
    shown = b""
    while process.poll() is None or select.select([ours], [], [], 0.2)[0]:
        if select.select([ours], [], [], 0.2)[0]:
            try:
                shown += os.read(ours, 65536)
            except OSError:
                break
    os.close(ours)
    assert process.wait() == 0
    text = shown.decode()
    assert "running" in text and "method=clip seed=0" in text and "tiny:" in text
    assert "tiny.yaml was changed meanwhile; the report is of what it says now" in text
    assert "loss" in text and f"20/{plan.runs[0].config.schedule.steps}" in text, (
        "what the trainer says of its progress"
    )


def test_ctrl_c_stops_at_a_checkpoint_and_the_same_command_goes_on(plan: Plan) -> None:
    behave(plan, {"train": ["work", 3.0]})
    process = start(plan, "run", *study(plan), "--jobs", "1")
    progress = plan.tasks[0].paths(plan.home).root / "progress"
    wait_for(lambda: progress.exists() and progress.stat().st_size > 20)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "ablate run tiny --config-dir" in errors and "Traceback" not in errors
    assert gone(plan) and survey(plan).states[0].cause == "interrupted"
    steps = progress.stat().st_size
    behave(plan, {"train": ["work", 0.3]})
    ablate(plan, "run", *study(plan))
    assert done(plan.home) == Counter({task.task_id: 1 for task in plan.tasks})
    assert 20 < steps < 600 and progress.stat().st_size == max(steps, 60)


def test_a_second_ctrl_c_kills_a_task_that_does_not_stop(plan: Plan) -> None:
    behave(plan, {"train": ["deaf", 60]})
    process = start(plan, "run", *study(plan), "--jobs", "2")
    wait_for(lambda: len(events(plan.home)) >= 2)
    process.send_signal(signal.SIGINT)
    time.sleep(1.0)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in errors
    pids = [int(line.split()[2]) for line in (plan.home.root / "events").read_text().splitlines()]
    wait_for(lambda: all(leases.start_time(pid) is None for pid in pids), 5)
    assert gone(plan)


def test_ctrl_c_leaves_workers_of_an_earlier_submission_alone(plan: Plan) -> None:
    behave(plan, {"train": ["work", 60.0]})
    ablate(plan, "submit", *study(plan), "--jobs", "2")
    process = start(plan, "run", *study(plan))
    wait_for(lambda: len(events(plan.home)) >= 2)
    assert process.stderr is not None
    assert any("waiting for 6 tasks" in line for line in process.stderr)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert "the workers of an earlier submission go on" in errors
    assert not gone(plan) and survey(plan).having("running")
    ablate(plan, "cancel", *study(plan), "--all")
    wait_for(lambda: gone(plan), 40)


def test_run_starts_workers_again_when_they_are_killed(plan: Plan) -> None:
    behave(plan, {"train": ["work", 1.0]})
    process = start(plan, "run", *study(plan), "--jobs", "2")
    wait_for(lambda: len(events(plan.home)) >= 2)
    killed = kill_workers(plan)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert killed and "the workers are gone with work left: submitted 6 tasks" in errors
    assert done(plan.home) == Counter({task.task_id: 1 for task in plan.tasks})


def kill_workers(plan: Plan) -> int:
    """SIGKILL to every worker and controller, as when the machine's memory runs out."""
    killed = 0
    for paths, found in list(manifest.submissions(plan.home)):
        for job in live_jobs(paths, found):
            os.killpg(os.getpgid(int(job.job_id)), signal.SIGKILL)
            killed += 1
            break
    return killed


def test_run_gives_up_on_workers_that_die_at_once_and_says_of_what(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "fakes_broken.py").write_text("raise RuntimeError('this machine lacks something')")
    broken = ABLATE.replace(
        "from fakes import FAKE",
        "from ablative.sweeps.submission.submit import Code\nFAKE = Code('fakes_broken:x', '')",
    )
    path = {"PYTHONPATH": str(tmp_path / "broken")}
    process = subprocess.run(
        [sys.executable, "-c", broken, "run", *study(plan), "--jobs", "1"],
        env={**environment(plan), **path},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert process.returncode == 1
    assert "RuntimeError: this machine lacks something" in process.stderr
    assert len(list(plan.home.study("tiny").submissions.iterdir())) == 4
    assert "the workers are gone with work left: RuntimeError: this machine" in ablate(plan, "status", *study(plan))


def test_failures_are_grouped_and_the_exit_code_says_that_work_is_left(plan: Plan) -> None:
    first, second, third = (task.task_id for task in plan.tasks[:3])
    behave(plan, {first: ["fail", 0], second: ["fail", 0], third: ["killed", 0]})
    text = ablate(plan, "run", *study(plan), code=1)
    assert "called report" in text
    shown = ablate(plan, "status", *study(plan))
    assert "3 failed" in shown and "3 waiting" in shown
    assert re.search(r"2\s+code\s+ValueError: wrong at", shown)
    assert re.search(r"1\s+killed\s+the process was killed \(SIGKILL\)", shown)
    again = ablate(plan, "submit", *study(plan), code=0)
    assert "submitted 2 tasks" in again and "left 2 failed under this same code" in again
    wait_for(lambda: gone(plan) and len(survey(plan).having("failed")) == 3)
    behave(plan, {})
    assert "submitted 6 tasks" in ablate(plan, "retry", *study(plan))
    wait_for(lambda: survey(plan).finished and gone(plan))
    kept = read_json(plan.tasks[0].paths(plan.home).past_failure(1))
    assert kept is not None and kept["type"] == "ValueError"


def test_submit_status_and_cancel_speak_json(plan: Plan) -> None:
    behave(plan, {"train": ["deaf", 60]})
    made = json.loads(ablate(plan, "submit", *study(plan), "--jobs", "1", "--json"))
    assert made["submitted"] == [task.task_id for task in plan.tasks] and made["workers"] == 1
    wait_for(lambda: len(events(plan.home)) >= 1)
    status = json.loads(ablate(plan, "status", *study(plan), "--json"))
    assert status["study"] == "tiny" and status["counts"] == {"running": 1, "submitted": 5}
    first = status["tasks"][0]
    assert {"task_id", "run_id", "kind", "cell", "seed", "state", "name", "cause"} <= first.keys()
    assert (first["state"], first["cell"]) == ("running", {"method": "clip"})
    text = ablate(plan, "cancel", *study(plan), "--where", "method=clip")
    assert "2 tasks cancelled, 1 of them while running" in text
    wait_for(lambda: survey(plan).states[0].state == "failed")
    assert survey(plan).states[0].cause == "cancelled"
    assert "4 tasks cancelled" in ablate(plan, "cancel", *study(plan), "--all").replace("6 tasks", "4 tasks")
    wait_for(lambda: gone(plan))
    assert {state.cause for state in survey(plan).states} == {"cancelled"}
    assert "left 6 cancelled" in ablate(plan, "submit", *study(plan), code=1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cancel"], "say which tasks"),
        (["cancel", "--where", "metod=clip"], "unknown factor 'metod'; did you mean 'method'?"),
        (["cancel", "--where", "method=clp"], "unknown level 'clp'; did you mean 'clip'?"),
        (["retry", "--cause", "cod"], "'cod' is not one of"),
        (["run", "--jobs", "0"], "0 is not in the range"),
    ],
)
def test_bad_words_are_one_clear_error(plan: Plan, words: list[str], message: str) -> None:
    text = ablate(plan, words[0], *study(plan), *words[1:], code=2)
    assert message in " ".join(text.split()) and "Traceback" not in text


def test_logs_shows_a_task_by_the_beginning_of_its_id_and_follows_it(plan: Plan) -> None:
    behave(plan, {plan.tasks[0].task_id: ["work", 2.0]})
    assert "no task of" in ablate(plan, "logs", "ffffffffffff", code=2)
    ablate(plan, "submit", *study(plan))
    wait_for(lambda: ("begin", plan.tasks[0].task_id) in events(plan.home))
    followed = ablate(plan, "logs", plan.tasks[0].task_id[:6], "-f")
    assert followed == f"this is {plan.tasks[0].task_id}\n"
    assert plan.tasks[0].paths(plan.home).record.exists(), "it follows until the task ends"
    wait_for(lambda: survey(plan).finished and gone(plan))
    assert ablate(plan, "logs", plan.tasks[3].task_id) == f"this is {plan.tasks[3].task_id}\n"


def test_status_imports_nothing_heavy(plan: Plan) -> None:
    code = (
        "import sys; from ablative.study.cli import main\n"
        "try: main(standalone=False)\n"
        "finally: print([name for name in sys.modules if name in ('torch', 'mlflow', 'duckdb', 'submitit', 'pandas')])"
    )
    for words in (["status", *study(plan)], ["status", *study(plan), "--json"]):
        command = [sys.executable, "-c", code, *words]
        result = subprocess.run(command, env=environment(plan), capture_output=True, text=True, check=True)
        assert result.stdout.splitlines()[-1] == "[]", result.stderr


def test_doctor_finds_what_is_broken_and_says_what_to_do(plan: Plan, tmp_path: Path) -> None:
    plan.home.version.write_text("99\n")
    broken = {**environment(plan), "ABLATE_DATA": str(tmp_path / "nowhere"), "MLFLOW_TRACKING_URI": "postgres//typo"}
    command = [sys.executable, "-c", ABLATE, "doctor"]
    result = subprocess.run(command, env=broken, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    lines = {line.split()[1]: line for line in result.stdout.splitlines()}
    assert list(lines) == [
        "python",
        "packages",
        "extras",
        "device",
        "home",
        "files",
        "rights",
        "room",
        "leases",
        "locks",
        "clock",
        "store",
        "disk",
        "machine",
        "data",
        "slurm",
    ]
    assert [name for name, line in lines.items() if line.startswith("BROKEN")] == ["home", "store", "data"]
    assert "layout version '99'" in lines["home"] and "nowhere" in lines["data"]
    assert "MLFLOW_TRACKING_URI" in lines["store"]
