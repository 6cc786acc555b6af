"""A process beside the worker that ships while the task trains, so that the training step never waits for a store."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from study.paths import Home
from trainer.tracking.source import Shippable, Source

INTERVAL_SECONDS = 5.0
GRACE_SECONDS = 2.0
"""How much longer than asked for a final flush may take before its process is killed."""
STARTS = 3
"""A shipping process that died is started again, this often in all; the journal keeps what it leaves."""


class Shipper:
    """Ships the journals of the tasks that it is told to follow; nothing here blocks but `stop`, which is bounded.

    The process costs about 2 s of CPU to start (MLflow's import, at low priority) and dies with its parent.
    It follows any number of tasks: the parent of many short tasks needs one, not one for each.
    """

    def __init__(self, home: Home, interval: float = INTERVAL_SECONDS) -> None:
        self._home, self._interval = home, interval
        self._process: subprocess.Popen[bytes] | None = None
        self._starts = 0
        self._followed: list[bytes] = []
        self._unsent = b""

    def follow(self, task: Shippable, study: str) -> None:
        """Ship this task's journal every few seconds from now on."""
        line = _line({"follow": Source.of(task).to_json(), "study": study})
        self._followed.append(line)
        if not self._alive():
            self._start()
        else:
            self._send(line)

    def stop(self, timeout: float = 20.0) -> bool:
        """Ship what is left within `timeout` seconds and end the process; true when everything is shipped.

        A timeout of 0 only ends it. What is not shipped waits in the journals for `ablate sync`.
        """
        process, self._process = self._process, None
        if process is None:
            return not self._followed
        deadline = time.monotonic() + timeout + GRACE_SECONDS * (timeout > 0)
        self._process = process
        self._send(_line({"stop": timeout}))
        self._process = None
        with contextlib.suppress(OSError):
            process.stdin.close()  # type: ignore[union-attr]
        try:
            return process.wait(max(0.0, deadline - time.monotonic())) == 0
        except subprocess.TimeoutExpired:
            return False
        finally:
            process.kill()
            process.wait()

    def __enter__(self) -> Shipper:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: Any, trace: TracebackType | None) -> None:
        self.stop()

    def _alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _start(self) -> None:
        if self._starts >= STARTS:
            return
        self._starts += 1
        root = str(Path(__file__).parents[2])
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        command = [sys.executable, "-m", "trainer.tracking.process"]
        self._process = subprocess.Popen(
            [*command, str(self._home.root), str(self._interval), str(os.getpid())],
            stdin=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
        )
        assert self._process.stdin is not None
        os.set_blocking(self._process.stdin.fileno(), False)
        self._unsent = b""
        self._send(b"".join(self._followed))

    def _send(self, data: bytes) -> None:
        """Write what the pipe takes now and keep the rest for the next time: a stopped process must not stop us."""
        if self._process is None or self._process.stdin is None:
            return
        self._unsent += data
        try:
            while self._unsent:
                self._unsent = self._unsent[os.write(self._process.stdin.fileno(), self._unsent) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            # It died; `follow` starts another.
            self._unsent = b""


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"
