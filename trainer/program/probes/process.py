"""A process of the user's interpreter that answers requests from inside the program (`inside`)."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import tempfile
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ablative.study.core.errors import ConfigError
from ablative.study.core.typed import Settings
from ablative.trainer.program.probes.program import Invocation, Program

ENTRY = Path(__file__).parent / "inside" / "entry.py"
_GRACE = 5
"""Seconds that a process has longer than the one that waits for it, before it ends by itself."""


@dataclass(frozen=True)
class Place:
    """Where a process runs, and with which environment."""

    folder: Path
    environment: Mapping[str, str]
    elsewhere: bool = False
    """The process sees another number of processor cores than the machine has."""


class NoAnswerError(Exception):
    """The process ended without an answer; the text says how."""


class LateError(NoAnswerError):
    """The process has not answered in time."""


class Process:
    """Answers one request after the other. It is started with the first, which the program sees as its command line."""

    def __init__(
        self, invocation: Invocation, kind: str, program: Program, first: Settings, place: Place, seconds: float
    ) -> None:
        self._seconds = seconds
        self.started_ns = time.time_ns()
        """When it was started: what has changed since may not be what it read."""
        self.reached: Settings | None = None
        """What the program had used (`inside.used`) when it came to the point from which it answers, and its path."""
        self.compared = False
        """One of its answers was compared with that of another process."""
        self.kept: str | None = None
        """Name under which its answers are kept (`KeptAnswers.begin`); empty: they are not."""
        # A file: a program that prints much must not wait until somebody reads.
        self._output = tempfile.TemporaryFile()  # noqa: SIM115
        requests, send = os.pipe()
        receive, answers = os.pipe()
        command = [str(invocation.interpreter()), *program.options, str(ENTRY), kind, str(requests), str(answers)]
        command += [str(int(seconds) + _GRACE), "elsewhere" if place.elsewhere else "here"]
        try:
            self._process = subprocess.Popen(
                command,
                cwd=place.folder,
                env={**place.environment, "PWD": str(place.folder)},
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=subprocess.STDOUT,
                pass_fds=(requests, answers),
                start_new_session=True,
            )
        except OSError as error:
            os.close(send)
            os.close(receive)
            self._output.close()
            raise ConfigError(f"{invocation.where}: python: '{command[0]}' cannot be run: {error.strerror}") from None
        finally:
            os.close(requests)
            os.close(answers)
        self._send, self._receive, self._buffer = send, receive, b""
        self.close = weakref.finalize(self, _end, self._process, self._output, send, receive)
        """Ends the process, and with it every process that the program has started."""
        self._asked = time.monotonic()
        self._write({**first, "target": list(program.target)})

    def ask(self, request: Settings) -> Settings:
        """The answer to a further request; raises NoAnswerError."""
        self._asked = time.monotonic()
        self._write(request)
        return self.answer()

    def answer(self) -> Settings:
        """The answer to the last request; raises NoAnswerError where there is none."""
        return self._answer(self._asked + self._seconds)

    def early_answer(self, seconds: float) -> Settings | None:
        """The answer if it comes so soon; raises NoAnswerError where the process has ended."""
        try:
            return self._answer(time.monotonic() + seconds)
        except LateError:
            return None

    def _answer(self, until: float) -> Settings:
        while True:
            message: Settings = json.loads(self._line(until))
            if "reached" not in message:
                return message
            self.reached = message

    def said(self) -> str:
        """The last line that the program printed."""
        size = os.fstat(self._output.fileno()).st_size
        end = os.pread(self._output.fileno(), 20_000, max(0, size - 20_000)).decode(errors="replace")
        lines = [line.strip() for line in end.splitlines() if line.strip()]
        return lines[-1] if lines else ""

    def _ending(self) -> str:
        try:
            code = self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            return "it has closed files that it did not open"
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def _write(self, request: Settings) -> None:
        data = json.dumps(request).encode() + b"\n"
        try:
            while data:
                data = data[os.write(self._send, data) :]
        except BrokenPipeError:
            pass  # it has ended: that is found where the answer is read

    def _line(self, until: float) -> bytes:
        with selectors.DefaultSelector() as selector:
            selector.register(self._receive, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not selector.select(max(0.0, until - time.monotonic())):
                    raise LateError(f"gave no answer within {self._seconds:g} s")
                data = os.read(self._receive, 1 << 20)
                if not data:
                    raise NoAnswerError(f"ended without an answer ({self._ending()})")
                self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line


def _end(process: subprocess.Popen[bytes], output: IO[bytes], *pipes: int) -> None:
    for pipe in pipes:
        os.close(pipe)
    # It may have ended, and all that it had started.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    output.close()
