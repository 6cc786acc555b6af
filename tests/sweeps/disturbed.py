"""Studies of both kinds, the shipped trainer's and of a user's program, that are disturbed on a real SLURM.

Every study is run undisturbed, too; what was disturbed has to end with the same curves and the same results.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from fakes import write_study
from slurm_world import begin_soon, look, slurm

from ablative.study.core.files import read_json
from ablative.study.home.journal import metric_rows, read
from ablative.study.home.paths import Home
from ablative.study.plan.plan import Plan, make_plan
from ablative.sweeps.status.task_states import Survey
from ablative.sweeps.submission.submit import Code, Submission, submit

PATIENCE = 1500.0
"""Seconds to wait for anything: jobs import torch, on machines that may do much else."""
UNTRACKED = Code(shipper="")
SLURM = ("cluster=slurm", "cluster.partition=cpu", "cluster.canary=0")
SHIPPED = (
    *SLURM,
    "cluster.memory_gib=0.9",
    "schedule.steps=400",
    "schedule.warmup_steps=2",
    "schedule.batch_size=12",
    "objective.local_batch=4",
    "objective.local_steps=3",
    "data.pairs=60",
    "suite.datasets.shapes_shape.test=60",
    "suite.protocols.zero_shot=[shapes_shape]",
    "runtime.log_every=1",
    "runtime.checkpoint_seconds=2",
    "runtime.device=cpu",
    "drop=[{method: [clip, masked_clip]}]",
    "baseline={method: mae_clip}",
)
OWN = (*SLURM, "cluster.memory_gib=0.3")
TRAIN = """
import json, os, signal, sys, time
words = dict(word[2:].split("=", 1) for word in sys.argv[1:] if "=" in word)
out, rate, saved, stopped = words["out"], float(words["rate"]), os.path.join(words["out"], "last.json"), []
signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
if os.environ.get("SLURM_PROCID", "0") != "0":
    while not stopped and not os.path.exists(os.path.join(out, "result.json")):
        time.sleep(0.1)
    sys.exit(3 if stopped else 0)
ballast = bytearray(b"x") * (int(words["ballast"]) << 20)
done, loss = json.load(open(saved)) if "--resume" in sys.argv else (0, 1.0)
for step in range(done + 1, int(words["steps"]) + 1):
    loss = loss * (1 - rate) + rate / step
    print(f"step {step} loss {loss!r}", flush=True)
    with open(os.path.join(out, "trace"), "a") as file:
        print(step, file=file)
    with open(saved + ".new", "w") as file:
        json.dump([step, loss], file)
    os.replace(saved + ".new", saved)
    time.sleep(float(words["pause"]))
    if stopped:
        sys.exit(3)
with open(os.path.join(out, "result.json"), "w") as file:
    json.dump({"acc": 1 - loss}, file)
"""
SCORE = """
import json, sys
print("double", 2 * json.load(open(sys.argv[1] + "/result.json"))["acc"])
"""
STUDY = """
name: own
code: .
config: {rate: 0.1, steps: 40, pause: 0.5, ballast: 1}
unhashed: [pause, ballast]
stages:
  train:
    command: python train.py {args} --rate={rate} --steps={steps} --pause={pause} --ballast={ballast} --out={out}
    resume: {file: last.json, args: --resume, exact: true}
    stop: {grace: 10}
    on_oom: {ballast: 0.01}
    metrics:
      loss: {better: lower, stdout: 'step (?P<step>[0-9]+) loss (?P<value>[^ ]+)'}
      acc: {better: higher, json: result.json, key: acc}
  score:
    after: train
    command: python score.py {train.out}
    metrics: {double: {better: higher, stdout: 'double (?P<value>.+)'}}
factors: {rate: {low: {rate: 0.1}, high: {rate: 0.3}}}
"""


def folder(place: Path, study: str = STUDY) -> Path:
    """A user's repository; returns its study file."""
    place.mkdir(parents=True)
    for name, text in (("train.py", TRAIN), ("score.py", SCORE), ("study.yaml", study)):
        (place / name).write_text(text)
    subprocess.run(["git", "init", "--quiet", str(place)], check=True)
    return place / "study.yaml"


def environment(place: Path, base: str = sys.executable) -> Path:
    """A virtual environment of another folder that has what this one has; returns its interpreter.

    Args:
        place: its folder.
        base: the interpreter that it is of; its version is this one's.
    """
    subprocess.run([base, "-m", "venv", "--without-pip", str(place)], check=True)
    (site,) = place.glob("lib/python*/site-packages")
    (mine,) = Path(sys.prefix).glob("lib/python*/site-packages")
    (site / "same.pth").write_text(f"import site; site.addsitedir({str(mine)!r})\n")
    return place / "bin" / "python"


def shipped(place: Path, home: Home, *words: str) -> Plan:
    """A run of the shipped trainer and its evaluation."""
    if not (place / "config").exists():
        write_study(place / "config")
    return make_plan("tiny", (*SHIPPED, *words), str(place / "config"), home)


