"""Runs a function in a fresh process that has imported the trainer (or else) already and done nothing with it.

As a worker's tasks are: runs on several processes fork, which a process that has computed gradients must not do.
"""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Any

IMPORTS = ("ablative.trainer.clip.tasks", "pytest")
SECONDS = 250.0
"""Longer than anything here takes: who waits as long has been left hanging."""


class Forked:
    """A function under way; `answer` is what it returned."""

    def __init__(self, function: Callable[..., Any], *args: Any, imports: Sequence[str] = IMPORTS) -> None:
        """`imports`: what the process that all are forked from imports; it starts with the first of them."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(imports))
        self._answers, theirs = context.Pipe(duplex=False)
        self.process: ForkServerProcess = context.Process(target=_call, args=(theirs, function, args))
        self.process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def answer(self) -> Any:
        """Raises AssertionError with the traceback of what it raised, or when it left no word."""
        assert self._answers.poll(SECONDS), "still running"
        try:
            failed, value = self._answers.recv()
        except EOFError:
            raise AssertionError(f"ended without a word, exit code {self.exitcode()}") from None
        finally:
            self.exitcode()
        assert not failed, value
        return value

    def exitcode(self) -> int | None:
        self.process.join(SECONDS)
        return self.process.exitcode


def _call(answers: Connection, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    try:
        answers.send((False, function(*args)))
    except Exception:
        answers.send((True, traceback.format_exc()))
