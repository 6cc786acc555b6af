"""Runs on several nodes of a real SLURM: who takes part, what a lost process does, and the same numbers as alone."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import HERE, tiny_plan, wait_for, write_study
from performed import perform
from slurm_world import CONFIG, SECONDS, begin_soon, element_of, finish, look, slurm, until
from team_tasks import seen

from ablative.study.core.errors import ConfigError
from ablative.study.core.files import read_json
from ablative.study.home.journal import metric_rows, read
from ablative.study.home.paths import Home
from ablative.study.plan.plan import Plan, make_plan
from ablative.study.spec.cluster import ClusterConfig, spread
from ablative.sweeps.slurm import preview, team
from ablative.sweeps.submission.submit import Code, submit
from ablative.trainer.clip.spec.config import RuntimeConfig

NOTED = Code("team_tasks:execute", "")
FOUR = spread(dataclasses.replace(CONFIG, nodes=2), RuntimeConfig(processes=4))
SMALL = (
    "cluster=slurm",
    "cluster.partition=cpu",
    "cluster.memory_gib=0.9",
    "schedule.steps=8",
    "schedule.warmup_steps=2",
    "schedule.batch_size=12",
    "objective.local_batch=4",
    "objective.local_steps=3",
    "data.pairs=60",
    "runtime.log_every=1",
    "runtime.device=cpu",
    "drop=[{method: [clip, masked_clip]}]",
    "baseline={method: mae_clip}",
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, world: Path) -> Iterator[Home]:
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    yield Home(tmp_path / "home")
    slurm("scancel", "--user", str(os.getuid()), "--quiet")
    wait_for(lambda: not slurm("squeue", "--noheader"), SECONDS)


def plan_of(home: Home, config: ClusterConfig = FOUR) -> Plan:
    plan, processes = tiny_plan(home), config.nodes * config.tasks
    shared = [dataclasses.replace(task, runtime=RuntimeConfig(processes=processes)) for task in plan.runs]
    rest = [task for task in plan.tasks if not task.opens]
    return dataclasses.replace(plan, tasks=(*shared, *rest), cluster=config, clusters={})


def present(plan: Plan, index: int, attempt: int = 0) -> bool:
    """Whether all four processes have come to a run."""
    return len(seen(plan.tasks[index].paths(plan.home).root, attempt)) == 4


def test_each_run_is_trained_by_its_processes_on_two_nodes_and_evaluated_by_one(home: Home) -> None:
    plan = plan_of(home, dataclasses.replace(FOUR, max_elements=2))
    shown = "\n".join(preview.scripts(plan))
    assert "1 elements, 3 tasks, each task in 4 processes on 2 nodes" in shown
    assert "#SBATCH --nodes=2\n" in shown and "#SBATCH --ntasks-per-node=2\n" in shown
    assert shown.count("#SBATCH --nodes=1\n") == shown.count("#SBATCH --ntasks-per-node=1\n") == 1
    (home.root / "go").touch()
    submit(plan, code=NOTED)
    finish(plan)
    for task in plan.tasks:
        found = seen(task.paths(home).root)
        places = [(one["SLURMD_NODENAME"], one["LOCAL_RANK"], one["WORLD_SIZE"]) for one in found.values()]
        if not task.opens:
            assert places in ([("n1", None, None)], [("n2", None, None)])
        else:
            assert places == [("n1", "0", "4"), ("n1", "1", "4"), ("n2", "0", "4"), ("n2", "1", "4")]
            assert len({(one["MASTER_ADDR"], one["MASTER_PORT"]) for one in found.values()}) == 1
        assert not any((task.paths(home).root / name).exists() for name in ("seen.0.1.json", "failure.json"))


def test_all_processes_save_when_the_element_is_requeued_and_come_together_again(home: Home) -> None:
    plan = plan_of(home)
    submit(plan, code=NOTED)
    wait_for(lambda: present(plan, 0), SECONDS)
    # It may find the element on its way into the queue already, and would try again.
    with subprocess.Popen(["scancel", "--signal=USR2", element_of(plan, 0)], stderr=subprocess.DEVNULL) as telling:
        wait_for(lambda: not plan.tasks[0].paths(home).lease.exists(), SECONDS)
        telling.kill()
    (home.root / "go").touch()

    def again() -> bool:
        begin_soon()
        return present(plan, 0, attempt=1)

    wait_for(again, SECONDS)
    finish(plan)
    assert not plan.tasks[0].paths(home).failure.exists()


@pytest.mark.long
def test_a_process_that_is_killed_ends_the_run_which_is_taken_up_again(home: Home) -> None:
    """For each change `test_distributed_ends.py` stays, and on SLURM the run that is requeued."""
    plan = plan_of(home)
    submit(plan, code=NOTED)
    wait_for(lambda: present(plan, 0), SECONDS)
    root = plan.tasks[0].paths(home).root
    os.kill(int(seen(root)[3]["pid"]), signal.SIGKILL)
    wait_for(plan.tasks[0].paths(home).failure.exists, SECONDS)
    (home.root / "go").touch()
    states = until(plan, lambda found: not found.having("running", "submitted"))
    assert states.states[0].cause == "killed"
    assert "process 3 of the run was killed (SIGKILL)" in plan.tasks[0].paths(home).log.read_text()
    submit(plan, code=NOTED)
    finish(plan)
    assert present(plan, 0, attempt=1)


def curve(home: Home, run_id: str) -> dict[tuple[str, int], float]:
    rows = metric_rows(read(home.run(run_id).journal)[0])
    return {(name, step): value for name, step, value, _ in rows if name.startswith("train/")}


def test_a_run_on_two_nodes_gives_the_numbers_of_one_process(home: Home, tmp_path: Path) -> None:
    write_study(tmp_path / "config")
    plans = {}
    for name, words in (("alone", ()), ("two", ("cluster.nodes=2", "runtime.processes=2"))):
        plan = make_plan("tiny", (*SMALL, *words), str(tmp_path / "config"), Home(tmp_path / name))
        plans[name] = dataclasses.replace(plan, tasks=plan.runs)
    submit(plans["two"], code=Code(shipper=""))
    perform(plans["alone"])
    finish(plans["two"])
    (task,) = plans["two"].tasks
    records = {name: read_json(plan.home.run(task.run_id).record) for name, plan in plans.items()}
    facts = records["two"]["environment"]
    assert (facts["processes"], facts["scheduler"]["nodes"]) == (2, "n[1-2]")
    found, expected = (curve(plans[name].home, task.run_id) for name in ("two", "alone"))
    assert len(expected) >= 8 * 5 and list(found) == list(expected)
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=1e-4, abs=1e-6), key
    for name, value in records["alone"]["metrics"].items():
        if not name.startswith("cost/"):
            assert records["two"]["metrics"][name] == pytest.approx(value, rel=1e-4, abs=1e-6), name


@pytest.mark.parametrize(
    ("changes", "processes", "message"),
    [
        ({"nodes": 3}, 3, r"cluster\.nodes: 3 is more than partition 'cpu' has of nodes like that \(2\)"),
        ({"nodes": 2}, 6, r"cluster\.cpus: 3 \(3 processes of a run\) is more than any node"),
        ({"partition": "gpu", "gpus": 3, "nodes": 2}, 6, r"cluster\.gpus: 3 is more than any node"),
    ],
)
def test_more_than_the_nodes_have(home: Home, changes: dict[str, object], processes: int, message: str) -> None:
    config = spread(dataclasses.replace(CONFIG, **changes), RuntimeConfig(processes=processes))
    with pytest.raises(ConfigError, match=message):
        submit(plan_of(home, config), code=NOTED)
    assert look(plan_of(home)).counts == {"eligible": 3, "waiting": 3}


@pytest.mark.parametrize(
    ("changes", "processes", "message"),
    [
        ({"nodes": 2, "tasks": 2}, 3, r"processes: 3, but cluster\.nodes × cluster\.tasks is 2 × 2 = 4"),
        ({"nodes": 2}, 3, r"processes: 3 cannot be spread evenly over 2 nodes"),
        ({"nodes": 2}, 1, r"processes: 1 cannot be spread evenly over 2 nodes"),
        ({"pack": 2}, 2, r"cluster\.pack: 2 tasks side by side in an element, each of 2 processes"),
        ({"gpus": 1}, 2, r"cluster\.gpus: 1 on each node for 2 processes of a run"),
        ({"setup": ("export OPTUNA_STORAGE=postgresql://ann:s3cret@db/x",)}, 1, r"cluster\.setup\[0\]: holds a secret"),
        ({"extra": {"comment": "token=s3cret"}}, 1, r"cluster\.extra\.comment: holds a secret"),
    ],
)
def test_what_cannot_be_spread(changes: dict[str, object], processes: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        spread(dataclasses.replace(CONFIG, **changes), RuntimeConfig(processes=processes))
    assert "s3cret" not in str(caught.value)


def test_the_first_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.getaddrinfo", lambda *_: [])
    for nodes, name in (("n[1-3,07],login", "n1"), ("gpu[09-10]-ib,n2", "gpu09-ib"), ("login,n[1-2]", "login")):
        assert team.first_host({"SLURM_JOB_NODELIST": nodes}) == name
    assert team.Position.of({"SLURM_NTASKS": "1", team.PORT: "1"}) is None
