"""How tasks are laid out in arrays, and how SLURM's answers are read: no scheduler needed."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from fakes import FAKE, tiny_plan, write_study

from ablative.study.core import extras
from ablative.study.core.errors import ConfigError
from ablative.study.home.paths import Home
from ablative.study.plan.plan import Plan, Task, make_plan
from ablative.study.spec.cluster import ClusterConfig
from ablative.sweeps.queue import manifest
from ablative.sweeps.queue.executors import NoRoom
from ablative.sweeps.queue.manifest import Array
from ablative.sweeps.slurm import advice, cluster, element, executor, layout, script
from ablative.sweeps.slurm import squeue as queue
from ablative.sweeps.slurm.cluster import Cluster, Partition
from ablative.sweeps.slurm.squeue import Queue, QueuedElement
from ablative.sweeps.status.task_states import survey
from ablative.sweeps.submission.submit import Code, submit

CONFIG = ClusterConfig(name="slurm", kind="slurm", canary=0)


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """Thirty runs and their evaluations."""
    folder = tmp_path_factory.mktemp("config")
    write_study(folder)
    words = ("cluster=slurm", "cluster.canary=0", f"seeds={list(range(10))}".replace(" ", ""))
    return make_plan("tiny", words, config_dir=str(folder), home=Home(folder / "home"))


@pytest.fixture
def plan(composed: Plan, tmp_path: Path) -> Plan:
    return dataclasses.replace(composed, home=Home(tmp_path / "home"))


def arrange(plan: Plan, queue: Sequence[Task] | None = None, **options: object) -> tuple[Array, ...]:
    tasks = plan.tasks if queue is None else queue
    given = {"new": frozenset(task.task_id for task in tasks), "holders": {}, "max_array": 1000, "max_elements": 10_000}
    return layout.arrange(plan, tasks, prefix="ablate.tiny.x", **{**given, **options})  # type: ignore[arg-type]


def test_an_array_of_runs_and_one_of_their_evaluations(plan: Plan) -> None:
    runs, evaluations = arrange(plan)
    assert [element[0] for element in runs.elements] == [task.task_id for task in plan.runs]
    assert evaluations.follows == runs.name == "ablate.tiny.x.0"
    of = {task.task_id: task.run_id for task in plan.tasks}
    assert [of[element[0]] for element in evaluations.elements] == [element[0] for element in runs.elements]


def test_long_arrays_are_cut_and_each_part_of_the_evaluations_follows_its_own(plan: Plan) -> None:
    arrays = arrange(plan, max_array=12)
    assert [len(array.elements) for array in arrays] == [12, 12, 6, 12, 12, 6]
    assert [array.follows[-1:] for array in arrays] == ["", "", "", "0", "1", "2"]


def test_a_short_queue_gives_each_element_several_tasks(plan: Plan) -> None:
    runs, evaluations = arrange(plan, max_elements=8)
    assert [len(element) for element in runs.elements] == [8, 8, 7, 7] == [len(e) for e in evaluations.elements]
    assert runs.elements[0][0] == plan.tasks[0].task_id, "what stands first in the plan begins first"
    assert {task for array in (runs, evaluations) for element in array.elements for task in element} == {
        task.task_id for task in plan.tasks
    }


def test_levels_with_resources_of_their_own_get_arrays_of_their_own(plan: Plan) -> None:
    big = dataclasses.replace(CONFIG, gpus=1)
    mine = {task.run_id: big for task in plan.runs[:10]}
    plan = dataclasses.replace(plan, clusters=mine)
    arrays = arrange(plan)
    assert [(array.cluster["gpus"], len(array.elements)) for array in arrays] == [(1, 10), (0, 20), (1, 10), (0, 20)]
    assert [array.follows[-1:] for array in arrays] == ["", "", "0", "1"]


def test_a_level_chooses_its_cluster(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    text = "name: own\nfactors: {lr: {a: {schedule.lr: 0.1}, b: {schedule.lr: 0.2, cluster: a100, cluster.hours: 3}}}\n"
    (tmp_path / "study" / "own.yaml").write_text(text)
    own = make_plan("own", ["cluster=slurm"], config_dir=str(tmp_path), home=Home(tmp_path / "home"))
    a, b = (layout.cluster_of(own, task) for task in own.runs)
    assert (a.name, a.gpus, b.name, b.gpus, b.hours) == ("slurm", 0, "a100", 1, 3.0)
    plain = make_plan("own", config_dir=str(tmp_path), home=Home(tmp_path / "home"))
    assert [task.task_id for task in plain.runs] == [task.task_id for task in own.runs], "no part of any identity"


def test_runs_of_other_submissions_are_waited_for_and_gone_on_with(plan: Plan) -> None:
    run, other = plan.runs[0], plan.runs[1]
    mine = [run, other, *(task for task in plan.tasks if not task.opens and task.run_id == run.run_id)]
    new = frozenset(task.task_id for task in mine if task is not run)
    fresh, follow = arrange(plan, mine, new=new, holders={run.task_id: "7_3"})
    assert fresh.elements == ((other.task_id,),) and not fresh.follows
    assert follow.elements == ((run.task_id, mine[2].task_id),) and follow.waits_for == ("7_3",)
    assert script.dependency(follow, {}) == "afterany:7_3"


def test_an_array_of_version_1_waits_for_one_other() -> None:
    content = {"name": "x.1", "elements": [["a"], []], "cluster": {}, "follows": "x.0"}
    for after, expected in (("", ()), ("x.canary", ("x.canary",)), (["a", "b"], ("a", "b"))):
        array = manifest._array({**content, "after": after})
        assert array.after == expected and array.after_end == () and array.elements == (("a",), ())


def test_elements_without_evaluations_are_left_out_of_the_array() -> None:
    assert queue.ranges([0, 1, 2, 5, 7, 8]) == "0-2,5,7-8"


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("2-00:00:00", 2880), ("1-12", 2160), ("30:00", 30), ("01:30:00", 90), ("UNLIMITED", float("inf"))],
)
def test_time_limits(text: str, minutes: float) -> None:
    assert cluster._minutes(text) == minutes


def test_node_lists_and_gpus() -> None:
    assert cluster._expand("n[1-3,07],login,gpu[09-10]-ib") == {
        "n1",
        "n2",
        "n3",
        "n07",
        "login",
        "gpu09-ib",
        "gpu10-ib",
    }
    node = cluster._node(
        "NodeName=x CPUTot=64 RealMemory=512000 Gres=gpu:a100:4(S:0-1),gpu:2,nvme:1 AvailableFeatures=ib,fast"
    )
    assert (node.gpus, node.cpus, node.memory_gib, node.features) == ({"a100": 4, "": 2}, 64, 500.0, {"ib", "fast"})


def test_what_accounts_and_qos_a_partition_takes() -> None:
    fields = {
        "PartitionName": "p",
        "AllowAccounts": "lab,guest",
        "AllowQos": "ALL",
        "DenyQos": "slow",
        "Default": "YES",
    }
    node = cluster._node("NodeName=x CPUTot=4 RealMemory=8192")
    partition = dataclasses.replace(cluster._partition(fields, []), nodes=(node,))
    found = Cluster({}, {"p": partition})
    cluster.check(dataclasses.replace(CONFIG, account="lab", qos="fast"), found)
    for changes, message in (
        ({"account": "lap"}, "account.*did you mean 'lab'"),
        ({"qos": "slow"}, "does not take 'slow'"),
    ):
        with pytest.raises(ConfigError, match=message):
            cluster.check(dataclasses.replace(CONFIG, **changes), found)
    with pytest.raises(ConfigError, match="no default partition; choose one of p"):
        cluster.check(CONFIG, Cluster({}, {"p": dataclasses.replace(partition, default=False)}))
    with pytest.raises(ConfigError, match="down or draining"):
        cluster.check(CONFIG, Cluster({}, {"p": dataclasses.replace(partition, up=False)}))


def test_a_recycled_job_id_is_not_taken_for_ours(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a controller lost its state: another array has our job id, and ours has none any more."""
    seen = [QueuedElement("3_0", "ablate.other.x.0", 0, "RUNNING", "None")]
    small = launched(plan, monkeypatch, seen)
    assert survey(small).counts == {"eligible": 3, "waiting": 3}
    seen[:] = [QueuedElement("9_1", "ablate.tiny.x.0", 1, "PENDING", "Priority")]
    assert survey(small).counts == {"submitted": 1, "eligible": 2, "waiting": 3}
    assert executor.queue_summary(small.home, "tiny") == "slurm: 1 pending (Priority)"
    seen[:] = [QueuedElement("9_1", "ablate.tiny.x.1", 1, "PENDING", "DependencyNeverSatisfied")]
    assert survey(small).counts == {"eligible": 3, "waiting": 3}


