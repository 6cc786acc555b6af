"""Two users without privileges share a home on a real SLURM: each takes up what the other has left."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from disturbed import PATIENCE, STUDY, environment, folder, reported
from fakes import wait_for
from missing import missing
from slurm_world import begin_soon, slurm, tidy

from ablative.study.core.files import read_json
from ablative.study.home.paths import Home
from ablative.study.plan.plan import make_plan

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("world"), pytest.mark.timeout(3000)]
GROUP = "ablatelab"
USERS = ("ablateann", "ablatebob")
WORDS = ("cluster=slurm", "cluster.partition=cpu", "cluster.memory_gib=0.5", "cluster.canary=0")


def open_to_others(place: Path) -> None:
    """pytest's folders are for their owner alone; passing through is enough."""
    for parent in (place, *place.parents):
        if parent.stat().st_uid == os.getuid() and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)


@pytest.fixture
def people(world: Path, tmp_path: Path) -> Iterator[Path]:
    """Two users of one group; returns a folder that is theirs."""
    if os.geteuid() or not shutil.which("useradd"):
        missing("only root makes users")
    open_to_others(world)
    open_to_others(tmp_path)
    with contextlib.ExitStack() as stack:
        subprocess.run(["groupadd", "--force", GROUP], check=True)
        stack.callback(subprocess.run, ["groupdel", GROUP], check=False)
        for name in USERS:
            subprocess.run(["useradd", "--no-create-home", "--gid", GROUP, "--shell", "/bin/bash", name], check=True)
            stack.callback(subprocess.run, ["userdel", name], check=False, capture_output=True)
        place = tmp_path / "lab"
        place.mkdir()
        shutil.chown(place, USERS[0], GROUP)
        place.chmod(0o2775)
        yield place
        slurm("scancel", "--quiet", *(f"--user={name}" for name in USERS[:1]))
        slurm("scancel", "--quiet", *(f"--user={name}" for name in USERS[1:]))
        wait_for(lambda: not slurm("squeue", "--noheader"), PATIENCE)
    tidy()


def interpreter(place: Path) -> Path:
    """One that every user may run: this one may lie in a folder of its owner's."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    found = shutil.which(version, path="/usr/bin:/bin")
    if found is None:
        missing(f"no {version} in /usr/bin, which all users may run")
    return environment(place, found)


def ablate(user: str, home: Path, *words: str) -> str:
    """What a command prints that this user gives, whose files are the group's, too."""
    own = home.parent / user
    own.mkdir(exist_ok=True)
    shutil.chown(own, user, GROUP)
    given = {"HOME": str(own), "ABLATE_HOME": str(home), "PATH": os.environ["PATH"], "USER": user, "LOGNAME": user}
    given |= {"SLURM_CONF": os.environ["SLURM_CONF"], "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = ["setpriv", f"--reuid={user}", f"--regid={GROUP}", "--init-groups", "bash", "-c", 'umask 002; exec "$@"']
    python, program = home.parent / "env" / "bin" / "python", Path(sys.executable).with_name("ablate")
    done = subprocess.run(
        [*command, "-", str(python), str(program), *words],
        capture_output=True,
        text=True,
        check=False,
        env=given,
        cwd=own,
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_two_users_share_a_home(people: Path) -> None:
    ann, bob = USERS
    home = people / "home"
    interpreter(people / "env")
    study = str(folder(people / "user", STUDY))
    subprocess.run(["chown", "-R", f"{ann}:{GROUP}", str(people / "user")], check=True)
    subprocess.run(["chmod", "-R", "g+w", str(people / "user")], check=True)
    ablate(ann, home, "submit", study, *WORDS)
    plan = make_plan(study, WORDS, home=Home(home))
    wait_for(lambda: all(reported(plan, index) > 2 for index in range(2)), PATIENCE)
    counts = [json.loads(ablate(user, home, "status", study, *WORDS, "--json"))["counts"] for user in USERS]
    assert all(set(found) <= {"running", "submitted", "completed"} for found in counts)
    assert "nothing" in ablate(bob, home, "submit", study, *WORDS)
    # Ann's jobs end in the middle, and Bob goes on with what they leave.
    slurm("scancel", "--quiet", f"--user={ann}")
    wait_for(lambda: not slurm("squeue", "--noheader", f"--user={ann}"), PATIENCE)
    told = json.loads(ablate(bob, home, "status", study, *WORDS, "--json"))["counts"]
    assert not told.get("submitted") and not told.get("running")
    ablate(bob, home, "submit", study, *WORDS)
    assert set(slurm("squeue", "--noheader", "--format=%u").split()) == {bob}

    def finished() -> bool:
        begin_soon()
        return len(list(home.rglob("record.json"))) == 4

    wait_for(finished, PATIENCE)
    for user in USERS:
        assert json.loads(ablate(user, home, "status", study, *WORDS, "--json"))["counts"] == {"completed": 4}
        ablate(user, home, "sync", study, *WORDS)
    for task in plan.runs:
        steps = (task.paths(Home(home)).output / "trace").read_text().split()
        assert steps == [str(number) for number in range(1, 41)]
        record = read_json(task.paths(Home(home)).record)
        assert record is not None and record["attempts"] == 2
