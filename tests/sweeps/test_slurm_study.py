"""Studies on a real SLURM: the page's commands as written gives the numbers of this machine; and another trainer's."""

from __future__ import annotations

import json
import random
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes import SOURCE, wait_for
from installed import install
from performed import perform
from shared import with_store
from slurm_world import SECONDS, begin_soon

from ablative.study.core.errors import ConfigError
from ablative.study.core.files import read_json
from ablative.study.home.paths import Home
from ablative.study.plan.plan import make_plan

pytestmark = pytest.mark.usefixtures("world")
SLICE = (
    "schedule.steps=12",
    "schedule.warmup_steps=2",
    "schedule.batch_size=16",
    "objective.local_batch=8",
    "suite.datasets.shapes_shape.test=60",
    "suite.protocols.zero_shot=[shapes_shape]",
    "factors.scale={small: {data.pairs: 100}, large: {data.pairs: 200}}",
    "seeds=[0]",
    "protocols=[zero_shot]",
    "tables={}",
    "figures={}",
    "claims={}",
    "effects={}",
    "drop=[{method: [random_init, m3ae, mae, masked_clip, clip]}, {scale: small}, {pooling: [gap, max]}]",
    "baseline={scale: large, method: mae_clip, pooling: map}",
)
TASKS = 2
CLUSTER = ("cluster.memory_gib=1.5", "cluster.partition=cpu", "cluster.cpus=1")
SECTION = (SOURCE / "docs" / "slurm.md").read_text().split("```")[1]


def records(home: Path) -> dict[str, dict[str, object]]:
    """Records of finished tasks by id."""
    found = [read_json(path) for path in home.rglob("record.json")]
    return {record["task_id"]: record for record in found if record is not None}


def metrics(home: Path) -> dict[str, dict[str, float]]:
    """Results of every task, less what they cost."""
    return {
        task: {name: value for name, value in record["metrics"].items() if not name.startswith("cost/")}
        for task, record in records(home).items()
    }


@pytest.mark.timeout(900)
def test_the_page_on_clusters_and_the_same_numbers_as_on_this_machine(
    tmp_path: Path, call_ablate: Callable[..., str]
) -> None:
    here, there = Home(tmp_path / "here"), with_store(tmp_path / "there")
    perform(make_plan("demo", SLICE, home=here))
    expected = metrics(here.root)
    assert len(expected) == TASKS
    lines = [line.split("#")[0] for line in SECTION.splitlines() if line.startswith("ablate")]
    outputs = {}
    for line in lines:
        words = shlex.split(line)[1:]
        if words[0] == "logs":
            wait_for(lambda: len(records(there)) == TASKS, SECONDS)
            words[1] = next(iter(expected))
        if "demo" in words:
            words[2:2] = [*SLICE, *(CLUSTER if "cluster=slurm" in words else ())]
        outputs[words[0]] = call_ablate(there, *words)
    assert list(outputs) == ["doctor", "plan", "submit", "status", "logs"]
    assert re.search(r"slurm +ablate\d+ answers; .*cpu\* \(2 nodes, 2 cores, no time limit\)", outputs["doctor"])
    assert outputs["plan"].count("#SBATCH --array=0\n") == 2, "a run, and its evaluation"
    assert metrics(there) == expected
    for record in records(there).values():
        facts = record["environment"]["scheduler"]
        assert facts["node"] in ("n1", "n2") and facts["requeues"] == 0 and facts["queue_seconds"] >= 0
        assert re.fullmatch(r"\d+_0", facts["job"])
    assert "element" in outputs["logs"] and "'partition': 'cpu'" in outputs["logs"]
    status = json.loads(call_ablate(there, "status", "demo", *SLICE, "--json"))
    assert status["counts"] == {"completed": TASKS}