def test_a_cluster_may_have_the_extra_that_this_machine_lacks(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "missing", lambda extra: ("torch",))
    code = Code(shipper="")
    with pytest.raises(extras.MissingExtraError, match=re.escape(extras.sentence("clip"))):
        submit(tiny_plan(plan.home), code=code)
    assert not any(plan.home.study("tiny").submissions.glob("*"))
    seen = [QueuedElement(f"3_{i}", "ablate.tiny.x.0", i, "PENDING", "None") for i in range(3)]
    assert survey(launched(plan, monkeypatch, seen, code)).counts["submitted"] == 3


def launched(plan: Plan, monkeypatch: pytest.MonkeyPatch, seen: list[QueuedElement], code: Code = FAKE) -> Plan:
    """A submission in a queue that we say the content of."""
    small = dataclasses.replace(tiny_plan(plan.home), cluster=CONFIG, clusters={})
    monkeypatch.setattr(queue, "look", lambda users, after: Queue(tuple(seen), 1e18))
    monkeypatch.setattr(cluster, "inspect", lambda: Cluster({}, {"p": WIDE}))
    monkeypatch.setattr(script, "submit", lambda submission, text: "3")
    monkeypatch.setattr("ablative.sweeps.submission.submit.prefix", lambda plan, stamp: "ablate.tiny.x")
    submit(small, code=code)
    return small