def own(place: Path, home: Home, *words: str, study: str = STUDY) -> Plan:
    """Two runs of a user's program, each scored by another program."""
    file = place / "user" / "study.yaml"
    return make_plan(str(file if file.exists() else folder(file.parent, study)), (*OWN, *words), home=home)


@dataclass(frozen=True)
class Studies:
    """Plans that are disturbed at the same time; each has a home of its own or shares one."""

    plans: tuple[Plan, ...]
    code: Code = UNTRACKED

    def submit(self) -> list[Submission]:
        return [submit(plan, code=self.code) for plan in self.plans]

    def surveys(self) -> list[Survey]:
        return [look(plan) for plan in self.plans]

    def until(self, condition: Callable[[Survey], bool]) -> list[Survey]:
        """Wait until the condition holds for each plan; the states are checked at every look."""
        end = time.monotonic() + PATIENCE
        while True:
            begin_soon()
            found = self.true_states()
            if all(map(condition, found)):
                return found
            shown = [survey.counts for survey in found]
            assert time.monotonic() < end, f"still {shown}\n{slurm('squeue', '--array')}"
            time.sleep(2.0)

    def true_states(self) -> list[Survey]:
        """States, after they were compared with what the scheduler and the folders have."""
        for attempt in range(3):
            before, found, after = queued(self.plans), self.surveys(), queued(self.plans)
            # What begins or ends between two looks is in one of them.
            said = {state.task.task_id: state.state for survey in found for state in survey.states}
            wrong = [f"{task} {state}" for task, state in said.items() if state == "submitted" and task not in before]
            wrong += [
                f"{task} {state}"
                for task, state in said.items()
                if task in before & after and state in ("eligible", "waiting")
            ]
            if not wrong:
                return found
            time.sleep(attempt + 1.0)
        raise AssertionError(f"not as the scheduler has it: {wrong}\n{slurm('squeue', '--array')}")

    def begun(self, steps: int = 3) -> bool:
        """Whether each plan's first run has reported some steps."""
        return all(reported(plan, 0) >= steps for plan in self.plans)

    def wait_begun(self, steps: int = 3) -> None:
        end = time.monotonic() + PATIENCE
        while not self.begun(steps):
            assert time.monotonic() < end, f"did not begin\n{slurm('squeue', '--array')}"
            begin_soon()
            time.sleep(0.5)

    def finish(self) -> None:
        self.until(lambda found: found.finished)

    def ended(self) -> list[Survey]:
        """Wait until nothing of them runs or waits in the queue."""
        return self.until(lambda found: not found.having("running", "submitted"))


def queued(plans: Iterable[Plan]) -> set[str]:
    """Ids of the tasks that elements in the queue have, by SLURM's and the manifests' own words."""
    lines = slurm("squeue", "--noheader", "--array", "--format=%j|%K|%T|%r").splitlines()
    found = set()
    for plan in plans:
        for path in plan.home.root.glob("studies/*/submissions/*/submission.json"):
            arrays = {array["name"]: array["elements"] for array in json.loads(path.read_text())["arrays"]}
            for line in lines:
                name, index, state, reason = line.split("|")
                if name in arrays and state != "COMPLETED" and reason != "DependencyNeverSatisfied":
                    found |= set(arrays[name][int(index)])
    return found


def reported(plan: Plan, index: int) -> int:
    """Steps that a task has reported."""
    journal = plan.tasks[index].paths(plan.home).journal
    if not journal.exists():
        return 0
    return len({step for _, step, _, _ in metric_rows(read(journal)[0]) if step})


def results(plan: Plan) -> dict[str, dict[str, float]]:
    """Final metrics of every task, less what they cost."""
    found = {}
    for task in plan.tasks:
        record = read_json(task.paths(plan.home).record)
        assert record is not None and record["state"] == "completed", task.name
        found[task.task_id] = {name: value for name, value in record["metrics"].items() if name[:5] != "cost/"}
    return found


def curves(plan: Plan) -> dict[tuple[str, str, int], float]:
    """(task, metric, step) → value, less what they cost; nothing is reported twice."""
    rows = [
        ((task.task_id, name, step), value)
        for task in plan.tasks
        for name, step, value, _ in metric_rows(read(task.paths(plan.home).journal)[0])
        if name[:5] != "cost/"
    ]
    assert len(dict(rows)) == len(rows), "reported twice"
    return dict(rows)


def assert_same(plan: Plan, calm: Plan) -> None:
    """Everything is done, with the numbers of the undisturbed run."""
    assert results(plan) == results(calm)
    found, expected = curves(plan), curves(calm)
    assert found.keys() == expected.keys()
    # Some of the trainer's curves are of time.
    assert {key: value for key, value in found.items() if not _timed(key)} == {
        key: value for key, value in expected.items() if not _timed(key)
    }


def _timed(key: tuple[str, str, int]) -> bool:
    return any(word in key[1] for word in ("second", "time", "memory"))


def traces(plan: Plan) -> list[Counter[int]]:
    """How often each run of the user's program computed each step."""
    found = []
    for task in plan.runs:
        text = (task.paths(plan.home).output / "trace").read_text()
        found.append(Counter(map(int, text.split())))
    return found
