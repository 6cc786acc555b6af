"""A whole study of a foreign program: run, its worker killed in the middle, run to the end, reported."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from missing import program
from services import ended_without_us, wait_until

from ablative.study.core.files import read_json
from ablative.study.home.journal import read
from ablative.study.home.paths import Home
from ablative.study.plan.plan import Plan, Task, make_plan
from ablative.sweeps.queue import manifest
from ablative.sweeps.queue.executors import live_jobs

PROGRAMS = Path(__file__).parent / "programs"
ABLATE = (sys.executable, "-c", "from ablative.study.cli import main; main()")
SECONDS = 3000.0


@dataclass(frozen=True)
class Grid:
    """A study in a folder of its own."""

    folder: Path
    home: Home

    @property
    def plan(self) -> Plan:
        return make_plan(str(self.folder / "study.yaml"), home=self.home)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """An `ablate` command of the study, in its folder."""
        env = {**os.environ, "ABLATE_HOME": str(self.home.root)}
        command = [*ABLATE, words[0], "study.yaml", *words[1:]]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.folder, env=env, stdout=pipe, stderr=pipe, text=True)

    def table(self) -> list[list[str]]:
        """Cells of the main table, without its header."""
        lines = (self.home.study(self.plan.study.name).report / "tables" / "main.md").read_text().splitlines()
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
        return [row for row in rows if "±" in " ".join(row)]

    def numbers(self, metric: str) -> list[float]:
        """Values of a metric, of all finished tasks."""
        records = [read_json(task.paths(self.home).record) for task in self.plan.tasks]
        return [record["metrics"][metric] for record in records if record and metric in record["metrics"]]


def grid(name: str, folder: Path, python: Path) -> Grid:
    """The study of that name, copied, with its interpreter."""
    shutil.copytree(PROGRAMS / name, folder / name)
    with (folder / name / "study.yaml").open("a") as file:
        file.write(f"python: {python}\n")
    return Grid(folder / name, Home(folder / "home"))


@contextlib.contextmanager
def slurm(folder: Path) -> Iterator[tuple[str, ...]]:
    """Words for `ablate run` on a SLURM with virtual nodes, which ends with the block."""
    for name in ("/usr/sbin/slurmctld", "/usr/sbin/munged", "sbatch"):
        program(name)
    script = str(Path(__file__).parents[1] / "slurm.sh")
    subprocess.run(["bash", script, "start", str(folder)], check=True)
    try:
        with ended_without_us("bash", script, "stop", str(folder)), pytest.MonkeyPatch.context() as patch:
            patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
            # The task that is killed is not one that was tried for the others: that one begins anew.
            words = ("cluster=slurm", "cluster.partition=cpu", "cluster.memory_gib=2", "cluster.cpus=1")
            yield (*words, "cluster.canary=0", "--jobs", "2")
    finally:
        subprocess.run(["bash", script, "stop", str(folder)], check=True)


def kill_here(job: str) -> None:
    os.killpg(os.getpgid(int(job)), signal.SIGKILL)


def kill_on_slurm(job: str) -> None:
    # One that is no longer there is refused.
    subprocess.run(["scancel", "--quiet", "--signal=KILL", "--full", job], check=False)


def run_and_kill(
    found: Grid, python: Path, words: Sequence[str] = ("--jobs", "1"), kill: Callable[[str], None] = kill_here
) -> Task:
    """Run the study; kill its workers when a task has something to go on from; return that task, which is resumed.

    Nothing of a killed worker's program may live on, and the study has to come to its end without further help.
    """
    process = found.start("run", *words)
    try:
        halfway: list[Task] = []
        plan = found.plan

        def has_begun() -> bool:
            assert process.poll() is None, process.communicate()
            halfway[:] = [task for task in plan.tasks if _can_be_resumed(task, found.home)]
            return bool(halfway)

        wait_until(has_begun, SECONDS, "a checkpoint of a running task")
        before = set(running(python))
        assert before
        for paths, submission in list(manifest.submissions(found.home)):
            for job in live_jobs(paths, submission):
                kill(job.job_id)
        wait_until(lambda: not before & set(running(python)), 10, "the end of the killed worker's program")
        output, errors = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    assert process.returncode == 0, f"{output}\n{errors}"
    report = found.start("report", "--format", "md")
    said = report.communicate(timeout=SECONDS)
    assert report.returncode == 0 and "claims: 1 " in said[0], said
    events = [entry for entry in read(halfway[0].paths(found.home).journal)[0] if entry["kind"] == "event"]
    assert "resumed from file" in [entry["name"] for entry in events], events
    assert all(task.paths(found.home).record.exists() for task in plan.tasks)
    return halfway[0]


def running(python: Path) -> Iterator[int]:
    """Processes whose program is this interpreter."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[0] == os.fsencode(python):
                yield int(folder.name)


def _can_be_resumed(task: Task, home: Home) -> bool:
    paths, pattern = task.paths(home), task.config.job.stage.resume.file
    if not pattern or paths.record.exists() or not any(paths.output.glob(pattern)):
        return False
    return any(entry["kind"] == "metrics" for entry in read(paths.journal)[0])


def means(row: list[str]) -> list[float]:
    """Means of a table's row."""
    return [float(match[1]) for cell in row if (match := re.search(r"(-?[\d.]+)\**\s*±", cell))]
