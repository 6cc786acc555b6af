"""A short run of a program in a folder that is removed: what it prints and writes."""

from __future__ import annotations

import json
import os
import shlex
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from ablative.study.core.typed import Settings
from ablative.study.home.paths import Home, TaskPaths
from ablative.study.spec.runtime import RuntimeConfig
from ablative.trainer.program.config import nested
from ablative.trainer.program.interpreter import client_folder, with_interpreter
from ablative.trainer.program.job.process import Child, follow
from ablative.trainer.program.job.run import REPORTED_FILE
from ablative.trainer.program.job.start import CALL
from ablative.trainer.program.proposal.found_program import Found
from ablative.trainer.program.words import Filling
from ablative.trainer.runner import frozen_code

MOST_LINES = 20_000
GRACE_SECONDS = 3.0


@dataclass(frozen=True)
class Ran:
    """What a short run has left."""

    lines: tuple[str, ...]
    """What it has printed."""
    out: Path
    reported: Path
    """File with what it has handed to `ablative.log`."""
    status: int
    cut: bool
    """It was stopped when the time was over."""
    seconds: float


def short_run(found: Found, command: str, given: Settings, python: str, seconds: float, folder: Path) -> Ran:
    """Run the program as the study would, with seed 0 and its defaults; raises OSError where it cannot be started.

    Args:
        found: the program.
        command: as the study has it; empty for a function.
        given: key → value, of what the study's configuration has `{args}` hand over.
        python: interpreter.
        seconds: until it is stopped.
        folder: empty; for all that it writes.
    """
    paths = TaskPaths(folder)
    for own in (paths.output, paths.exchange):
        own.mkdir(parents=True)
    values = {key: value for key, value in found.values.items() if value is not None}
    facts = {"config": nested(values), "seed": 0, "out": str(paths.output), "stages": {}, "resumed": False}
    (paths.exchange / "task.json").write_text(json.dumps({**facts, "stage": "train"}))
    client = client_folder(Home(folder / "home"))
    env = frozen_code.variables(os.environ) | {
        "ABLATE_TASK": str(paths.exchange),
        "ABLATE_OUT": str(paths.output),
        "ABLATE_SEED": "0",
        "PYTHONUNBUFFERED": "1",
        "OUT": str(paths.output),
    }
    env.setdefault("OMP_NUM_THREADS", str(RuntimeConfig().threads))
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [env.get("PYTHONPATH"), str(client)]))
    filling = Filling(given, given, {"seed": "0", "out": str(paths.output)}, {}, {})
    words = filling.words(shlex.split(command)) if command else [python, "-m", CALL, found.target]
    lines: list[str] = []
    begin = time.monotonic()
    log = os.open(os.devnull, os.O_WRONLY)
    child = Child(with_interpreter(words, python), found.folder.resolve(), env, log)
    try:
        cut = follow(
            child,
            lambda line: lines.append(line) if len(lines) < MOST_LINES else None,
            lambda: None,
            lambda: time.monotonic() - begin > seconds,
            signal.SIGTERM,
            lambda: GRACE_SECONDS,
        )
        status = child.status
    finally:
        child.close()
        os.close(log)
    reported = paths.exchange / REPORTED_FILE
    return Ran(tuple(lines), paths.output, reported, status, cut, time.monotonic() - begin)
