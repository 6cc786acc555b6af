"""The scheduler's queue, read with one `squeue` for all submissions, seldom, and believed only when it answers.

Elements are recognised by the name of their array, which no other array ever had, and not by their job ids, which start
again from 1 when a controller loses its state. `sacct` is not needed.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass

from ablative.study.core.errors import AblateError

KEEP_SECONDS = 5.0
"""A look at the queue serves this long."""
BUSY_SHARE = 20
"""Looks take at most this part of the time, however slow the controller answers."""
TIMEOUT_SECONDS = 60.0
ENDED = (
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "REVOKED",
    "TIMEOUT",
)
"""States that an element does not leave by itself; a requeued one is seen as PENDING."""
NEVER = ("DependencyNeverSatisfied",)
"""Reasons for which a pending element will never start."""


class SchedulerSilent(AblateError):
    """The scheduler did not answer: nothing is known about the queue."""


@dataclass(frozen=True)
class QueuedElement:
    """An array element as `squeue` shows it."""

    job_id: str
    """`123_4`."""
    name: str
    """Name of its array."""
    index: int
    state: str
    reason: str
    """Why it waits."""

    @property
    def live(self) -> bool:
        return self.state not in ENDED and self.reason not in NEVER


@dataclass(frozen=True)
class Queue:
    """What a look found."""

    elements: tuple[QueuedElement, ...]
    taken: float
    """When, in seconds since 1970."""
    silence: str = ""
    """Why the scheduler did not answer; empty: it did."""


@dataclass
class _Last:
    """The last look: whose jobs, what was seen, and until when (monotonic) it serves."""

    users: frozenset[str] = frozenset()
    queue: Queue = Queue((), 0.0)
    until: float = 0.0


_last = _Last()


def invalidate_cache() -> None:
    """Look again at the next question."""
    _last.until = 0.0


def look(users: Iterable[str], after: float) -> Queue:
    """The queue of these users, not older than `KEEP_SECONDS` nor than `after` (seconds since 1970)."""
    wanted = frozenset(users)
    if wanted <= _last.users and time.monotonic() < _last.until and _last.queue.taken > after:
        return _last.queue
    wanted |= _last.users
    begin, taken = time.monotonic(), time.time()
    try:
        queue = Queue(_squeue(wanted), taken)
    except SchedulerSilent as silent:
        queue = Queue((), taken, str(silent))
    took = time.monotonic() - begin
    _last.users, _last.queue = wanted, queue
    _last.until = time.monotonic() + max(KEEP_SECONDS, BUSY_SHARE * took)
    return queue


def call(*command: str) -> str:
    """Output of one of SLURM's programs.

    Raises:
        SchedulerSilent: it is not installed, does not end, or says that it failed.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    except FileNotFoundError:
        raise SchedulerSilent(f"{command[0]} is not on the PATH") from None
    except subprocess.TimeoutExpired:
        raise SchedulerSilent(f"{command[0]} did not end within {TIMEOUT_SECONDS:.0f} s") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise SchedulerSilent(f"{command[0]}: {lines[-1]}")
    return done.stdout


def cancel(*words: str) -> None:
    """`scancel`; elements that have ended meanwhile are no mistake."""
    try:
        call("scancel", "--quiet", *words)
    except SchedulerSilent as silent:
        if "Unable to contact" in str(silent):
            raise
    finally:
        invalidate_cache()


def _squeue(users: frozenset[str]) -> tuple[QueuedElement, ...]:
    form = "--format=%i|%K|%T|%r|%j"
    text = call("squeue", "--noheader", "--array", "--states=all", f"--user={','.join(sorted(users))}", form)
    elements = []
    for line in text.splitlines():
        job_id, index, state, reason, name = line.split("|", 4)
        if name.startswith("ablate.") and index.isdigit():
            elements.append(QueuedElement(job_id, name, int(index), state, reason))
    return tuple(elements)
