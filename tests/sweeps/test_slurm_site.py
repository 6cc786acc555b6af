"""A SLURM as sites have it: accounting with limits, qualities of service, and variables in people's shells."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakes import FAKE, HERE, wait_for
from shared import with_store
from slurm_world import CONFIG, SECONDS, begin_soon, chosen, daemons, done, finish, look, once, plan_on, slurm

from ablative.study.core.errors import ConfigError
from ablative.study.core.files import read_json
from ablative.study.home.paths import Home
from ablative.study.plan.plan import Plan
from ablative.sweeps import run
from ablative.sweeps.queue import manifest
from ablative.sweeps.queue.executors import NoRoom
from ablative.sweeps.slurm import advice, cluster, environment, executor, limits, squeue
from ablative.sweeps.slurm.limits import Accounting
from ablative.sweeps.status.task_states import Survey
from ablative.sweeps.submission.submit import submit


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("site")
    with daemons(folder, "site"), chosen(folder):
        yield


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch, site: None) -> Iterator[None]:
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    limits.read.cache_clear()
    yield
    slurm("scancel", "--user", str(os.getuid()), "--quiet")
    wait_for(lambda: not slurm("squeue", "--noheader"), SECONDS)


@pytest.fixture
def narrow(tmp_path: Path) -> Plan:
    """Six tasks, in a quality of service that lets two jobs into the queue."""
    return plan_on(Home(tmp_path / "home"), account="lab", qos="narrow")


def elements(plan: Plan) -> list[int]:
    return [len(array.elements) for array in next(manifest.submissions(plan.home, ended=True))[1].arrays]


def watched(plan: Plan, said: list[str]) -> Survey:
    """The end of `ablate run`."""
    return run.Watcher(plan, 0, lambda found: begin_soon(), said.append, FAKE).run()


def test_a_limit_is_known_and_tasks_share_elements(narrow: Plan) -> None:
    submit(narrow, code=FAKE)
    assert sum(elements(narrow)) <= 2
    finish(narrow)
    assert done(narrow) == once(narrow)


def test_a_limit_that_only_a_refusal_tells_of(narrow: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "of", lambda found, user: Accounting())
    monkeypatch.setattr(run, "ROOM_SECONDS", 1.0)
    with pytest.raises(NoRoom, match=r"^sbatch refused: \w*MaxSubmit.*1 of 2 arrays are in the queue; `ablate"):
        submit(narrow, code=FAKE)
    assert elements(narrow) == [2]
    assert watched(narrow, []).finished and done(narrow) == once(narrow)


def test_a_full_queue_is_waited_for(narrow: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        options = ("--account=lab", "--qos=narrow", "--begin=now+1hour", "--job-name=mine")
        slurm("sbatch", "--quiet", *options, f"--output={os.devnull}", "--wrap=true")
    squeue.invalidate_cache()
    with pytest.raises(NoRoom, match=r"^QOS 'narrow' \(MaxSubmitJobsPerUser\) lets you have 2 .* 2 are there: `ablate"):
        submit(narrow, code=FAKE)
    assert look(narrow).counts == {"eligible": 3, "waiting": 3}
    monkeypatch.setattr(run, "ROOM_SECONDS", 1.0)
    said: list[str] = []
    leave = threading.Timer(3.0, slurm, ("scancel", "--name=mine"))
    leave.start()
    assert watched(narrow, said).finished and done(narrow) == once(narrow)
    assert said[0].startswith("QOS 'narrow'") and said[1].startswith("submitted 6 tasks"), said


def test_what_the_shell_says_of_jobs_does_not_contradict_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contradictions = {
        "SBATCH_PARTITION": "gpu",
        "SBATCH_TIMELIMIT": "1",
        "SBATCH_NO_REQUEUE": "1",
        "SBATCH_JOB_NAME": "other",
        "SBATCH_MEM_PER_NODE": "1",
        "SBATCH_EXPORT": "NONE",
        "SQUEUE_FORMAT": "%A",
        "SQUEUE_STATES": "SUSPENDED",
        "SCANCEL_STATE": "SUSPENDED",
        "SLURM_TIME_FORMAT": "%H",
    }
    for name, value in (contradictions | {"SBATCH_ACCOUNT": "lab", "SBATCH_QOS": "short"}).items():
        monkeypatch.setenv(name, value)
    keys = {
        "setup": (f"export PYTHONPATH={HERE}",),
        "teardown": (f"echo over >> {tmp_path}/$SLURM_ARRAY_TASK_ID",),
        "prefix": ("env", "PREFIXED=$SLURM_JOB_PARTITION"),
        "scratch": f"{tmp_path}/of $SLURM_JOB_ID",
        "memory_by": "mem-per-cpu",
        "gpus_by": "gpus-per-node",
    }
    plan = plan_on(Home(tmp_path / "home"), {"train": ["environment", 0]}, **keys)
    submit(plan, code=FAKE)
    squeue.invalidate_cache()
    queue = squeue.look([next(manifest.submissions(plan.home))[1].user], 0.0).elements
    assert {(one.partition, one.account, one.qos) for one in queue if one.live} == {("cpu", "lab", "short")}
    finish(plan)
    assert done(plan) == once(plan)
    found = read_json(plan.runs[0].paths(plan.home).root / "environment.json")
    assert (
        found["PREFIXED"] == "cpu" and found["TMPDIR"].startswith(f"{tmp_path}/of ") and Path(found["TMPDIR"]).is_dir()
    )
    assert (tmp_path / "0").read_text().startswith("over")
    assert environment.ignored() == ("SBATCH_JOB_NAME", "SBATCH_MEM_PER_NODE", "SBATCH_NO_REQUEUE", "SBATCH_TIMELIMIT")


def test_what_would_wait_for_ever_is_refused(tmp_path: Path) -> None:
    plan = plan_on(Home(tmp_path / "home"), partition="quick", account="lab")
    with pytest.raises(ConfigError, match=r"'quick'.*'normal' is your default; set cluster.qos"):
        submit(plan, code=FAKE)
    found = cluster.inspect()
    slices = dataclasses.replace(CONFIG, partition="gpu", gpus=2, gpu_type="1g.10gb")
    cluster.check(slices, found)
    cluster.check(dataclasses.replace(slices, partition="cpu,gpu"), found)
    with pytest.raises(ConfigError, match=r"GPU type"):
        cluster.check(dataclasses.replace(slices, partition="cpu,low"), found)
    executor._check(dataclasses.replace(CONFIG, partition="quick", account="lab", qos="short"), found)
    assert "QOS 'short' (MaxSubmitJobsPerUser) 30" in advice.limits(found)


PROGRAM = """
import os, sys
words = dict(word[2:].split("=") for word in sys.argv[1:])
print("acc", float(words["rate"]) + int(words["seed"]), os.environ["PREFIXED"])
"""
STUDY = """
name: narrow
code: .
config: {rate: 0.1}
seeds: [0, 1]
stages:
  train:
    command: python train.py {args} --seed={seed}
    metrics:
      acc: {better: higher, stdout: 'acc (?P<value>[0-9.]+) yes'}
