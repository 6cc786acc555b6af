"""The scheduler's queue, read with one `squeue` for all submissions, seldom, and believed only when it answers.

Elements are recognised by the name of their array, which no other array ever had, and not by their job ids, which start
again from 1 when a controller loses its state. `sacct` is not needed.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass

from ablative.study.core.errors import AblateError
from ablative.sweeps.slurm import environment

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
FORMAT = "--format=%i|%K|%T|%r|%P|%q|%a|%j"
HEADING = re.compile(r"^JOBID\|[A-Z_]+\|STATE\|REASON(?:\|[A-Z_]+){3}\|NAME\n", re.MULTILINE)
"""First line of every answer, also of one without jobs."""
LINE = re.compile(
    r"(?P<id>\d+(?:_\d+)?)\|(?P<index>[^|]*)\|(?P<state>[A-Z_]+)\|(?P<reason>[^|]*)"
    r"\|(?P<partition>[^|]*)\|(?P<qos>[^|]*)\|(?P<account>[^|]*)\|(?P<name>.*)"
)
SHOWN = 100
"""Characters of an answer that a message quotes."""
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
    """-1: it is no element of an array."""
    state: str
    reason: str
    """Why it waits."""
    partition: str = ""
    qos: str = ""
    account: str = ""

    @property
    def live(self) -> bool:
        return self.state not in ENDED and self.reason not in NEVER


@dataclass(frozen=True)
class Queue:
    """What a look found."""

    elements: tuple[QueuedElement, ...]
    """Ours and the users' other jobs, which have no number."""
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
    own = environment.cleaned()
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_SECONDS, check=False, env=own
        )
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


def ranges(numbers: list[int]) -> str:
    """`0-3,7` of [0, 1, 2, 3, 7]."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


def _squeue(users: frozenset[str]) -> tuple[QueuedElement, ...]:
    """What `squeue` lists below its heading; further lines of a job's name are left out.

    Raises:
        SchedulerSilent: it answers without the heading, in half a line, or with a line of ours that cannot be read.
    """
    text = call("squeue", "--array", "--states=all", f"--user={','.join(sorted(users))}", FORMAT)
    heading = HEADING.search(text)
    # A wrapper or a controller that is away may print nothing, or its complaint, and report success.
    if heading is None:
        said = next((line.strip() for line in text.splitlines() if line.strip()), "nothing")
        raise SchedulerSilent(f"squeue printed no list of jobs: {said[:SHOWN]}")
    listed = text[heading.end() :]
    if listed and not listed.endswith("\n"):
        raise SchedulerSilent(f"squeue printed half a line: {listed.splitlines()[-1][:SHOWN]}")
    elements = []
    for line in listed.splitlines():
        found = LINE.fullmatch(line)
        if found is None and "|ablate." in line:
            raise SchedulerSilent(f"squeue printed what is no job: {line[:SHOWN]}")
        if found is not None:
            index = int(found["index"]) if found["index"].isdigit() else -1
            names = ("name", "state", "reason", "partition", "qos", "account")
            elements.append(QueuedElement(found["id"], index=index, **{name: found[name] for name in names}))
    return tuple(elements)