def test_a_trainer_of_another_distribution(
    tmp_path: Path, call_ablate: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One task that all runs need goes before them, and those before what needs them."""
    plugin, home = SOURCE / "tests" / "plugin", with_store(tmp_path / "home")
    site = install(tmp_path / "site", "command-trainer", {"command": "command_trainer:TRAINER"})
    shutil.copy(plugin / "command_trainer.py", site)
    (tmp_path / "conf" / "study").mkdir(parents=True)
    shutil.copy(plugin / "commands.yaml", tmp_path / "conf" / "study")
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.syspath_prepend(str(site))
    words = ("commands", "--config-dir", str(tmp_path / "conf"))
    call_ablate(home, "submit", *words, "cluster=slurm", *CLUSTER)
    wait_for(lambda: len(records(home)) == 13, SECONDS)
    latencies = sorted(found["fit/latency"] for found in metrics(home).values() if "fit/latency" in found)
    draws = [random.Random(seed).random() for seed in (0, 1, 2)]
    assert latencies == [0.1 * width * 0.5 + 0.01 * width * draw for width in (1, 3) for draw in sorted(draws)]
    assert all(record["environment"]["scheduler"]["node"] in ("n1", "n2") for record in records(home).values())
    status = json.loads(call_ablate(home, "status", *words, "--json"))
    assert status["counts"] == {"completed": 13}


GROUP = """
name: group
code: .
config: {width: 1}
stages:
  inside: {command: "python rank.py {width} {out}", launch: {with: env, processes: 2}, metrics: %s}
  across: {after: inside, command: "python rank.py {width} {out}", launch: {with: srun, processes: 2}, metrics: %s}
factors: {width: {narrow: {width: 1}}}
"""
RANK = """
import os, sys
with open(os.path.join(sys.argv[2], "ranks"), "a") as file:
    file.write(os.environ.get("RANK") or os.environ["SLURM_PROCID"])
size = os.environ.get("WORLD_SIZE") or os.environ["SLURM_NTASKS"]
os.write(1, f"node {os.environ['SLURMD_NODENAME']} {size}\\n".encode())  # in one piece: two processes write at once
"""


def test_a_program_that_starts_its_processes_is_started_once(tmp_path: Path, call_ablate: Callable[..., str]) -> None:
    folder, home = tmp_path / "user", with_store(tmp_path / "home")
    folder.mkdir()
    study, size = folder / "study.yaml", "{size: {better: lower, stdout: 'node \\w+ (.*)'}}"
    study.write_text(GROUP % (size, size))
    (folder / "rank.py").write_text(RANK)
    call_ablate(home, "submit", str(study), "cluster=slurm", *CLUSTER)
    # A job whose id was another's before its controller lost its state is refused at first, and waits for minutes.
    wait_for(lambda: begin_soon() or len(records(home)) == 2, SECONDS)
    assert [found[name] for found in metrics(home).values() for name in found] == [2.0, 2.0]
    assert [sorted(path.read_text()) for path in home.rglob("ranks")] == [["0", "1"]] * 2
    with pytest.raises(ConfigError, match=r"launch: with: env starts processes on one node, but cluster.nodes is 2"):
        make_plan(str(study), ("cluster=slurm", "cluster.nodes=2"), home=Home(home))


SLOW = """
import json, os, signal, sys, time
out = sys.argv[1]
begins = json.load(open(os.path.join(out, "last.json"))) if "--resume" in sys.argv else 0
stopped = []
signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
for step in range(begins + 1, 81):
    print(f"step {step} loss {1 / step}", flush=True)
    time.sleep(1.0)
    if stopped:
        with open(os.path.join(out, "last.json"), "w") as file:
            json.dump(step, file)
        sys.exit(3)
"""
SLOW_STUDY = """
name: slow
code: .
config: {rate: 0.1}
stages:
  train:
    command: python train.py {out} {args}
    resume: {file: last.json, args: --resume, exact: true}
    stop: {grace: 10}
    metrics:
      loss: {better: lower, stdout: 'step (?P<step>[0-9]+) loss (?P<value>[^ ]+)'}
factors: {rate: {slow: {rate: 0.1}}}
"""


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the uploader outlives the command
def test_a_program_goes_on_after_each_time_limit(tmp_path: Path, call_ablate: Callable[..., str]) -> None:
    home, place = with_store(tmp_path / "home"), tmp_path / "user"
    place.mkdir()
    (place / "train.py").write_text(SLOW)
    (place / "study.yaml").write_text(SLOW_STUDY)
    limit = ("cluster.hours=0.016", "cluster.signal_seconds=25")
    call_ablate(home, "submit", str(place / "study.yaml"), *CLUSTER, "cluster=slurm", *limit)

    def finished() -> bool:
        begin_soon()
        return bool(records(home))

    wait_for(finished, 6 * SECONDS)
    (record,) = records(home).values()
    assert list(metrics(home).values()) == [{"train/loss": 1 / 80}] and int(str(record["attempts"])) > 1
    (journal,) = home.glob("runs/*/journal.jsonl")
    entries = [json.loads(line) for line in journal.read_text().splitlines()]
    reported = [entry["step"] for entry in entries if entry["kind"] == "metrics" and entry["step"]]
    assert reported == list(range(1, 81))