factors: {rate: {low: {rate: 0.1}, middle: {rate: 0.2}, high: {rate: 0.3}}}
baseline: {rate: low}
"""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the uploader outlives the command
def test_a_program_of_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call_ablate: Callable[..., str]
) -> None:
    home, place = with_store(tmp_path / "home"), tmp_path / "user"
    place.mkdir()
    (place / "train.py").write_text(PROGRAM)
    (place / "study.yaml").write_text(STUDY)
    for name, value in (("SBATCH_EXPORT", "NONE"), ("SBATCH_TIMELIMIT", "1"), ("SQUEUE_STATES", "SUSPENDED")):
        monkeypatch.setenv(name, value)
    words = ("cluster=slurm", "cluster.account=lab", "cluster.qos=narrow", "cluster.memory_gib=0.8", "cluster.cpus=1")
    study, prefix = str(place / "study.yaml"), 'cluster.prefix=[env,"PREFIXED=yes"]'
    call_ablate(home, "submit", study, *words, prefix)
    wait_for(lambda: len(list(home.rglob("record.json"))) == 6, SECONDS)
    values = sorted(read_json(path)["metrics"]["train/acc"] for path in home.rglob("record.json"))
    assert values == [0.1, 0.2, 0.3, 1.1, 1.2, 1.3]
    assert [len(found.arrays[0].elements) for _, found in manifest.submissions(Home(home), ended=True)] == [2]
