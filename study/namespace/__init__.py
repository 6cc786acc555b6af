"""ablative: an ablation-study manager; this module is what programs that are trained may import of it.

A function that a study names is called as `function(config, context)`; a script asks for `ablative.context()`. Both may
report values (`log`, `progress`) and ask whether to stop (`should_stop`). Outside of a study the same calls print what
they are given and do nothing else.

This file is `ablative/__init__.py`. It uses the standard library alone and the syntax of Python 3.8, since it is
imported in environments of the programs' own.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Mapping

_signalled: list[int] = []
_current: list[Context] = []


class Stage:
    """A finished stage that this one comes after."""

    def __init__(self, name: str, out: str) -> None:
        self.name = name
        self.out = out
        """Folder with what it has written."""


class Context:
    """The task that this process runs; of a program that runs by itself, the current folder and seed 0."""

    def __init__(
        self,
        folder: str = "",
        out: str = "",
        seed: int = 0,
        stages: Mapping[str, str] | None = None,
        resumed: bool = False,
        stage: str = "",
    ) -> None:
        self._folder = folder
        self.name = stage
        """Name of the stage; empty outside of a study."""
        self.out = out or os.getcwd()
        """Folder for what the program writes; an attempt after an interruption finds it as it was left."""
        self.seed = seed
        self.resumed = resumed
        """A file that says how far an earlier attempt was (`resume.file` of the stage) is there."""
        self.deadline = float(os.environ["ABLATE_DEADLINE"]) if os.environ.get("ABLATE_DEADLINE") else None
        """When the job ends, in seconds since 1970; None: that is not known."""
        self._stages = dict(stages or {})
        self._step = 0
        self._listening = False

    def stage(self, name: str) -> Stage:
        """The stage of this name, which this one comes after (`Stage`); raises KeyError where it does not."""
        if name not in self._stages:
            known = ", ".join(sorted(self._stages)) or "none"
            raise KeyError(f"no stage '{name}' before this one (there are: {known}); name it in `after`")
        return Stage(name, self._stages[name])

    def log(self, step: int | Mapping[str, object], values: Mapping[str, object] | None = None, **more: object) -> None:
        """Report values by name, `log(10, {"accuracy": 0.5})`; `log({"accuracy": 0.5})` counts the steps itself.

        Of several processes the first one reports.
        """
        if isinstance(step, int):
            found = dict(values or {}, **more)
        else:
            found, step = dict(step, **more), self._step + 1
        self._step = step
        numbers = {}
        for name, value in found.items():
            try:
                numbers[str(name)] = float(value)  # type: ignore[arg-type]
            except (TypeError, ValueError):
                raise TypeError(f"log: {name} is {value!r}; expected a number") from None
        if not self._folder:
            print(f"step {step}:", "  ".join(f"{name} {value:.6g}" for name, value in numbers.items()), flush=True)
        elif os.environ.get("RANK", "0") == "0":
            self._append("reported.jsonl", dict(numbers, step=step))

    def progress(self, step: float, steps: float) -> None:
        """Say how far the work is, in any unit."""
        if self._folder and os.environ.get("RANK", "0") == "0":
            self._append("progress.jsonl", {"step": step, "steps": steps})

    def should_stop(self) -> bool:
        """Whether the program is to save its state and return; from the first call on, a signal no longer kills it."""
        if not self._listening:
            self._listening = True
            _listen()
        asked = bool(_signalled) or (bool(self._folder) and os.path.exists(os.path.join(self._folder, "stop")))
        if asked and self._folder:
            self._append("stopping.jsonl", {"time": time.time()})
        return asked

    def artifact(self, path: str) -> str:
        """Have a file of the output folder kept with the run's results; returns its path there."""
        place = os.path.relpath(os.path.abspath(os.path.join(self.out, path)), self.out)
        if place.startswith(os.pardir):
            raise ValueError(f"artifact: {path} is not in the output folder {self.out}")
        if self._folder:
            self._append("artifacts.jsonl", {"path": place})
        return os.path.join(self.out, place)

    def _append(self, name: str, record: Mapping[str, object]) -> None:
        line = (json.dumps(record) + "\n").encode()
        file = os.open(os.path.join(self._folder, name), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(file, line)
        finally:
            os.close(file)


def context() -> Context:
    """The context of this process: that of the task which started it, or one that prints."""
    if not _current:
        _current.append(_found())
    return _current[0]


def log(step: int | Mapping[str, object], values: Mapping[str, object] | None = None, **more: object) -> None:
    """`context().log`."""
    context().log(step, values, **more)


def progress(step: float, steps: float) -> None:
    """`context().progress`."""
    context().progress(step, steps)


def should_stop() -> bool:
    """`context().should_stop`."""
    return context().should_stop()


def artifact(path: str) -> str:
    """`context().artifact`."""
    return context().artifact(path)


def _found() -> Context:
    folder = os.environ.get("ABLATE_TASK", "")
    if not folder:
        return Context()
    with open(os.path.join(folder, "task.json"), encoding="utf-8") as file:
        facts = json.load(file)
    return Context(folder, facts["out"], facts["seed"], facts["stages"], facts["resumed"], facts["stage"])


def _listen() -> None:
    """Note signals that would end the process, unless the program handles them."""
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        try:
            if signal.getsignal(number) == signal.SIG_DFL:
                signal.signal(number, lambda received, frame: _signalled.append(received))
        except ValueError:
            # Only the main thread sets handlers; others see the file alone.
            print("ablative: not the main thread, so that signals are not noted", file=sys.stderr)
            return
