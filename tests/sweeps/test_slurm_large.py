"""Studies that are larger than a cluster's limits, and how often SLURM is asked about a large one."""

from __future__ import annotations

import dataclasses
import getpass
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from disturbed import OWN, SHIPPED, STUDY, UNTRACKED, Studies, folder
from fakes import FAKE, HERE, SOURCE, done, events, write_study
from missing import program
from slurm_world import begin_soon, chosen, controller, daemons, slurm, tidy

from ablative.study.core.files import read_json, write_json
from ablative.study.home.paths import Home
from ablative.study.plan.plan import Plan, make_plan
from ablative.sweeps import run
from ablative.sweeps.queue import manifest
from ablative.sweeps.slurm import cluster, limits, squeue
from ablative.sweeps.status.render import overview
from ablative.sweeps.status.task_states import survey
from ablative.sweeps.submission.submit import Code, submit

pytestmark = [pytest.mark.long, pytest.mark.timeout(3000)]
PROGRAMS = ("sbatch", "squeue", "scontrol", "sacctmgr", "scancel", "sacct", "sinfo", "sprio", "sshare")
MOST = 30
"""Jobs that the quality of service `short` lets a user have in the queue (tests/slurm_accounting.sh)."""
SHORT = ("cluster.account=lab", "cluster.qos=short", "cluster.memory_gib=0.3")
ONE_STAGE = re.sub(r"  score:.*?(?=factors)", "", STUDY, flags=re.DOTALL)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("site")
    with daemons(place, "site"), chosen(place):
        yield place


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: Path) -> Iterator[Home]:
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    forget()
    yield Home(tmp_path / "home")
    tidy()


def forget() -> None:
    """What another process would not know."""
    cluster.inspect.cache_clear()
    limits.read.cache_clear()
    squeue.invalidate_cache()


def allow(site: Path, elements: int) -> None:
    """Have arrays of so many elements, less one, allowed."""
    file = site / "slurm.conf"
    controller(site, "stop")
    file.write_text(re.sub(r"(?m)^MaxArraySize=.*$", f"MaxArraySize={elements}", file.read_text()))
    controller(site, "start")


def fake_plan(place: Path, home: Home, seeds: int, *words: str) -> Plan:
    """So many runs of the shipped trainer's and their evaluations, which `fakes.execute` does."""
    write_study(place / "config")
    write_json(home.root / "behaviour.json", {})
    numbers = f"seeds={list(range(seeds))}".replace(" ", "")
    return make_plan("tiny", (*SHIPPED, "cluster.canary=8", numbers, *words), str(place / "config"), home)


def program_plan(place: Path, home: Home, levels: int, *words: str, study: str = STUDY) -> Plan:
    rates = ", ".join(f"r{number}: {{rate: {number / 10000}}}" for number in range(1, levels + 1))
    file = folder(place / "user", study.replace("low: {rate: 0.1}, high: {rate: 0.3}", rates))
    return make_plan(str(file), (*OWN, "cluster.canary=8", "steps=2", "pause=0", *words), home=home)


def queue_length() -> int:
    return len(slurm("squeue", "--noheader", "--array").splitlines())


