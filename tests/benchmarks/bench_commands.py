"""CPU seconds of commands as typed, from the start of Python to its end: the demo, with made-up numbers in its store.

    python tests/benchmarks/bench_commands.py

Medians of three after one that is not counted. 'no home' is a command in a new folder by a user who has planned the
study before; 'first' is that of a new user, for whom Hydra composes every choice of its levels.
"""

from __future__ import annotations

import itertools
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bench_report import fill

from ablative.study.home.paths import Home
from ablative.study.plan.plan import make_plan

COMMANDS = {
    "--help": ("--help",),
    "plan": ("plan", "demo"),
    "status": ("status", "demo"),
    "sql": ("sql", "demo", "select count(*) from results"),
    "why": ("why", "demo", "table4", "1", "1"),
    "report --format md": ("report", "demo", "--format", "md"),
    "report": ("report", "demo"),
}
WITHOUT_HOME = ("plan", "status")
GONE = {"no home": ["other"], "first": ["other", "cache"]}


def seconds(words: tuple[str, ...], home: Path) -> float:
    """CPU seconds of one command and what it starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    program = [sys.executable, "-c", "from ablative.study.cli import main; main()", *words]
    subprocess.run(program, check=True, env={**os.environ, "ABLATE_HOME": str(home)}, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        fill(make_plan("demo", home=Home(folder / "home")))
        for shown, words in COMMANDS.items():
            _, *found = (seconds(words, folder / "home") for _ in range(4))
            print(f"ablate {shown}: {statistics.median(found):.2f} s CPU")
        for shown, (case, gone) in itertools.product(WITHOUT_HOME, GONE.items()):
            found = []
            for _ in range(3):
                for each in gone:
                    shutil.rmtree(folder / each, ignore_errors=True)
                found.append(seconds(COMMANDS[shown], folder / "other"))
            print(f"ablate {shown}, {case}: {statistics.median(found):.2f} s CPU")


if __name__ == "__main__":
    main()
