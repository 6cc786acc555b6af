"""What is wrong with a study of programs: one line before anything is spent; at run time, what the error says."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ablative.study.cli import main
from ablative.study.core.errors import ConfigError, Interrupted
from ablative.study.core.files import read_json, write_atomic
from ablative.study.core.registry import load
from ablative.study.core.typed import dump
from ablative.study.home.journal import metric_rows, read
from ablative.study.home.paths import Home
from ablative.study.plan.plan import Plan, make_plan
from ablative.study.trainers import JobTask
from ablative.sweeps.queue.failures import fingerprint
from ablative.trainer.program.job import process
from ablative.trainer.program.job.outcome import ProgramError, Tail, failure, incomplete

STUDY = """name: bad
code: .
config: {lr: 0.1, steps: 3, name: a}
stages:
  train:
    command: python train.py {args} --seed {seed} --out {out}
    metrics: {loss: {better: lower, stdout: 'loss (\\S+)'}}
seeds: [0, 1]
factors: {rate: {low: {lr: 0.1}, high: {lr: 0.2}}}
"""
COMMAND = "python train.py {args} --seed {seed} --out {out}"
FUNCTION = ("command: " + COMMAND, "function: functions:train")


def more(text: str) -> tuple[str, str]:
    """A further key of the stage."""
    return "seeds:", f"    {text}\nseeds:"


def command(text: str) -> tuple[str, str]:
    return f"command: {COMMAND}", f"command: {text}"


REFUSED: dict[str, tuple[tuple[str, str], str]] = {
    "outputs": (
        command("python train.py {args} --seed {seed}\n    outputs: [model.pt]"),
        "6: stages.train.command: no {out}, the folder that has outputs (model.pt); hand it over (--out {out}; or",
    ),
    "resume": (command("python train.py {args} {seed}\n    resume: {file: a.pt}"), "that has resume.file (a.pt)"),
    "its folder": (
        (
            STUDY[STUDY.index("command: ") : STUDY.index("seeds:")],
            "command: python train.py {args} {seed}\n"
            "  test: {after: train, command: 'python train.py {train.out} {out}'}\n",
        ),
        "train.command: no {out}, the folder that stage 'test' names ({train.out})",
    ),
    "seed": (command("python train.py {args} --out {out}"), "6: stages.train.command: no {seed}, but seeds: [0, 1]"),
    "two values": (
        command("python train.py --steps=9 {args} --seed {seed} --out {out}"),
        "6: stages.train.command: --steps=9 sets what {args} hands over as config.steps, 3; leave one out",
    ),
    "two names": (command("python train.py {args} {seed} {out} --name {out}"), "--name sets what {args} hands over as"),
    "two of hydra": (command("python train.py {args:hydra} {seed} {out} +lr=3"), "+lr=3 sets what {args} hands over"),
    "unread": (command("python train.py {lr} {seed} {out}"), "3: config.steps: no word of a command reads it"),
    "word": (command("python train.py {args} {sed} {out}"), "6: stages.train.command: {sed}: unknown word 'sed'; did"),
    "style": (command("python train.py {args:spaces} {seed} {out}"), "did you mean 'args:space'"),
    "both": (more("function: functions:train"), "5: stages.train: a stage has a command or a function; it has both"),
    "script": (command(COMMAND.replace("train", "trian")), "unknown script 'trian.py'; did you mean 'train.py'"),
    "program": (
        command(COMMAND.replace("python", "pyhton")),
        "unknown program 'pyhton'; did you mean 'python'?: it is",
    ),
    "own program": (command("./go.sh {args} {seed} {out}"), "/go.sh is not executable; chmod +x ./go.sh"),
    "no own program": (command("./gone.sh {args} {seed} {out}"), "stages.train.command: no program "),
    "prefix": (more("prefix: cnda run -n lab"), "8: stages.train.prefix: unknown program 'cnda'; did you mean 'conda'"),
    "module": (command("python -m tools.train {args} {seed} {out}"), "tools.train: there is no module 'tools' (for "),
    "function": ((FUNCTION[0], "function: functions:trian"), "6: stages.train.function: functions:trian: "),
    "no import": ((FUNCTION[0], "function: lacking:train"), "lacking.py:2: there is no module 'nothing_of_this_name'"),
    "syntax": ((FUNCTION[0], "function: torn:train"), "torn.py:1: "),
    "pipe": (command(f'"{COMMAND} | tee log"'), "6: stages.train.command: '|': no shell runs it"),
    "append": (command(f'"{COMMAND} 2>&1"'), "'2>&1': no shell runs it"),
    "variable": (command(f'"{COMMAND} --data $HOME/data"'), "'$HOME' would not be replaced"),
    "assignment": (command(f'"LR=1 {COMMAND}"'), "variables are env: {LR: '1'}"),
    "folder": (more("cwd: nowhere"), "8: stages.train.cwd: unknown folder 'nowhere'"),
    "outside": (more("cwd: .."), "is outside of the code"),
    "resume place": (
        more("resume: {file: /tmp/last.pt}"),
        "8: stages.train.resume.file: file '/tmp/last.pt'; expected",
    ),
    "resume word": (more("resume: {file: 'last{sed}.pt'}"), "8: stages.train.resume.file: {sed}: unknown word"),
    "resume file": (
        command(f"{COMMAND} --from={{resume.file}}"),
        "6: stages.train.command: {resume.file}: unknown word",
    ),
    "output place": (more("outputs: [../model.pt]"), "8: stages.train.outputs: file '../model.pt'; expected one below"),
    "output word": (
        more("outputs: ['model{stpes}.pt']"),
        "8: stages.train.outputs: {stpes}: unknown word 'stpes'; did",
    ),
    "variable word": (more("env: {A: '{oot}'}"), "8: stages.train.env: {oot}: unknown word 'oot'; did you mean 'out'"),
    "steps word": (more("progress: {steps: '{stpes}'}"), "8: stages.train.progress.steps: {stpes}: unknown word"),
    "memory key": (more("on_oom: {stpes: 0.5}"), "8: stages.train.on_oom: unknown key 'stpes'; did you mean 'steps'"),
    "memory value": (more("on_oom: {name: 0.5}"), "8: stages.train.on_oom.name: its value is 'a', no number"),
    "key": (("high: {lr: 0.2}", "high: {lrr: 0.2}"), "unknown key 'lrr'; did you mean 'lr'"),
    "same": (("high: {lr: 0.2}", "high: {lr: 0.1}"), "factors.rate.high: changes nothing"),
    "twice": (("{loss: {better: lower, stdout: 'loss (\\S+)'}}", "[loss, loss]"), "'loss' is declared twice"),
    "expression": (("(\\S+)", "(\\S+"), "7: stages.train.metrics.loss.stdout: no regular expression"),
    "after": (more("after: trian"), "8: stages.train.after: unknown stage 'trian'; did you mean 'train'"),
    "circle": (more("after: train"), "stage 'train' needs itself"),
    "not after": (more(f"\n  b:\n    command: {COMMAND} {{train.out}}"), "{train.out}: unknown word 'train.out'"),
    "launcher": (more("launch: {processes: 2, with: torchrn}"), "8: stages.train.launch.with: unknown launcher"),
    "signal": (more("stop: {signal: SIGTERM}"), "8: stages.train.stop.signal: unknown value 'SIGTERM'; did you mean"),
    "metric": (
        ("seeds:", "tables: {main: {rows: [rate], columns: [{label: a, metric: train/los}]}}\nseeds:"),
        "'train/los'",
    ),
    "interpreter": (("seeds:", "python: /nowhere/python\nseeds:"), "8: python: no program '/nowhere/python'"),
    "options": (("{lr: 0.1, steps: 3, name: a}", "{argparse: true}"), "ended before it parsed its command line"),
}
"""Case → (text of the study and what replaces it, part of the line)."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ABLATE_HOME", str(tmp_path / "home"))
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    Path("train.py").write_text("print('loss 1')\n")
    Path("go.sh").write_text("#!/bin/sh\n")
    Path("functions.py").write_text("def train(config, context):\n    context.log(1, {'loss': 1.0})\n")
    Path("lacking.py").write_text("import os\nimport nothing_of_this_name\n\n\ndef train(config):\n    pass\n")
    Path("torn.py").write_text("def train(:\n")
    return tmp_path / "mine"


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_one_line_before_anything_is_spent(case: str, folder: Path) -> None:
    (old, new), said = REFUSED[case]
    assert old in STUDY
    (folder / "study.yaml").write_text(STUDY.replace(old, new, 1))
    with pytest.raises(ConfigError) as error:
        make_plan("study.yaml", home=Home(folder.parent / "home"))
    assert said in re.sub(r"^\S*study\.yaml:\s?(?=\d)", "", str(error.value)) and "\n" not in str(error.value)
    assert not (folder.parent / "home" / "runs").exists()