WIDE = Partition("p", True, True, 1e9, {}, {}, "OFF", 0, (cluster.Node("n", 64, 512.0, {}, frozenset()),))


REFUSES = """#!/bin/sh
echo "sbatch: error: QOSMaxSubmitJobPerUserLimit" >&2
echo "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, …)" >&2
exit 1
"""


def test_a_submit_limit_is_explained_and_leaves_nothing_behind(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bin").mkdir()
    for name in cluster.PROGRAMS:
        path = tmp_path / "bin" / name
        path.write_text(REFUSES if name == "sbatch" else "#!/bin/sh\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setattr(cluster, "inspect", lambda: Cluster({}, {"p": WIDE}))
    small = dataclasses.replace(tiny_plan(plan.home), cluster=CONFIG, clusters={})
    with pytest.raises(NoRoom, match=r"QOSMaxSubmitJobPerUserLimit; `ablate run` waits"):
        submit(small, code=FAKE)
    assert survey(small).counts == {"eligible": 3, "waiting": 3}
    assert capfd.readouterr().err == ""


def test_doctor_says_what_loses_work() -> None:
    settings = {"JobRequeue": "0", "KillWait": "10 sec", "PreemptType": "preempt/qos", "SlurmctldParameters": "(null)"}
    partition = dataclasses.replace(WIDE, preempt="REQUEUE", grace=5)
    lines = advice._advice(Cluster(settings, {"p": partition}))
    assert [line.split()[0] for line in lines] == ["JobRequeue=0:", "KillWait=10", "preempted", "GraceTime"]
    calm = {"JobRequeue": "1", "KillWait": "30 sec", "PreemptType": "preempt/none"}
    assert advice._advice(Cluster(calm, {"p": partition})) == []


def test_facts_of_a_job() -> None:
    given = {"SLURMD_NODENAME": "n7", "SLURM_JOB_PARTITION": "gpu", "SLURM_RESTART_COUNT": "2", "SLURM_JOB_GPUS": ""}
    facts = element.scheduler_facts(given, "5_1", None)
    expected = {
        "scheduler": "slurm",
        "job": "5_1",
        "node": "n7",
        "partition": "gpu",
        "requeues": 2,
        "queue_seconds": None,
    }
    assert facts == expected
