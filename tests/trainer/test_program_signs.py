"""What is behind numbers of a user's program: signs of runs that existed, of partial configurations and of inexact
resumption; its interpreter."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from program_world import attempt, paths_of
from shared import with_store

from ablative.study.cli import main
from ablative.study.core.errors import AblateError
from ablative.study.home.paths import Home
from ablative.study.home.tried import Tried, keep_tried
from ablative.study.plan.plan import make_plan

PROGRAM = """
import json, os, sys
out, width, seed = sys.argv[3], int(sys.argv[1].partition("=")[2]), int(sys.argv[2])
kept = os.path.join(out, "kept.json")
for step in range(json.load(open(kept)) + 1 if "--resume" in sys.argv else 1, 5):
    print(f"step {step} loss {1 / width / step + 0.01 * seed:.5f}", flush=True)
    json.dump(step, open(kept, "w"))
    if step == 2 and (width, seed) == (4, 1) and "--resume" not in sys.argv:
        sys.exit("a fault of this machine")
"""
STUDY = r"""
name: signs
code: .
partial: true
stages:
  train:
    command: python train.py {args} {seed} {out}
    resume: {file: kept.json, args: --resume}
    metrics: {loss: {better: lower, stdout: 'step (?P<step>\d+) loss (?P<value>\S+)'}}
seeds: [0, 1]
factors: {width: {narrow: {width: 4}, wide: {width: 8}, huge: {width: 16}}}
results:
  csv: runs.csv
  factors: {width: {column: width, levels: {huge: 16, narrow: none, wide: never}}}
  seed: seed
  metrics: {train/loss: loss}
tables: {main: {rows: [width], columns: [{label: loss, metric: train/loss}]}}
"""


@pytest.fixture
def folder(tmp_path: Path, call_ablate: Callable[..., str]) -> Path:
    """A study of which one run was resumed, and one cell existed already."""
    for name, text in (("train.py", PROGRAM), ("study.yaml", STUDY), ("runs.csv", "width,seed,loss\n16,0,1\n16,1,2\n")):
        (tmp_path / name).write_text(text.lstrip())
    who = {f"GIT_{kind}_{key}": "a@b.example" for kind in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
    for words in ("init -q", "add train.py study.yaml runs.csv", "commit -qm one"):
        subprocess.run(["git", "-C", str(tmp_path), *words.split()], check=True, env={**os.environ, **who})
    home, file = with_store(tmp_path / "home"), tmp_path / "study.yaml"
    plan = make_plan(str(file), home=Home(home))
    for task in plan.tasks:
        if not plan.has(task.task_id):
            with suppress(AblateError):
                attempt(plan, task)
            if not paths_of(plan, task).record.exists():
                attempt(plan, task)
    call_ablate(home, "sync", str(file))
    call_ablate(home, "report", str(file))
    return tmp_path


def test_signs_in_every_format_and_what_makes_a_report_final(
    folder: Path, call_ablate: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    file, home = str(folder / "study.yaml"), folder / "home"
    tables = home / "studies" / "signs" / "report" / "tables"
    shown = {line.split()[1]: line for line in (tables / "main.md").read_text().splitlines() if line.startswith("| ")}
    assert [shown[level].rstrip(" |")[-2:] for level in ("narrow", "huge")] == ["∼⋆", "◇†"]
    assert shown["wide"].rstrip(" |").endswith("∼")
    assert (
        r"$\sim$$\star$" in (tables / "main.tex").read_text()
        and r"$\diamond$\dag{}" in (tables / "main.tex").read_text()
    )
    assert "<sup>∼⋆</sup>" in (tables / "main.html").read_text()
    for words in ("◇ rests on runs that existed", "∼ partial configuration", "⋆ stopped and resumed"):
        assert words in (tables / "main.md").read_text()
    why = call_ablate(home, "why", file, "main", "narrow", "loss")
    assert re.search(r"environment 0: .*; Python 3[.\d]+ \(/.*python.*\), \d+ packages\n", why)
    assert "⋆ stopped and resumed" in why and "∼ partial configuration" in why and not set("◇†") & set(why)
    numbers = json.loads((tables.parent / "numbers.json").read_text())["numbers"]
    assert numbers["signs.main.narrow.loss"]["marks"] == "∼⋆"

    final = ["report", file, "--final", "--format", "md", "--allow", "mixed-code"]
    capsys.readouterr()
    assert main(final, standalone=False) == 1
    said = capsys.readouterr().err
    assert "not final: inexact-resume" in said and "narrow seed=1 (whether 'train' ends the same then has not" in said
    study = Home(home).study("signs")
    keep_tried(
        study, {"train": Tried("narrow", "", 1.0, exact=False, resumes=True, metric="train/loss", difference=0.25)}
    )
    assert main(final, standalone=False) == 1
    assert "by up to 0.25 of train/loss as ablate try found" in capsys.readouterr().err
    assert "⋆" in call_ablate(home, *final, "--allow", "inexact-resume")
    keep_tried(study, {"train": Tried("narrow", "", 1.0, exact=True, resumes=True)})
    assert "⋆" not in call_ablate(home, *final)
