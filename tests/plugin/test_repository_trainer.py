"""A study of code in a user's repository: jobs run what was submitted, and reports speak of the user's commits."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from installed import install

from ablative.study.home import journal
from ablative.study.home.paths import Home
from ablative.study.home.records import read_record
from ablative.study.plan.plan import make_plan
from ablative.sweeps.status.task_states import survey
from ablative.sweeps.submission.submit import Code as Untracked
from ablative.sweeps.submission.submit import submit
from ablative.sweeps.upkeep.disposable import disposable

HERE = Path(__file__).parent
STUDY = """
name: own
trainer: repository
folder: {root}
settings: {{rows: 4, width: 1, rate: 0.5}}
seeds: [0, 1]
factors: {{width: {{narrow: {{width: 1}}, wide: {{width: 3}}}}}}
baseline: {{width: narrow}}
tables:
  main:
    rows: [width]
    columns: [{{label: Latency (s), metric: fit/latency, digits: 3}}]
"""
PROGRAM = """
import json, os, pathlib, sys
import lib
stage, settings = sys.argv[1], json.loads(sys.argv[2])
if stage == "prepare":
    # The user edits a module while the other tasks wait.
    live = pathlib.Path(os.environ["ABLATE_CODE_LIVE"], "lib.py")
    live.write_text(live.read_text().replace("VALUE = 1", "VALUE = 100"))
    print("{}")
elif stage == "fit":
    print(json.dumps({"fit/latency": lib.VALUE + settings["width"] + settings["seed"] / 8}))
else:
    assert open("data.bin").read() == "kept"
    print(json.dumps({"score/held out/gain": 1.0}))
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a study, and the trainer installed."""
    site = install(tmp_path / "site", "repository-trainer", {"repository": "repository_trainer:TRAINER"})
    for name in ("command_trainer.py", "repository_trainer.py"):
        shutil.copy(HERE / name, site)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", str(site))
    top = tmp_path / "user"
    top.mkdir()
    (top / "own.yaml").write_text(STUDY.format(root=top))
    (top / "main.py").write_text(PROGRAM)
    (top / "lib.py").write_text("VALUE = 1\n")
    (top / "README.md").write_text("First.\n")
    (top / "data.bin").write_text("kept")
    (top / ".gitignore").write_text("*.bin\n")
    git(top, "init", "-q")
    commit(top)
    return top


def git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), "-c", "user.name=t", "-c", "user.email=t@t", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit(root: Path) -> str:
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "all")
    return git(root, "rev-parse", "HEAD")


def finish(root: Path, *words: str) -> dict[int, tuple[float, dict[str, str]]]:
    """Run what is missing; seed → value and tags of the narrow cell's fit."""
    home = Home(root / "ablate_home")
    plan = make_plan(str(root / "own.yaml"), words, home=home)
    made = submit(plan, 1, Untracked(shipper=""))
    assert made.notes[1] == "Not frozen, since git ignores it or it lies elsewhere: data.bin."
    end = time.monotonic() + 120
    while not (now := survey(plan)).finished:
        assert time.monotonic() < end and not now.having("failed"), now.counts
        time.sleep(0.2)
    found = {}
    for task in plan.tasks:
        if task.stage == "fit" and task.cells[0]["width"] == "narrow":
            entries, _ = journal.read(task.paths(home).journal)
            tags = {key: text for entry in entries if entry["kind"] == "tags" for key, text in entry["values"].items()}
            record = read_record(task.paths(home))
            assert record is not None
            found[task.seed] = record["metrics"]["fit/latency"], tags
    return found


def test_jobs_run_what_was_submitted_and_name_its_commit(root: Path, call_ablate: Callable[..., str]) -> None:
    home, study = root / "ablate_home", str(root / "own.yaml")
    first = git(root, "rev-parse", "HEAD")
    planned = json.loads(call_ablate(home, "plan", study, "--json"))["code"]
    assert (planned["commit"], planned["dirty"], planned["not_frozen"]) == (first, False, ["data.bin"])
    before = finish(root, "seeds=[0]")[0]
    assert (root / "lib.py").read_text() == "VALUE = 100\n", "edited while the task waited"
    assert before[0] == 2.0
    (root / "lib.py").write_text("VALUE = 1\n")
    (root / "README.md").write_text("Second.\n")
    second = commit(root)
    (root / "notes.md").write_text("Not in git, and no code.\n")
    after = finish(root)[1]
    assert [tags["ablate.commit"] for _, tags in (before, after)] == [first, second]
    assert [tags["ablate.dirty"] for _, tags in (before, after)] == ["0", "0"]
    assert before[1]["ablate.sources"] == after[1]["ablate.sources"] and before[1]["ablate.version"]
    copies = sorted(Home(home).repositories.iterdir())
    assert len(copies) == 2
    found = disposable(Home(home), "snapshots")
    assert set(copies) & set(found.paths) and found.bytes > 0
