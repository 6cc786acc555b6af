"""Training inside an evaluation goes on where a killed or stopped attempt has left it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from ablative.study.core.errors import Interrupted
from ablative.trainer.clip import checkpoint


class Stateful(Protocol):
    """A module or an optimiser."""

    def state_dict(self) -> dict[str, object]: ...

    def load_state_dict(self, state: dict[str, object], /) -> object: ...


class Resumption:
    """The state of one training in a file, which is written from time to time and when the task is to stop.

    Whatever else a step depends on has to be a function of its number: the order of samples, random numbers, rates.
    """

    def __init__(
        self,
        path: Path | None = None,
        key: str = "",
        seconds: float = 60.0,
        stop: Callable[[], bool] = lambda: False,
        saved: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Args:
            path: of the file; None: nothing is kept.
            key: of what determines the training; a file with another key is passed over.
            seconds: from one writing to the next.
            stop: asked after every step; true saves and raises Interrupted.
            saved: called whenever the file is written.
        """
        self._path, self._key, self._seconds, self._stop, self._saved = path, key, seconds, stop, saved
        self._parts: Mapping[str, Stateful] = {}
        self._next = 0.0

    def begin(self, **parts: Stateful) -> int:
        """Restore what an earlier attempt has left in these parts → number of the first step to do, 0 without any."""
        self._parts, self._next = parts, time.monotonic() + self._seconds
        try:
            state = None if self._path is None else checkpoint.load(self._path)
        except checkpoint.CorruptError:
            return 0
        if state is None or state["key"] != self._key:
            return 0
        for name, part in parts.items():
            part.load_state_dict(state[name])
        return int(state["step"])

    def after(self, done: int, steps: int) -> None:
        """Call after each step, of which `done` of `steps` are done; raises Interrupted where the task is to stop."""
        if self._path is None or done == steps:
            return
        asked = self._stop()
        if asked or time.monotonic() >= self._next:
            state = {name: part.state_dict() for name, part in self._parts.items()}
            checkpoint.save(self._path, {"key": self._key, "step": done, **state})
            self._next = time.monotonic() + self._seconds
            self._saved()
        if asked:
            raise Interrupted(f"stopped after step {done} of {steps} of the training of a data set")

    def end(self) -> None:
        """Remove the file: its data set is scored and kept."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
