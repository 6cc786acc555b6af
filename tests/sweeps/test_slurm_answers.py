"""What SLURM's programs print when they are not well, and what is believed of it: no scheduler needed."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakes import FAKE, tiny_plan

from ablative.study.home.paths import Home
from ablative.study.plan.plan import Plan
from ablative.study.spec.cluster import ClusterConfig
from ablative.sweeps.queue import manifest
from ablative.sweeps.queue.manifest import Array, Job
from ablative.sweeps.slurm import cluster, executor, layout, script, squeue
from ablative.sweeps.slurm.cluster import Cluster, Node, Partition
from ablative.sweeps.slurm.squeue import Queue, QueuedElement, SchedulerSilent
from ablative.sweeps.status.task_states import survey
from ablative.sweeps.submission.submit import submit
from ablative.sweeps.worker import journal_upload

NODES = tuple(Node(name, 2, 4.0, {}, frozenset()) for name in ("n1", "n2"))
CLUSTER = Cluster({}, {"p": Partition("p", True, True, 1e9, {}, {}, "OFF", 0, NODES)})
HEADING = "JOBID|ARRAY_TASK_ID|STATE|REASON|PARTITION|QOS|ACCOUNT|NAME\n"
OURS = "12_0|0|RUNNING|None|cpu|normal|lab|ablate.tiny.x.0\n"

Program = Callable[[str, str], None]


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    squeue.invalidate_cache()
    yield
    squeue.invalidate_cache()


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Puts one of SLURM's programs on the path, with the script that it is."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")

    def write(name: str, text: str) -> None:
        path = tmp_path / "bin" / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    return write


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    config = ClusterConfig(name="slurm", kind="slurm", canary=0)
    return dataclasses.replace(tiny_plan(Home(tmp_path / "home")), cluster=config, clusters={})


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ("", "printed no list of jobs: nothing"),
        (
            "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n",
            "no list of jobs: slurm_load",
        ),
        (HEADING + OURS + "12_1|1|PEND", "half a line: 12_1"),
        (HEADING + "12_1|1|ablate.tiny.x.0\n" + OURS, "what is no job: 12_1"),
    ],
)
def test_a_queue_that_cannot_be_read_is_not_an_empty_one(program: Program, printed: str, said: str) -> None:
    program("squeue", f"printf '%s' '{printed}'")
    found = squeue.look(["me"], 0.0)
    assert not found.elements and said in found.silence


def test_banners_and_other_jobs_are_nothing_of_ours(program: Program) -> None:
    other = "77|N/A|PENDING|Resources|gpu|short|lab|my job|of two\nlines\n"
    program("squeue", f"printf '%s' 'Welcome to the cluster!\n\n{HEADING}{other}{OURS}'")
    found = squeue.look(["me"], 0.0)
    assert not found.silence and [one.name for one in found.elements] == ["my job|of two", "ablate.tiny.x.0"]
    assert found.elements[0].index == -1 and found.elements[0].qos == "short" and found.elements[1].live


def test_a_controller_that_answers_nothing_of_itself_is_silent(program: Program) -> None:
    for name in cluster.PROGRAMS:
        program(name, "echo welcome")
    cluster.inspect.cache_clear()
    with pytest.raises(SchedulerSilent, match=r"^scontrol show config printed no ClusterName: welcome$"):
        cluster.inspect()
    described = "NodeName=n1 CPUTot=many RealMemory=4000\\nNodeName=n2 CPUTot=4 Gres=gpu:1g.10gb:7(S:0-1),gpu:a100:1"
    program(
        "scontrol",
        f"""case "$*" in
        *config) echo hello; echo "ClusterName = c";;
        *node) echo hello; printf '{described}\\n';;
        *) echo hello; echo "PartitionName=p Nodes=n[1-2] GraceTime=(null) Default=YES";;
        esac""",
    )
    nodes = cluster.inspect().partitions["p"].nodes
    cluster.inspect.cache_clear()
    assert [node.cpus for node in nodes] == [0, 4] and nodes[1].gpus == {"1g.10gb": 7, "a100": 1}


@pytest.mark.parametrize("taken", [True, False])
def test_an_array_whose_answer_was_lost_is_looked_up_before_it_is_handed_over_again(
    plan: Plan, taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue: list[QueuedElement] = []
    asked: list[str] = []

    def busy(submission: object, text: str) -> str:
        name = next(line.partition("=")[2] for line in text.splitlines() if line.startswith("#SBATCH --job-name"))
        asked.append(name)
        if len(asked) > 1:
            return "8"
        if taken:
            queue.append(QueuedElement("7_0", name, 0, "PENDING", "None"))
        raise script.NoAnswer("sbatch refused: Socket timed out on send/recv operation")

    monkeypatch.setattr(script, "submit", busy)
    monkeypatch.setattr(cluster, "inspect", lambda: CLUSTER)
    monkeypatch.setattr(squeue, "look", lambda users, after: Queue(tuple(queue), 1e18))
    monkeypatch.setattr(executor, "BACK_OFF", (0.0, 0.0))
    submit(plan, code=FAKE)
    arrays = next(manifest.submissions(plan.home))[1].arrays
    assert [array.job_id for array in arrays] == (["7", "8"] if taken else ["8", "8"])
    assert len(asked) == (2 if taken else 3)


def test_halved_arrays_keep_who_needs_whom() -> None:
    first = Array("x.0", (("a",), ("b",), ("c",)), {})
    second = Array("x.1", (("A",), ("B",), ("C",)), {}, follows="x.0")
    both = layout.halved((first, second), {})
    assert [array.elements for array in both] == [(("a", "c"), ("b",)), (("A", "C"), ("B",))]
    assert both[1].follows == "x.0"
    (alone,) = layout.halved((second,), {"x.0": "7"})
    assert (alone.follows, alone.after_end, alone.elements) == ("", ("x.0",), (("A", "C"), ("B",)))
    assert layout.halved(layout.halved(both, {}), {})[0].elements == (("a", "c", "b"),)


def test_a_warning_leaves_time_to_work(plan: Plan) -> None:
    short = dataclasses.replace(plan.cluster, hours=0.05, signal_seconds=150)
    assert layout.cluster_of(dataclasses.replace(plan, cluster=short), plan.tasks[0]).signal_seconds == 90
    assert layout.cluster_of(plan, plan.tasks[0]).signal_seconds == 120


def test_elements_are_cancelled_by_their_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[str, ...]] = []
    monkeypatch.setattr(squeue, "cancel", lambda *words: said.append(words))
    executor.stop(tuple(Job(name, "", "", 0) for name in ("5_0", "5_2", "5_1", "6_7", "9")), force=False)
    assert said == [("5_[0-2]", "6_[7]", "9")]


@pytest.mark.parametrize(
    ("submitter", "job", "ships"),
    [
        ("http://server:5000", "", True),
        ("", "http://other:5000", True),
        ("postgresql://me:secret@db/mlflow", "", False),
        ("postgresql://me:secret@db/mlflow", "postgresql://me:secret@db/mlflow", True),
    ],
)
def test_a_job_tracks_where_its_submitter_does(
    plan: Plan,
    submitter: str,
    job: str,
    ships: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", submitter)
    monkeypatch.setattr(script, "submit", lambda submission, text: "1")
    monkeypatch.setattr(cluster, "inspect", lambda: CLUSTER)
    monkeypatch.setattr(squeue, "look", lambda users, after: Queue((), 1e18))
    submit(plan, code=dataclasses.replace(FAKE, shipper=""))
    submission, found = next(manifest.submissions(plan.home, ended=True))
    assert "secret" not in submission.manifest.read_text()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", job)
    queue = dataclasses.replace(found, shipper="module:Shipper")
    own = journal_upload.JournalUpload(plan.home, submission, queue, "1_0", lambda: ())
    assert own._broken is not ships and ("`ablate sync` ships them" in capsys.readouterr().out) is not ships
    assert plan.home.tracking_uri == (submitter or f"sqlite:///{plan.home.store}" if ships else plan.home.tracking_uri)
    assert survey(plan).counts