def test_it_is_exit_code_2(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "study.yaml").write_text(STUDY.replace(*command("python trian.py {args} {seed} {out}")))
    code = main(["run", "study.yaml"], standalone=False)
    errors = capsys.readouterr().err
    assert code == 2 and errors.count("\n") == 1 and "study.yaml:6: stages.train.command" in errors


@pytest.mark.parametrize(
    ("old", "new"),
    [
        command("\"bash -c 'python train.py --seed {seed} --lr {lr} {steps} {name} | tee {out}/log'\""),
        command("[python, train.py, '{args}', '{seed}', '{out}', '|', $HOME]"),
        command("python train.py {args:hydra} {seed} hydra.run.dir={out}/${now:%Y} 'a>b'"),
        command("python train.py {args} {seed}  # prints alone"),
        command("/only/on/nodes/python train.py {args} {seed} {out}"),
        command("python train.py --lr {lr} {args} lr --stepsize=3 {seed} {out}"),
        more("resume: {file: '{out}/last-{seed}.pt', args: --resume}"),
        FUNCTION,
    ],
)
def test_what_is_meant_so_is_taken(old: str, new: str, folder: Path) -> None:
    (folder / "study.yaml").write_text(STUDY.replace(old, new, 1))
    assert len(make_plan("study.yaml", home=Home(folder.parent / "home")).tasks) == 4