def watched(plan: Plan, code: Code, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The end of `ablate run`; returns how long the queue was at each look."""
    lengths = []

    def show(_found: object) -> None:
        begin_soon()
        lengths.append(queue_length())

    monkeypatch.setattr(run, "ROOM_SECONDS", 5.0)
    assert run.Watcher(plan, 0, show, print, code).run().finished
    return lengths


@pytest.mark.parametrize("elements", [1001, 20])
def test_sixty_runs_where_thirty_jobs_may_be_queued(
    elements: int, home: Home, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow(site, elements)
    home.root.mkdir()
    plans = fake_plan(tmp_path, home, 60, *SHORT), program_plan(tmp_path, home, 60, *SHORT, study=ONE_STAGE)
    for plan, code in zip(plans, (FAKE, UNTRACKED), strict=True):
        forget()
        assert max(watched(plan, code, monkeypatch)) <= MOST
        arrays = [array for _, found in manifest.submissions(home, ended=True) for array in found.arrays]
        assert arrays and all(len(array.elements) < elements for array in arrays)
    assert len(done(home)) == 120 and Counter(event for event, _ in events(home)) == {"begin": 120, "done": 120}
    assert all((task.paths(home).output / "trace").read_text().split() == ["1", "2"] for task in plans[1].tasks)


def test_a_limit_of_the_account_above_is_found_by_its_refusals(
    home: Home, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is shared with other users, and what `sacctmgr` says of one does not have it."""
    user = getpass.getuser()
    for words in (
        ("account", "department", "GrpSubmitJobs=2"),
        ("account", "team", "parent=department"),
        ("user", user, "Account=team"),
    ):
        slurm("sacctmgr", "--immediate", "--quiet", "add", *words)
    home.root.mkdir()
    plan = fake_plan(tmp_path, home, 6, "cluster.account=team")
    assert max(watched(plan, FAKE, monkeypatch)) <= 2
    assert len(done(home)) == 12 and Counter(event for event, _ in events(home)) == {"begin": 12, "done": 12}


@pytest.mark.parametrize("kind", ["shipped", "program"])
def test_calls_to_slurm_for_1200_tasks(
    kind: str, home: Home, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three of `scontrol` and one of `sbatch` for each array; with accounting two more, and a look at the queue."""
    allow(site, 1001)
    home.root.mkdir()
    words = ("cluster.account=lab", "cluster.extra.hold=true")
    make = fake_plan if kind == "shipped" else program_plan
    plan = make(tmp_path, home, 600, *words)
    assert len(plan.tasks) == 1200
    forget()
    calls = counted(tmp_path, monkeypatch)
    submit(plan, code=FAKE)
    assert calls() == {"scontrol": 3, "sacctmgr": 2, "squeue": 1, "sbatch": 3}
    forget()
    states = survey(plan)
    overview(plan, states)
    assert calls() == {"squeue": 1}
    assert states.counts == {"submitted": 1200}
    slurm("scancel", "--quiet", "--user", str(os.getuid()))


def counted(place: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Counter[str]]:
    """Put a wrapper around each of SLURM's programs; returns what counts their calls since the last time."""
    log, bin_folder = place / "calls", place / "bin"
    bin_folder.mkdir()
    for name in PROGRAMS:
        if found := shutil.which(name):
            (bin_folder / name).write_text(f'#!/bin/sh\necho {name} >> {log}\nexec {found} "$@"\n')
            (bin_folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_folder}:{os.environ['PATH']}")

    def calls() -> Counter[str]:
        found = Counter(log.read_text().split() if log.exists() else [])
        log.unlink(missing_ok=True)
        return found

    return calls


STAGED = """
name: staged
code: .
config: {add: 1}
stages:
  read:
    command: bash -c 'echo value $(($(cat "$ABLATE_DATA/number") + {add}))'
    metrics: {value: {better: higher, stdout: 'value (?P<value>.+)'}}
factors: {add: {a: {add: 1}, b: {add: 2}, c: {add: 3}, d: {add: 4}, e: {add: 5}, f: {add: 6}}}
"""


def test_data_are_copied_once_to_each_node(home: Home, site: Path, tmp_path: Path) -> None:
    """By the lines of the page on SLURM; the nodes of these tests are one machine, and have a folder each."""
    program("rsync")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "number").write_text("40")
    page = (SOURCE / "docs" / "slurm.md").read_text()
    lines = re.findall(r"(?m)^  - (.*ABLATE_DATA.*)$", page)
    changes = {
        "/local/$USER": f"{tmp_path}/$SLURMD_NODENAME",
        "/shared/data": f"{tmp_path}/data",
        "--archive": "--archive --itemize-changes",
    }
    for old, new in changes.items():
        assert old in "".join(lines)
        lines = [line.replace(old, new) for line in lines]
    file = folder(tmp_path / "user", STAGED)
    plan = make_plan(str(file), (*OWN, "cluster.account=lab"), home=home)
    plan = dataclasses.replace(plan, cluster=dataclasses.replace(plan.cluster, setup=tuple(lines)), clusters={})
    submit(plan, code=UNTRACKED)
    Studies((plan,)).finish()
    found = [read_json(task.paths(home).record) for task in plan.tasks]
    assert [record["metrics"]["read/value"] for record in found if record] == [41, 42, 43, 44, 45, 46]
    nodes = {record["environment"]["scheduler"]["node"] for record in found if record}
    printed = "".join(path.read_text() for path in home.root.rglob("*_log.out"))
    assert printed.count(">f+++++++++ number") == len(nodes) == 2
