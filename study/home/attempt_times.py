"""Attempts at a task, read from its journal, and how much of their time led to nothing.

Lost is what had to be done again: of an attempt that was killed, all after the checkpoint from which the next one
went on; and all of a task that diverged, or failed without a checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ablative.study.home.journal import Entry
from ablative.study.home.task_state import FINISHED

START_EVENTS = ("started", "resumed")
"""Events that open an attempt: the first one, and every other."""
END_EVENTS = (*FINISHED, "failed", "interrupted")
"""Events that close one; an attempt without has been killed, or goes on."""
ANEW = "begins anew"
"""Event of an attempt that does not go on from what earlier ones have left."""

WAITING, MET = "waiting for processes", "processes met"
"""Events of a run on several processes, before and after the first has waited for the others."""


@dataclass
class Attempt:
    """One attempt, from its first journal entry to its last: a killed one writes no end."""

    start: float
    """Seconds since 1970."""
    end: float
    ended: str = ""
    """One of `ENDS`."""
    restored: int = 0
    """Step of the checkpoint that it went on from; 0: it began at the beginning."""
    reports: list[tuple[int, float]] = field(default_factory=list)
    """(step, when) of its metrics."""

    @property
    def seconds(self) -> float:
        return self.end - self.start

    def until(self, step: int) -> float:
        """Seconds that it took up to a step, by the last report at or before it."""
        return max([0.0, *(when - self.start for at, when in self.reports if at <= step)])


@dataclass(frozen=True)
class Elapsed:
    """What a task has taken by the clock, in all attempts."""

    seconds: float
    wasted: float
    """Seconds of these that led to nothing."""


def attempts(entries: Iterable[Entry]) -> list[Attempt]:
    """The attempts at a task, in order, from its journal's entries."""
    found: list[Attempt] = []
    for entry in entries:
        when = entry["t"] / 1000
        name = entry.get("name") if entry["kind"] == "event" else None
        if name in START_EVENTS:
            found.append(Attempt(when, when))
        elif found:
            last = found[-1]
            last.end = when
            if name in END_EVENTS:
                last.ended = str(name)
            elif name == "checkpoint restored":
                last.restored = entry["step"]
            elif entry["kind"] == "metrics":
                last.reports.append((entry["step"], when))
    return found


def elapsed(found: Sequence[Attempt], saved: float | None = None, alive: bool = False) -> Elapsed:
    """Time taken and wasted.

    Args:
        found: the task's attempts.
        saved: when the checkpoint was written that a further attempt would go on from (seconds since 1970).
        alive: the last attempt goes on.
    """
    total = sum(attempt.seconds for attempt in found)
    if not found:
        return Elapsed(0.0, 0.0)
    last = found[-1]
    over = last.ended in ("completed", "interrupted") or alive
    if last.ended == "diverged" or (not over and saved is None):
        return Elapsed(total, total)
    lost = sum(attempt.seconds - _kept(attempt, found[i + 1 :]) for i, attempt in enumerate(found[:-1]))
    if not over:
        assert saved is not None
        lost += max(0.0, last.end - max(saved, last.start))
    return Elapsed(total, lost)


def _kept(attempt: Attempt, later: Sequence[Attempt]) -> float:
    """Seconds of an attempt that all later ones built upon."""
    step = min(following.restored for following in later)
    if step and attempt.ended == "interrupted" and step >= max((at for at, _ in attempt.reports), default=0):
        return attempt.seconds  # it saved before it ended
    return attempt.until(step)