OPTIONS = """
import argparse
parser = argparse.ArgumentParser()
for name in ("lr", "steps", "momentum"):
    parser.add_argument(f"--{name}", type=float, default=1.0)
for name in ("seed", "out"):
    parser.add_argument(f"--{name}")
print("loss", parser.parse_args().lr)
"""


def test_a_plan_leaves_no_process_and_has_all_options_of_a_program_that_is_given_none(folder: Path) -> None:
    (folder / "train.py").write_text(OPTIONS)
    asked = STUDY.replace("{lr: 0.1, steps: 3, name: a}", "{argparse: true}").replace("{args}", "--lr {lr}")
    (folder / "study.yaml").write_text(asked)
    plan = make_plan("study.yaml", home=Home(folder.parent / "home"))
    children = {
        child: Path("/proc", child, "cmdline").read_bytes()
        for path in Path("/proc/self/task").glob("*/children")
        for child in path.read_text().split()
    }
    assert not [child for child, words in children.items() if b"entry.py" in words]
    # A default that its file has is part of a run, whether or not its command names it.
    assert plan.tasks[0].config.config["momentum"] == 1.0
    (folder / "train.py").write_text(OPTIONS.replace("default=1.0", "default=2.0"))
    assert not set(plan.by_id) & set(make_plan("study.yaml", home=plan.home).by_id)


def planned(folder: Path, program: str, *changes: tuple[str, str]) -> Plan:
    text = STUDY
    for old, new in changes:
        text = text.replace(old, new, 1)
    (folder / "study.yaml").write_text(text)
    (folder / "train.py").write_text("import sys, os, time, signal\nout = sys.argv[-1]\n" + program)
    return make_plan("study.yaml", home=Home(folder.parent / "home"))


