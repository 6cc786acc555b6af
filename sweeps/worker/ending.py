"""How a worker ends a running task: what may take its time is asked first, and killed when that is over."""

from __future__ import annotations

import signal
import time

from ablative.study import installed_trainers
from ablative.study.core.errors import ConfigError
from ablative.study.core.typed import read_config
from ablative.study.home.paths import TaskPaths
from ablative.sweeps.queue.failures import Failure
from ablative.sweeps.worker.task_process import Child

ASKED = ("cancelled", "pruned")
"""Reasons for which a task may take its trainer's time to end."""
MARGIN_SECONDS = 10.0
"""A task ends what it has started itself; so much later than that it is killed with all of it."""


def grace_seconds(trainer: str, stage: str, paths: TaskPaths) -> float:
    """How long a task may take to end by itself once it is asked; 0: it is killed at once."""
    own = installed_trainers.trainer(trainer)
    try:
        grace = own.grace(stage, own.load(stage, read_config(paths.config)))
    except ConfigError:
        # What is wrong with it, the task itself says.
        return 0.0
    return grace + MARGIN_SECONDS if grace else 0.0


class Ending:
    """The end of one running task, if the worker brings it about."""

    def __init__(self, child: Child, grace: float) -> None:
        self.verdict = ""
        """Why it is ended; empty: it is not."""
        self._child, self._grace, self._asked = child, grace, 0.0

    def demand(self, verdict: str) -> None:
        """End the task for this reason, or go on ending it; an empty one begins nothing. To be called until it ends."""
        first = not self.verdict
        if verdict and (first or verdict not in ASKED):
            self.verdict = verdict
        if first and self.verdict in ASKED and self._grace:
            self._asked = time.monotonic()
            self._child.signal(signal.SIGTERM)
        elif self.verdict and (self.verdict not in ASKED or time.monotonic() - self._asked > self._grace):
            self._child.kill()

    def failure(self, reported: Failure | None) -> Failure | None:
        """The failure that it means; None: what the task reports of itself is what counts, or its exit status."""
        if self.verdict in ASKED and reported is not None and reported.cause == "interrupted":
            return Failure(self.verdict, "", f"{self.verdict} while it ran: {reported.message}", "", "")
        if reported is not None or not self.verdict:
            return reported
        return Failure(self.verdict, "SIGKILL", f"{self.verdict} while it ran", "", "")
