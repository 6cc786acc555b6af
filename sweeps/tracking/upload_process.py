"""The process that ships: `python -m …upload_process STUDY HOME INTERVAL PARENT`, started by `UploadClient`."""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO

from ablative.study.core.processes import die_with_parent
from ablative.study.core.secrets import guard
from ablative.study.home.paths import Home
from ablative.study.plan.task import TaskRef
from ablative.sweeps.queue import snapshot
from ablative.sweeps.tracking.cursor import pending
from ablative.sweeps.tracking.sync import ship

LONGEST_DELAY = 120.0
"""Between two attempts at a store that does not answer; it doubles from the interval up to this, in seconds."""
FLUSH_DELAY = 0.5
LEFT_BEHIND = 3
"""Exit code when something is not shipped."""


class UploadLoop:
    """Ships the followed tasks in rounds, further apart while the store does not answer."""

    def __init__(self, study: str, home: Home, interval: float) -> None:
        self.study, self.home, self.interval = study, home, interval
        self.delay = interval
        self._tasks: dict[str, TaskRef] = {}
        self._complaint = ""
        self._files = True

    def follow(self, task: TaskRef) -> None:
        self._tasks[task.task_id] = task

    def round(self, until: float = float("inf")) -> bool:
        """Ship what there is; true when nothing is left."""
        shipped = ship(self._tasks.values(), self.study, self.home, until=until, files=self._files)
        # A place for files that does not answer would hold up every round; `ablate sync` sends what is missing.
        self._files = self._files and not shipped.files_error
        self.delay = min(2 * self.delay, LONGEST_DELAY) if shipped.errors else self.interval
        self._say(shipped.errors[0] if shipped.errors else "")
        return shipped.pending == 0

    def flush(self, seconds: float) -> bool:
        """Rounds until nothing is left, for so many seconds at most."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.round(until) and not pending(self._tasks.values(), self.study, self.home):
                return True
            time.sleep(min(FLUSH_DELAY, max(0.0, until - time.monotonic())))
        return False

    def _say(self, complaint: str) -> None:
        """One line when the store stops answering, one when it answers again; never one for each attempt."""
        if complaint and not self._complaint:
            text = f"{complaint}; training goes on, results wait in the journals"
            print(f"ablate: {text}", file=sys.stderr, flush=True)
        elif self._complaint and not complaint:
            print("ablate: tracking store answers again", file=sys.stderr, flush=True)
        self._complaint = complaint


def serve(follower: UploadLoop, inbox: queue.Queue[dict[str, Any] | None]) -> int:
    """Follow and ship until a stop message (exit code 0 or `LEFT_BEHIND`) or the end of the worker."""
    due = time.monotonic() + follower.interval
    while True:
        try:
            message = inbox.get(timeout=max(0.0, due - time.monotonic()))
        except queue.Empty:
            follower.round()
            due = time.monotonic() + follower.delay
            continue
        if message is None:
            return LEFT_BEHIND
        if "stop" in message:
            return 0 if follower.flush(message["stop"]) else LEFT_BEHIND
        follower.follow(TaskRef.from_json(message["follow"]))


def read_messages(stream: BinaryIO, inbox: queue.Queue[dict[str, Any] | None]) -> None:
    """Into the inbox, always: a full pipe would hold up the worker. None when the worker has gone."""
    for line in stream:
        inbox.put(json.loads(line))
    inbox.put(None)


def _detach(parent: int) -> None:
    """Die with the worker, and by nothing else: signals to the whole job are for it to act on."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    os.nice(10)
    if not die_with_parent(parent):
        os._exit(LEFT_BEHIND)


def main() -> None:
    guard()
    study, root, interval, parent = sys.argv[1:]
    snapshot.require(Home(Path(root)))
    _detach(int(parent))
    inbox: queue.Queue[dict[str, Any] | None] = queue.Queue()
    threading.Thread(target=read_messages, args=(sys.stdin.buffer, inbox), daemon=True).start()
    code = serve(UploadLoop(study, Home(Path(root)), float(interval)), inbox)
    # Nothing of MLflow's that runs at exit may outlast the time that we were given.
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
