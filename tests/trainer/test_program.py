"""Studies of programs that know nothing of ablate: their words, ids, stages, ends; killed, stopped and resumed."""

from __future__ import annotations

import json
import os
import pickle
import venv
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from program_world import (
    attempt,
    example,
    folder_with,
    ids,
    killed_attempt,
    paths_of,
    planned,
    planned_without_data,
    series,
    tasks_of,
    write,
)

from ablative.reports.costs.environment import brief
from ablative.reports.terminal import environments
from ablative.study.core.errors import AblateError, AbsentDataError, Interrupted, is_out_of_memory
from ablative.study.core.files import write_json
from ablative.study.home.journal import read
from ablative.study.home.paths import Home
from ablative.study.home.records import environment_of, read_record
from ablative.study.plan.plan import Plan, make_plan
from ablative.study.plan.task import Task
from ablative.trainer.program.job.installed import keep_installed
from ablative.trainer.program.probes import asking

GOLDEN = {
    "command": {"train": ["662fe9202805", "6028880d95c0"], "sample.1_2": ["a7c5ae0dd4b4", "80fe5c7d27ba"]},
    "function": {"train": ["8bdfae211ee6", "fbd089c37d91"], "test": ["86d672ea1544", "4015cda41305"]},
    "hydra": {"train": ["56a5cfa63289", "aaf74a230e7b"]},
}
"""Ids of the examples' first tasks: a later version must find what an earlier one has finished."""


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second process of a probe needs not be later than the first."""
    monkeypatch.setattr(asking, "APART", 0.2)


@pytest.mark.parametrize("name", GOLDEN)
def test_ids_are_promised_wherever_the_folder_lies(name: str, tmp_path: Path) -> None:
    plan = planned(example(name, tmp_path / "mine"))
    assert {stage: ids(plan, stage)[:2] for stage in GOLDEN[name]} == GOLDEN[name]


ARGPARSE = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.1)
parser.add_argument("--wide", action="store_true")
parser.add_argument("--out")
parser.add_argument("--seed", type=int)
print(parser.parse_args())
"""
TYPED = """
from dataclasses import dataclass, field
@dataclass
class Optimizer:
    lr: float = 0.1
@dataclass
class Config:
    wide: bool = False
    optimizer: Optimizer = field(default_factory=Optimizer)
def train(config: Config, context):
    return {"loss": config.optimizer.lr}
"""
HYDRA = """
import hydra
@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config):
    print(config)
main()
"""
TWO_STAGES = """
name: kinds
code: .
unhashed: [out, seed, hydra*]
config: %s
stages:
  train: {%s, metrics: {loss: {better: lower, stdout: 'loss (?P<value>.*)'}}}
  probe: {after: train, config: {depth: 1}, command: "python probe.py {args} --out {out}", metrics: {top1: {json: a}}}
  alone: {config: {depth: 1}, seeded: false, command: "python probe.py {args} --out {out}"}
seeds: [0, 1]
factors: {wide: {narrow: {wide: false}, wide: {wide: true}}}
"""
KINDS = {
    "argparse": ("{argparse: true}", 'command: "python train.py {args} --out {out} --seed {seed}"', "train.py"),
    "hydra": (
        "{hydra: true}",
        'command: "python app.py {args:hydra} seed={seed} hydra.run.dir={out}"',
        "conf/config.yaml",
    ),
    "type": ('{type: "typed:Config"}', 'function: "typed:train"', "typed.py"),
    "file": ("{file: base.yaml}", 'command: "python train.py {args} --out {out} --seed {seed}"', "base.yaml"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_edited_default_moves_the_ids_that_it_reaches(kind: str, tmp_path: Path) -> None:
    config, command, edited = KINDS[kind]
    study = TWO_STAGES % (config, command)
    user = folder_with(tmp_path / "user", study=study, train=ARGPARSE, typed=TYPED, app=HYDRA, probe=ARGPARSE)
    write(user / "conf/config.yaml", "lr: 0.1\nwide: false\nseed: 0\n")
    write(user / "base.yaml", "lr: 0.1\nwide: false\n")
    before = planned(user)
    assert len(set(ids(before, "train"))) == 4
    text = (user / edited).read_text()
    write(user / edited, f"# Another comment, the same defaults.\n{text}")
    assert ids(planned(user), "train") == ids(before, "train")
    write(user / edited, text.replace("0.1", "0.3"))
    after = planned(user)
    for stage in ("train", "probe"):
        assert not {*ids(before, stage)} & {*ids(after, stage)}, stage
    assert ids(after, "alone") == ids(before, "alone")


FILES = """
name: files
code: .
unhashed: [paths]
config: {lr: 0.1, paths: {root: here, cache: there}}
stages: {train: {command: "python note.py {args} {out}", data: [sets], metrics: {loss: {stdout: 'loss (.*)'}}}}
factors: {lr: {low: {lr: 0.1}}}
"""


def test_contents_of_folders_are_part_of_ids_and_sections_may_be_left_out(tmp_path: Path) -> None:
    user = folder_with(tmp_path / "user", study=FILES, note="")
    assert list(planned_without_data(user).absent) == ["sets"]
    with pytest.raises(AbsentDataError, match=r"stages.train.data: no file .*/user/sets$"):
        planned(user)
    for name in ("a/deep/x.txt", "z.txt"):
        write(user / "sets" / name, name)
    (task,) = planned(user).tasks
    assert set(task.config.unhashed) == {"paths.root", "paths.cache"} and task.config.config == {"lr": 0.1}
    assert ids(planned(user, "paths.root=elsewhere"), "train") == [task.task_id]
    (user / "sets" / "z.txt").rename(user / "sets" / "a" / "z.txt")
    assert ids(planned(user), "train") != [task.task_id]
    (user / "sets" / "a" / "z.txt").rename(user / "sets" / "z.txt")
    assert ids(planned(user), "train") == [task.task_id]
    for pattern, edited in (("sets/*/d*", "a/deep/x.txt"), ("'s*/[yz].txt'", "z.txt"), ("'sets/**/?.txt'", "z.txt")):
        write(user / "study.yaml", FILES.replace("[sets]", f"[{pattern}]"))
        before = ids(planned(user), "train")
        write(user / "sets" / "y.bin", pattern)
        assert ids(planned(user), "train") == before, pattern
        write(user / "sets" / edited, pattern)
        assert ids(planned(user), "train") != before, pattern
    write(user / "study.yaml", FILES.replace("[sets]", "[sets/*.parquet]"))
    assert list(planned_without_data(user).absent) == ["sets/*.parquet"]


STAGES = """
name: graph
code: .
config: {width: 4, lr: 0.1, rows: 8}
stages:
  data: {seeded: false, reads: [rows], command: "python note.py {args} --out={out}", outputs: [note.json]}
  train:
    after: data
    reads: [width, lr]
    command: python note.py {args} --seed={seed} --out={out} --data={data.out}
    metrics: {loss: {json: note.json, key: loss}}
  probe:
    after: train
    reads: [lr]
    each: {set: [digits, svhn]}
    when: {size: [big]}
    command: python note.py {args} --set={set} --out={out} --train={train.out}
    metrics: {"{set}/loss": {json: note.json, key: loss}}
seeds: [0, 1]
factors:
  size: {small: {width: 4}, big: {width: 8}}
  rate: {slow: {"probe:lr": 0.2}, fast: {"probe:lr": 0.4}}
"""
NOTE = """
import json, os, sys
found = dict(word[2:].split("=", 1) for word in sys.argv[1:])
values = {"loss": float(found.get("lr", 0)), "words": sys.argv[1:], "cwd": os.getcwd(), "env": dict(os.environ)}
with open(os.path.join(found["out"], "note.json"), "w") as file:
    json.dump(values, file)
"""


def test_stages_are_shared_where_their_configurations_are(tmp_path: Path) -> None:
    plan = planned(folder_with(tmp_path / "user", study=STAGES, note=NOTE))
    assert {stage: len(set(ids(plan, stage))) for stage in ("data", "train", "probe.digits", "probe.svhn")} == {
        "data": 1,
        "train": 4,  # the rate is the probe's alone
        "probe.digits": 4,
        "probe.svhn": 4,
    }
    for stage in ("data", "train", "probe.svhn"):
        attempt(plan, tasks_of(plan, stage)[-1])
    data, train, probe = (tasks_of(plan, stage)[-1] for stage in ("data", "train", "probe.svhn"))
    words = json.loads((paths_of(plan, probe).output / "note.json").read_text())["words"]
    assert words == [
        "--lr=0.4",
        "--set=svhn",
        f"--out={paths_of(plan, probe).output}",
        f"--train={paths_of(plan, train).output}",
    ]
    words = json.loads((paths_of(plan, train).output / "note.json").read_text())["words"]
    assert words[:3] == ["--width=8", "--lr=0.1", "--seed=1"] and words[-1] == f"--data={paths_of(plan, data).output}"
    assert series(plan, probe, "probe/svhn/loss") == [(0, 0.4)]


@pytest.mark.parametrize("launch", ["none", "srun"])
def test_only_a_step_of_slurm_has_the_variables_of_one(
    launch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "srun").write_text('#!/bin/sh\nwhile [ "${1#-}" != "$1" ] || [ "$1" = 1 ]; do shift; done\nexec "$@"\n')
    (tmp_path / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    ours, step, options = (
        {"SLURM_JOB_ID": "7", "SLURM_JOB_PARTITION": "p"},
        {"SLURM_STEPID": "0", "PMI_RANK": "0"},
        {"SLURM_NTASKS": "1", "SLURM_STEP_ID": "0"},
    )
    for name, value in {**ours, **step, **options}.items():
        monkeypatch.setenv(name, value)
    study = FILES.replace(", data: [sets]", f", launch: {launch}").replace("'loss (.*)'", "'(.)'")
    program = "import os; open(os.environ['ABLATE_OUT'] + '/names', 'w').write(' '.join(os.environ)); print(0)"
    plan = planned(folder_with(tmp_path / "user", study=study, note=program))
    attempt(plan, plan.tasks[0])
    shown = set((paths_of(plan, plan.tasks[0]).output / "names").read_text().split())
    assert ours.keys() <= shown and (step.keys() & shown) == (step.keys() if launch == "srun" else set())
    assert not options.keys() & shown, "srun would take them for options of the next step, which has its own"


def test_a_schedulers_warning_does_not_end_a_program(tmp_path: Path) -> None:
    """SLURM sends it to each process of a step before the time limit; it is the task that stops its program."""
    program = "import os, signal; os.kill(os.getpid(), signal.SIGUSR2); print(7)"
    study = FILES.replace(", data: [sets]", "").replace("'loss (.*)'", "'(.)'")
    plan = planned(folder_with(tmp_path / "user", study=study, note=program))
    attempt(plan, plan.tasks[0])
    assert paths_of(plan, plan.tasks[0]).record.exists()


def test_a_word_may_be_for_one_stage(tmp_path: Path) -> None:
    """It goes before one for all stages, wherever it stands, and has no say in what a factor sets."""
    user = folder_with(
        tmp_path / "user", study=STAGES.split("factors:")[0].replace("when: {size: [big]}", ""), note=NOTE
    )

    def rates(*words: str) -> dict[str, float]:
        return {task.stage: task.config.config["lr"] for task in planned(user, *words).tasks if task.stage != "data"}

    usual = dict.fromkeys(("train", "probe.digits", "probe.svhn"), 0.1)
    assert rates() == usual and rates("train:lr=3.0") == {**usual, "train": 3.0}
    mixed = rates("probe.svhn:lr=4.0", "probe:lr=3.0", "lr=2.0")
    assert mixed == {"train": 2.0, "probe.digits": 3.0, "probe.svhn": 4.0}
    assert ids(planned(user, "probe:lr=3.0"), "train") == ids(planned(user), "train")
    for word, message in (
        ("trian:lr=1", "override: trian:lr: unknown stage 'trian'; did you mean 'train'"),
        ("train:lrr=1", "override: train:lrr: unknown key 'lrr'; did you mean 'lr'"),
        ("probe:width=1", "override: probe:width: 'reads' of stage 'probe' does not name this key"),
        ("train:=1", "override 'train:=1': expected key=value"),
    ):
        with pytest.raises(AblateError, match=message):
            planned(user, word)
    write(user / "study.yaml", STAGES.replace('"probe:lr"', "lr"))
    with pytest.raises(AblateError, match="'probe:lr': a factor of the study sets this key, 'rate'"):
        planned(user, "probe:lr=3.0")


NUMBERED = """
import json, os, sys
found = dict(word[2:].split("=") for word in sys.argv[1:])
step = json.load(open(found["from"] + "/state.json"))["step"] if "from" in found else 0
for step in range(step + 1, step + 9):
    folder = f"{found['out']}/step-{step}"
    os.makedirs(folder, exist_ok=True)
    json.dump({"step": step}, open(folder + "/state.json", "w"))
    os.utime(folder + "/state.json", (1, 1))
os.makedirs(f"{found['out']}/step-{step + 1}", exist_ok=True)
print("loss", found.get("file"), 1 / step)
sys.exit(step < 12)
"""


def test_a_resumed_program_is_given_the_newest_of_several_checkpoints(tmp_path: Path) -> None:
    stage = {
        "command": "python train.py --out={out}",
        "resume": {"file": "step-*/state.json", "args": ["--from={resume.folder}", "--file={resume.file}"]},
        "metrics": {"loss": {"stdout": r"loss \S+ (\S+)"}},
    }
    study = {"name": "numbered", "code": ".", "partial": True, "stages": {"train": stage}}
    plan = planned(folder_with(tmp_path / "user", study=json.dumps(study), train=NUMBERED))
    with pytest.raises(AblateError, match=r"last line: loss None 0\.125"):
        attempt(plan, plan.tasks[0])
    attempt(plan, plan.tasks[0])
    entries = read(paths_of(plan, plan.tasks[0]).journal)[0]
    assert [entry["file"] for entry in entries if entry.get("name") == "resumed from file"] == ["step-8/state.json"]
    assert series(plan, plan.tasks[0], "train/loss")[-1][1] == 1 / 16


STYLES = """
name: styles
code: .
partial: true
prefix: env PREFIXED=1
env: {EVERYWHERE: '{seed}'}
config: {lr: 0.1, fast: true, slow: false, text: 'a b', sizes: [1, 2]}
stages:
  equals: {command: "python ../note.py {args} --out={out}"}
  space: {command: "python ../note.py --out={out} {args:space}"}
  hydra: {command: "python ../note.py --out={out} {args:hydra}"}
  flags: {command: "python ../note.py {args:flags} --out={out}"}
  keys: {command: "python ../note.py --lr={lr} --x={slow}:{text} --out={out} --config={config_file} -n{processes}"}
"""


def test_words_reach_the_program_in_every_style(tmp_path: Path) -> None:
    study = STYLES.replace("--out={out}", "{out}").replace(
        '"}', '", cwd: sub, env: {OWN: "{lr}"}, progress: {steps: "{lr}"}}'
    )
    program = """
import json, os, sys
where = next(word for word in sys.argv if word.endswith("output") or "/output" in word)
names = ("PREFIXED", "EVERYWHERE", "OWN", "ABLATE_OUT", "ABLATE_SEED")
with open(os.path.join(os.environ["ABLATE_OUT"], "note.json"), "w") as file:
    words = [word for word in sys.argv[1:] if word != where]
    json.dump([words, os.path.basename(os.getcwd()), *map(os.environ.get, names)], file)
"""
    user = folder_with(tmp_path / "user", study=study, note=program)
    (user / "sub").mkdir()
    plan = planned(user)
    found = {}
    for task in plan.tasks:
        attempt(plan, task)
        out = paths_of(plan, task).output
        words, cwd, *variables = json.loads((out / "note.json").read_text())
        assert (cwd, variables) == ("sub", ["1", "0", "0.1", str(out), "0"])
        found[task.stage] = words
    config_file = paths_of(plan, tasks_of(plan, "keys")[0]).config_file
    assert found == {
        "equals": ["--lr=0.1", "--fast=True", "--slow=False", "--text=a b", "--sizes=1,2"],
        "space": ["--lr", "0.1", "--fast", "True", "--slow", "False", "--text", "a b", "--sizes", "1", "2"],
        "hydra": ["lr=0.1", "fast=true", "slow=false", "text='a b'", "sizes=[1,2]"],
        "flags": ["--lr=0.1", "--fast", "--text=a b", "--sizes", "1", "2"],
        "keys": ["--lr=0.1", "--x=False:a b", f"--config={config_file}", "-n1"],
    }
    assert "text: a b" in config_file.read_text()


ENDS = """
name: ends
code: .
config: {kind: fine, batch: 8}
stages:
  train:
    command: python end.py {kind} {batch} {out}
    metrics: {loss: {better: lower, stdout: 'step (?P<step>\\d+) loss (?P<value>\\S+)'}}
    outputs: [model.pt]
    on_oom: {batch: 0.5}
factors:
  kind: {fine: {kind: fine}, nan: {kind: nan}, silent: {kind: silent}, empty: {kind: empty}, large: {kind: large}}
"""
END = """
import os, sys
kind, batch, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
if kind == "large" and batch > 2:
    raise MemoryError(f"no room for {batch}")
if kind != "silent":
    print("step 1 loss", "nan" if kind == "nan" else 0.5)
if kind != "empty":
    open(os.path.join(out, "model.pt"), "w").close()
"""


def test_a_program_is_done_when_it_has_left_all_that_its_stage_declares(tmp_path: Path) -> None:
    plan = planned(folder_with(tmp_path / "user", study=ENDS, end=END))
    by_kind = {task.cells[0]["kind"]: task for task in plan.tasks}
    assert attempt(plan, by_kind["fine"])["state"] == "completed"
    record = attempt(plan, by_kind["nan"])
    assert record["state"] == "diverged" and record["diverged"]["culprit"] == "train/loss"
    for kind, said in {"silent": "no metric train/loss", "empty": "no output model.pt"}.items():
        with pytest.raises(AblateError, match=said):
            attempt(plan, by_kind[kind])
    for times, batch in enumerate((8, 4)):
        with pytest.raises(AblateError, match=f"no room for {batch}") as caught:
            attempt(plan, by_kind["large"])
        assert is_out_of_memory(caught.value)
        write_json(paths_of(plan, by_kind["large"]).past_failure(times + 1), {"cause": "out of memory"})
    assert attempt(plan, by_kind["large"])["state"] == "completed"


def test_a_killed_and_a_stopped_script_end_as_one_that_was_left_alone(tmp_path: Path) -> None:
    folder = example("command", tmp_path / "user")
    # Slow enough to be met midway: the worker looks four times a second whether it is to stop.
    script = folder / "train.py"
    script.write_text(
        script.read_text()
        .replace("import sys\n", "import sys\nimport time\n", 1)
        .replace("    # Seeded by the step", "    time.sleep(0.002)\n    # Seeded by the step", 1)
    )
    plan = planned(folder, "max_iters=1500", "seeds=[0]")
    whole = tasks_of(plan, "train")[0]
    killed, stopped = _of_other_homes(folder, tmp_path, "max_iters=1500", "seeds=[0]")
    attempt(plan, whole)
    result = series(plan, whole, "train/val/loss")
    assert [step for step, _ in result] == list(range(20, 1501, 20))

    (plan_killed, task), (plan_stopped, other) = killed, stopped
    killed_attempt(plan_killed, task, lambda: _iteration(paths_of(plan_killed, task).output) >= 100)
    reached = _iteration(paths_of(plan_killed, task).output)
    assert reached < 1500
    attempt(plan_killed, task)
    _check_resumed(series(plan_killed, task, "train/val/loss"), [pair for pair in result if pair[0] > reached])
    # What was done after the step from which it went on counts as lost.
    entries = read(paths_of(plan_killed, task).journal)[0]
    (restored,) = [entry["step"] for entry in entries if entry.get("name") == "checkpoint restored"]
    assert reached <= restored < reached + 20

    with pytest.raises(Interrupted, match="stopped by SIGTERM"):
        attempt(plan_stopped, other, lambda: _iteration(paths_of(plan_stopped, other).output) >= 100)
    assert not paths_of(plan_stopped, other).record.exists()
    attempt(plan_stopped, other)
    _check_resumed(series(plan_stopped, other, "train/val/loss"), result)


def _of_other_homes(folder: Path, place: Path, *words: str) -> list[tuple[Plan, Task]]:
    """The first task that trains, in two other homes."""
    plans = [make_plan(str(folder / "study.yaml"), words, home=Home(place / name)) for name in ("killed", "stopped")]
    return [(plan, tasks_of(plan, "train")[0]) for plan in plans]


def _iteration(out: Path) -> int:
    """The last step that the script has saved."""
    file = out / "ckpt.json"
    return int(json.loads(file.read_text())["iter"]) if file.exists() else 0


def _check_resumed(found: list[tuple[int, float]], whole: list[tuple[int, float]]) -> None:
    """Each step has the value of the run that nothing interrupted, and at most one was computed twice: the script saves
    its state right after it has printed. What it printed to a worker that was killed may be lost."""
    assert not set(whole) - set(found)
    assert len(found) - len(dict(found)) <= 1 and len(set(found)) == len(dict(found))


def test_a_function_that_was_killed_and_stopped_ends_bit_by_bit_as_one_that_was_left_alone(tmp_path: Path) -> None:
    # So many that a fast machine, too, is stopped midway.
    folder, words = example("function", tmp_path / "user"), ("epochs=160", "seeds=[0]")
    plan = planned(folder, *words)
    whole = tasks_of(plan, "train")[0]
    expected = attempt(plan, whole)["metrics"]["train/accuracy"]
    other, _ = _of_other_homes(folder, tmp_path, *words)
    killed_attempt(*other, lambda: len(series(*other, "train/accuracy")) >= 2)
    before = len(series(*other, "train/accuracy"))
    with pytest.raises(Interrupted):
        attempt(*other, lambda: len(series(*other, "train/accuracy")) >= before + 2)
    assert before + 2 <= len(series(*other, "train/accuracy")) < 160
    assert attempt(*other)["metrics"]["train/accuracy"] == expected
    after = series(*other, "train/accuracy")
    assert sorted(set(after)) == series(plan, whole, "train/accuracy")
    assert len(after) - len(set(after)) <= 1
    # The library is imported here at last: its threads would not survive the fork of the attempt that is killed.
    assert _weights(paths_of(*other).output) == _weights(paths_of(plan, whole).output)
    test = attempt(plan, tasks_of(plan, "test")[0])["metrics"]["test/top1"]
    assert 80 < test < 100


def _weights(out: Path) -> bytes:
    model, _ = pickle.loads((out / "model.pkl").read_bytes())
    return bytes(model.coef_.tobytes() + model.intercept_.tobytes())


GROUP = """
name: group
code: .
config: {lr: 0.1}
stages:
  train: {command: "python rank.py {out} {lr}", launch: %s, metrics: {ranks: {json: 0.json, key: ranks}}}
"""
RANK = """
import json, os, sys, time
rank, out = os.environ["RANK"], sys.argv[1]
time.sleep(0.2 * (1 - int(rank)))
found = {name: os.environ[name] for name in ("WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")}
with open(f"{out}/{rank}.json", "w") as file:
    json.dump({"ranks": len(os.listdir(out)), **found}, file)
"""


def test_processes_share_the_work_of_one_task(tmp_path: Path) -> None:
    own = {}
    for launch in ("{with: env, processes: 2}", "{with: env, processes: 3}", "none"):
        for text in (launch, launch.replace("}", ", same_result: true}")):
            plan = planned(folder_with(tmp_path / "user", study=GROUP % text, rank=RANK))
            own[text] = plan.tasks[0].task_id
    # Their number is part of the id, but where the study says that it changes no result.
    assert len(set(own.values())) == 3 and own["none"] == own["{with: env, processes: 2, same_result: true}"]
    plan = planned(folder_with(tmp_path / "user", study=GROUP % "{with: env, processes: 2}", rank=RANK))
    assert attempt(plan, plan.tasks[0])["metrics"]["train/ranks"] == 2
    out = paths_of(plan, plan.tasks[0]).output
    first, second = (json.loads((out / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first["WORLD_SIZE"] == second["WORLD_SIZE"] == "2" and first["MASTER_PORT"] == second["MASTER_PORT"]


def test_versions_of_the_interpreter_are_recorded_and_compared(tmp_path: Path, call_ablate: Callable[..., str]) -> None:
    """Between two seeds, another version is installed for the study's interpreter, which is not this one."""
    study = STAGES.split("  train:")[0].replace("code: .", "code: .\npython: ../lab").replace("seeded: false, ", "")
    study = study.replace("{args} ", "{args} --seed={seed} ") + "seeds: [0, 1]\nfactors: {rows: {few: {rows: 2}}}\n"
    user = folder_with(tmp_path / "user", study=study, note=NOTE)
    venv.create(tmp_path / "lab", symlinks=True)
    site = next((tmp_path / "lab" / "lib").glob("python3*/site-packages"))
    for name in ("some_package-1.0.dist-info", *(f"other{i}-3.{i}-py3.9.egg-info" for i in range(20))):
        (site / name).mkdir()
    plan = planned(user)
    first, second = plan.tasks
    attempt(plan, first)
    (site / "some_package-1.0.dist-info").rename(site / "some_package-2.0.dist-info")
    attempt(plan, second)
    found = [environment_of(read_record(paths_of(plan, task)) or {}, plan.home) for task in plan.tasks]
    assert found[0]["interpreter"] == f"{user}/../lab/bin/python" and "ablate" in found[0]["packages"]
    assert found[0]["packages"]["other7"] == "3.7" and found[1]["packages"]["some-package"] == "2.0"
    shown = call_ablate(plan.home.root, "diff", str(user / "study.yaml"), first.task_id, second.task_id)
    assert shown.splitlines()[-1] == "ran with some-package 1.0 → 2.0"
    lines = list(environments(found))
    assert lines[0].endswith("22 packages") and lines[1].endswith("22 packages, some-package 2.0 (not 1.0)")
    counts = brief({name: Counter({version: 2}) for name, version in found[0]["packages"].items()})
    assert list(counts) == ["ablate", "further packages"]
    # A folder that a `.pth` file adds is looked into without a change of the interpreter.
    (tmp_path / "more" / "later-4.0.dist-info").mkdir(parents=True)
    (site / "more.pth").write_text(f"{tmp_path / 'more'}\n")
    key = keep_installed(found[0]["interpreter"], {}, plan.home)["installed"]
    assert json.loads(plan.home.environment(key).read_text())["packages"]["later"] == "4.0"