def attempt(plan: Plan, stop: threading.Event | None = None) -> dict[str, Any]:
    """One attempt at the plan's first task, in this process; its record."""
    task = plan.tasks[0]
    paths = task.paths(plan.home)
    paths.root.mkdir(parents=True, exist_ok=True)
    write_atomic(paths.config, dump(task.config), durable=False)
    own = (task.task_id, task.stage, task.seed, paths, plan.home, task.needed(plan.home), plan.trainer.name)
    load(plan.trainer.entry)(JobTask(*own, (stop or threading.Event()).is_set, task.opens))
    record = read_json(paths.record)
    assert record is not None
    return dict(record)


ENDS: dict[str, tuple[str, tuple[tuple[str, str], ...], str]] = {
    "no metric": ("print('done')", (), "exit status 0, but no metric train/loss: 'loss (\\S+)' matches none of 1 line"),
    "silent": ("", (), "the program printed nothing, so that 'loss (\\S+)' matches nothing"),
    "no number": ("print('loss high')", (), "1 value, none a number (first: 'high')"),
    "no output": ("print('loss 1')", (more("outputs: [model.pt]"),), "but no output model.pt in "),
    "status": ("print('loss 1'); sys.exit('no data')", (), "ended with exit status 1; its last line: no data"),
    "logs at the end": (
        "import atexit\natexit.register(print, 'statistics: 3')\nraise ValueError('two\\n  lines')",
        (),
        "ended with exit status 1; its exception: ValueError: two lines",
    ),
    "of several processes": (
        "print('[rank0]: Traceback (most recent call last):\\n[rank0]: my.OwnError: no data\\nAdvice')\nsys.exit(3)",
        (),
        "ended with exit status 3; its exception: my.OwnError: no data",
    ),
    "launcher": (
        "print('Traceback (most recent call last):\\nKeyError: 3\\nTraceback (most recent call last):')\n"
        "sys.exit('torch.distributed.elastic.ChildFailedError: \\n====')",
        (),
        "its exception: KeyError: 3",
    ),
    "killed": ("os.kill(os.getpid(), signal.SIGKILL)", (), "ended with signal SIGKILL"),
    "node": (
        "",
        (command("/only/on/nodes/lab {args} {seed} {out}"),),
        "cannot be started: /only/on/nodes/lab: No such",
    ),
}
"""Case → (program, changes of the study, part of the error)."""


@pytest.mark.parametrize("case", ENDS)
def test_a_run_that_leaves_nothing_says_what_is_missing(case: str, folder: Path) -> None:
    program, changes, said = ENDS[case]
    plan = planned(folder, program, *changes)
    with pytest.raises(ProgramError) as error:
        attempt(plan)
    assert said in str(error.value) and "\n" not in str(error.value)
    assert not plan.tasks[0].paths(plan.home).record.exists()


@pytest.mark.parametrize(
    ("lines", "alike"),
    [
        (["RuntimeError: {out}/ckpt_{n}.pt is torn"], True),
        (["no data for run {id} at step {n}, lr {n}e-05"], True),
        (["unknown scheduler cosine{n}", "unknown scheduler linear"], False),
    ],
)
def test_one_fault_of_several_tasks_is_one_place(lines: list[str], alike: bool) -> None:
    """Whatever folders, ids and numbers its message names; three at one place stop the rest."""
    found = set()
    for n, task in enumerate(("1a45c9f1b86a", "c42aec15cf14")):
        tail = Tail()
        tail.add(lines[n % len(lines)].format(out=f"/home/runs/{task}/output", id=task, n=n))
        found.add(fingerprint(failure(1, tail, "stage 'train'")))
        missing = incomplete([f"no output *.pt in /h/runs/{task}/output"], tail, "stage 'train'")
        assert fingerprint(missing) == fingerprint(incomplete(["no output *.pt in /output"], tail, ""))
    assert (len(found) == 1) == alike


def test_a_program_whose_disk_is_read_only_may_be_run_again() -> None:
    tail = Tail()
    tail.add("OSError: [Errno 30] Read-only file system: '/home/runs/1a/output/last.json'")
    assert failure(1, tail, "stage 'train'").cause == "disk"


