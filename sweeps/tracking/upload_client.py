"""Starts and feeds the process that ships journals: the training step never waits for a store."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from types import TracebackType
from typing import Any

from ablative.study.home.paths import Home
from ablative.study.plan.task import Task, TaskRef

INTERVAL_SECONDS = 5.0
GRACE_SECONDS = 2.0
"""How much longer than asked for a final flush may take before its process is killed."""
STARTS = 3
"""A shipping process that died is started again, this often in all; the journal keeps what it leaves."""


class UploadClient:
    """Ships the journals of the tasks given to `follow`; nothing here blocks but `close`, which is bounded.

    The process costs about 2 s of CPU to start (MLflow's import, at low priority) and dies with its parent. One
    is enough for any number of tasks. Use it from a thread that lives as long as the process: on Linux, "parent"
    means that thread.
    """

    def __init__(self, study: str, home: Home, interval: float = INTERVAL_SECONDS) -> None:
        self._study, self._home, self._interval = study, home, interval
        self._process: subprocess.Popen[bytes] | None = None
        self._mail: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._starts = 0
        self._followed: dict[str, bytes] = {}

    def follow(self, task: Task | TaskRef) -> None:
        """Ship this task's journal every few seconds from now on."""
        if task.task_id in self._followed and self._alive():
            return
        line = _line({"follow": TaskRef.of(task).to_json()})
        self._followed[task.task_id] = line
        if self._alive():
            self._mail.put(line)
        elif self._starts < STARTS:
            self._start()

    def close(self, timeout: float = 20.0) -> bool:
        """Ship what is left within `timeout` seconds and end the process; true when everything is shipped.

        A timeout of 0 only ends it. What is not shipped waits in the journals for `ablate sync`.
        """
        process, self._process = self._process, None
        if process is None:
            return not self._followed
        self._mail.put(_line({"stop": timeout}))
        self._mail.put(None)
        try:
            return process.wait(timeout + GRACE_SECONDS if timeout > 0 else 0) == 0
        except subprocess.TimeoutExpired:
            return False
        finally:
            process.kill()
            process.wait()

    def __enter__(self) -> UploadClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: Any, trace: TracebackType | None) -> None:
        self.close()

    def _alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _start(self) -> None:
        self._starts += 1
        command = [sys.executable, "-m", "ablative.sweeps.tracking.upload_process"]
        self._process = subprocess.Popen(
            [*command, self._study, str(self._home.root), str(self._interval), str(os.getpid())],
            stdin=subprocess.PIPE,
        )
        self._mail.put(None)
        self._mail = queue.SimpleQueue()
        self._mail.put(b"".join(self._followed.values()))
        threading.Thread(target=_post, args=(self._process, self._mail), daemon=True).start()


def _post(process: subprocess.Popen[bytes], mail: queue.SimpleQueue[bytes | None]) -> None:
    """Write into the process's pipe, in a thread: a full pipe must not hold up the worker."""
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError), process.stdin:
        while (data := mail.get()) is not None:
            process.stdin.write(data)
            process.stdin.flush()


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"
