"""Searches whose driver dies, and a tracking server that is started again under many jobs, on a real SLURM.

As in `test_slurm_disturbances`, of the shipped trainer's kind and of a user's program.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
import search_fakes
from disturbed import OWN, PATIENCE, STUDY, UNTRACKED, Studies, folder, own, shipped, traces
from fakes import HERE, SOURCE, done, wait_for
from optuna.trial import TrialState
from services import MlflowServer, postgres
from slurm_world import CONFIG, tidy
from test_search_slurm import parent, running
from tracking_world import assert_shipped

from ablative.study.core.files import read_json
from ablative.study.home.paths import Home
from ablative.study.plan.plan import Plan, make_plan
from ablative.study.plan.task import TaskRef
from ablative.sweeps.search.driver import Searcher
from ablative.sweeps.slurm import squeue
from ablative.sweeps.submission.submit import TRAINER
from ablative.sweeps.tracking.sync import ship

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("world"), pytest.mark.timeout(3000)]
EVERYWHERE = "cpu,gpu"
"""Both partitions: twelve elements at once."""
SEARCH = (
    STUDY.replace("factors: {rate: {low: {rate: 0.1}, high: {rate: 0.3}}}", "factors: {steps: {few: {steps: 20}}}")
    + """
search:
  parameters: {rate: {low: 0.01, high: 0.5}}
  objective: {metric: train/acc}
  budget: {trials: 8}
  per: [steps]
"""
)
DRIVER = """
import sys
from pathlib import Path
from test_slurm_disturbed_services import searcher

searcher(sys.argv[1], Path(sys.argv[2])).watch()
"""


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch, world: Path) -> Iterator[None]:
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    yield
    tidy()


def fake_plan(place: Path) -> Plan:
    plan = search_fakes.plan(place / "fake", budget={"trials": 8})
    config = dataclasses.replace(CONFIG, partition=EVERYWHERE, memory_gib=0.3, canary=0)
    return dataclasses.replace(
        plan, cluster=config, arms=tuple(dataclasses.replace(arm, cluster=config) for arm in plan.arms)
    )


def program_plan(place: Path) -> Plan:
    file = place / "user" / "study.yaml"
    words = (*OWN, f"cluster.partition={EVERYWHERE!r}", "pause=0.2")
    return make_plan(str(file if file.exists() else folder(file.parent, SEARCH)), words, home=Home(place / "home"))


def searcher(kind: str, place: Path) -> Searcher:
    if kind == "fake":
        return Searcher(fake_plan(place), 4, print, search_fakes.CODE)
    return Searcher(program_plan(place), 4, print, UNTRACKED)


def loss(rate: float, steps: int) -> float:
    """What the user's program computes."""
    value = 1.0
    for step in range(1, steps + 1):
        value = value * (1 - rate) + rate / step
    return value


@pytest.mark.parametrize("kind", ["fake", "program"])
def test_four_searchers_lose_one_and_the_driver(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(search_fakes.STEP_SECONDS, "0.3")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found = searcher(kind, tmp_path)
    plan = found.plan
    path = os.pathsep.join([str(SOURCE), str(HERE), str(HERE.parent)])
    words = [sys.executable, "-c", DRIVER, kind, str(tmp_path)]
    driver = subprocess.Popen(words, env={**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"})
    wait_for(lambda: len(running(found)) == 4, PATIENCE)
    driver.kill()
    driver.wait()
    os.kill(parent(running(found)[0].pid), signal.SIGKILL)
    # The three that are left go on by themselves, and the driver that comes later starts what is missing.
    wait_for(lambda: sum(map(ended, trials(found))) > 2, PATIENCE)
    squeue.invalidate_cache()
    assert found.watch()
    assert {trial.state for trial in trials(found)} == {TrialState.COMPLETE}
    assert [len(found.trials.all(arm)) for arm in plan.arms] == [8] * len(plan.arms)
    if kind == "fake":
        assert set(done(plan.home).values()) == {1}
        return
    for trial in trials(found):
        (run,) = runs_of(found, trial)
        record = read_json(Home(tmp_path / "home").run(run).record)
        assert record is not None
        assert record["metrics"]["train/acc"] == 1 - loss(trial.params["rate"], 20) == trial.values[0]


def trials(found: Searcher) -> list[optuna.trial.FrozenTrial]:
    return [trial for arm in found.plan.arms for trial in found.trials.all(arm)]


def ended(trial: optuna.trial.FrozenTrial) -> bool:
    return bool(trial.state.is_finished())


def runs_of(found: Searcher, trial: optuna.trial.FrozenTrial) -> list[str]:
    """Ids of a trial's runs, as the result file has them."""
    (arm,) = found.plan.arms
    result = read_json(found.trials.paths.result(arm.key))
    assert result is not None
    return next(one["runs"] for one in result["trials"] if one["number"] == trial.number)


LEVELS = ", ".join(f"r{number}: {{rate: {number / 100}}}" for number in range(1, 25))
MANY = STUDY.replace("low: {rate: 0.1}, high: {rate: 0.3}", LEVELS)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[MlflowServer, str]]:
    """MLflow on PostgreSQL, which asks for a user and a password; and the database, to look past it."""
    config = tmp_path / "auth.ini"
    with postgres(tmp_path / "postgres") as database, postgres(tmp_path / "users") as users:
        config.write_text(
            "[mlflow]\ndefault_permission = MANAGE\nadmin_username = admin\n"
            f"database_uri = {users.replace('postgresql://', 'postgresql+psycopg2://').replace('%', '%%')}\n"
            "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        )
        for name, value in {
            "MLFLOW_AUTH_CONFIG_PATH": str(config),
            "MLFLOW_AUTH_ADMIN_PASSWORD": "a long passw0rd",
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "key",
            "MLFLOW_TRACKING_USERNAME": "admin",
            "MLFLOW_TRACKING_PASSWORD": "a long passw0rd",
        }.items():
            monkeypatch.setenv(name, value)
        uri = database.replace("postgresql://", "postgresql+psycopg2://")
        found = MlflowServer(uri, tmp_path, "--workers 1 --app-name basic-auth")
        found.start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", found.uri)
        yield found, database
        found.kill()


def test_a_tracking_server_is_started_again_under_fifty_jobs(
    tmp_path: Path, server: tuple[MlflowServer, str], call_ablate: Callable[..., str]
) -> None:
    home = Home(tmp_path / "home")
    where = f"cluster.partition={EVERYWHERE!r}"
    found = Studies(
        (shipped(tmp_path, home, where), own(tmp_path, home, where, "steps=10", "pause=0.2", study=MANY)), TRAINER
    )
    assert sum(len(plan.tasks) for plan in found.plans) == 50
    found.submit()
    for count in (5, 25):
        found.until(lambda states, count=count: states.finished or states.counts.get("completed", 0) >= count)
        server[0].kill()
        time.sleep(15.0)
        server[0].start()
    found.finish()
    for plan in found.plans:
        shipped_now = ship(plan.tasks, plan.study.name, home)
        assert not shipped_now.errors and not shipped_now.pending
        assert_shipped(server[1], plan.study.name, home, [TaskRef.of(task) for task in plan.tasks])
    secret = os.environ["MLFLOW_TRACKING_PASSWORD"]
    assert not [path for path in home.root.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    for task in found.plans[1].runs:
        record = read_json(task.paths(home).record)
        (level,) = task.cells[0].values()
        assert record is not None and record["metrics"]["train/acc"] == 1 - loss(int(level[1:]) / 100, 10)
    assert all(set(trace.values()) == {1} for trace in traces(found.plans[1]))