def test_output_that_is_no_text_and_steps_that_go_back(folder: Path) -> None:
    steps = ("(\\S+)", "(?P<value>\\S+) at (?P<step>\\d+)")
    program = """
sys.stdout.buffer.write(b"\\xff\\xfe\\x00 loss 3 at 1\\n\\x80loss 2 at 2\\rloss 9 at 1\\rloss 1 at 3")
"""
    plan = planned(folder, program, steps)
    assert attempt(plan)["metrics"]["train/loss"] == 1.0
    entries = read(plan.tasks[0].paths(plan.home).journal)[0]
    assert [(step, value) for name, step, value, _ in metric_rows(entries) if name == "train/loss"] == [
        (1, 3.0),
        (2, 2.0),
        (3, 1.0),
    ]
    notes = [entry["message"] for entry in entries if entry.get("name") == "metrics"]
    assert notes == ["loss: 1 value at a step that does not grow is left out (first: step 1 after 2)"]


def test_a_program_that_does_not_stop_is_killed_with_its_children(folder: Path) -> None:
    program = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork():
    print("loss 1", flush=True)
    open(os.path.join(out, "began"), "w").close()
time.sleep(60)
"""
    plan = planned(folder, program, more("stop: {grace: 0.3}\n    resume: {file: ckpt.pt, args: --resume}"))
    began, stop = plan.tasks[0].paths(plan.home).output / "began", threading.Event()

    def ask() -> None:
        while not began.exists():
            time.sleep(0.02)
        stop.set()

    threading.Thread(target=ask, daemon=True).start()
    with pytest.raises(Interrupted, match=r"killed, as it went on for 0\.3 s after it was asked to stop"):
        attempt(plan, stop)
    assert not living(str(plan.home.root))
    # The next attempt has nothing to go on from, and says so.
    with pytest.raises(Interrupted):
        attempt(plan, stop)
    (anew,) = [e for e in read(plan.tasks[0].paths(plan.home).journal)[0] if e.get("name") == "begins anew"]
    assert anew["message"].startswith("the attempt before left no ckpt.pt; what it wrote is in output.earlier")


def test_nothing_outlives_a_worker_that_is_killed(folder: Path, tmp_path: Path) -> None:
    """Not even processes that the program has started: each writes its id, and sleeps."""
    program = """
for _ in range(2):
    if os.fork() == 0:
        os.setsid()
        time.sleep(60)
print("loss 1", flush=True)
open(os.path.join(out, "began"), "w").close()
time.sleep(60)
"""
    plan = planned(folder, program)
    began = plan.tasks[0].paths(plan.home).output / "began"
    worker = os.fork()
    if worker == 0:
        try:
            attempt(plan)
        finally:
            os._exit(1)
    _until(began.exists)
    assert len(living(str(plan.home.root))) == 3
    os.kill(worker, signal.SIGKILL)
    os.waitpid(worker, 0)
    _until(lambda: not living(str(plan.home.root)))


def test_a_long_output_is_kept_in_part(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(process, "KEPT_OUTPUT", 1 << 20)
    source = """
import sys
for _ in range(80): sys.stdout.write('x' * 99999)
print()
for _ in range(80): print('y' * 99999)
print('loss 1')
"""
    lines: list[str] = []
    with (tmp_path / "log").open("wb") as log:
        child = process.Child([sys.executable, "-c", source], tmp_path, {}, log.fileno())
        process.follow(child, lines.append, lambda: None, lambda: False, signal.SIGTERM, lambda: 1.0)
        child.close()
    assert lines[-1] == "loss 1" and max(map(len, lines)) == process.LONGEST_LINE and len(lines) == 82
    kept = (tmp_path / "log").read_bytes()
    assert len(kept) < (1 << 20) + (1 << 17) and kept.endswith(b"output after 1 MiB is not kept\n")


def living(words: str) -> list[int]:
    """Processes whose command line has these words."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                text = (folder / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if words in text and "train.py" in text:
                found.append(int(folder.name))
    return found


def _until(condition: Any) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
