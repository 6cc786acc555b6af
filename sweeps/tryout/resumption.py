"""Whether a task that is stopped midway and resumed ends as one that was not: the two are run, and compared."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ablative.study.home.journal import COMPUTED_AGAIN, Entry
from ablative.study.home.paths import TaskPaths
from ablative.study.starts import Resumption
from ablative.sweeps.tryout.attempt import Curves, Performed, Scratch, curves

SHORTEST = 1.0
"""Seconds that a task has to take for it to be stopped midway."""
LOOK_SECONDS = 0.1
"""How often the journal of a task that is to be stopped is read."""


@dataclass(frozen=True)
class Difference:
    """The largest difference of two curves."""

    metric: str
    step: int | None
    """None: it is of the results."""
    uninterrupted: float
    resumed: float

    @property
    def size(self) -> float:
        """Absolute difference; infinite where one of them is no number."""
        found = abs(self.uninterrupted - self.resumed)
        return found if math.isfinite(found) else math.inf


@dataclass(frozen=True)
class Comparison:
    """Two runs of one task: the second was stopped and resumed."""

    compared: int
    """Values after the stop that both have."""
    largest: Difference | None
    """None: all of them are the same, bit for bit."""
    unstable: tuple[str, ...]
    """Metrics that differ before the stop already, and so are not compared."""

    @property
    def exact(self) -> bool | None:
        return None if not self.compared else self.largest is None


@dataclass(frozen=True)
class Checked:
    """What came of stopping and resuming a task."""

    why_not: str = ""
    """Why nothing is known; empty: the rest is filled in."""
    stop_step: int = 0
    """The last step that was reported before the stop."""
    anew: bool = False
    """The further attempt began from the beginning."""
    again: Entry | None = None
    """Event of steps that were computed twice: `first`, `last`, `reports`."""
    failed: str = ""
    """How the further attempt failed; empty: it did not."""
    comparison: Comparison | None = None
    until: int | None = None
    """The last step that was compared, where one of the two did not end."""


def check(scratch: Scratch, first: Performed, known: Resumption, end: float) -> Checked:
    """Run a task again, stop it midway, resume it, and compare it with the first time.

    Args:
        scratch: where both lie.
        first: the task without an interruption; it may have been cut.
        known: how it goes on, as its trainer says.
        end: when to stop in any case, by `time.monotonic`.
    """
    if not known.possible:
        return Checked(known.why_not)
    if first.seconds < SHORTEST:
        return Checked(f"it takes {first.seconds:.1f} s, too short to be stopped midway")
    steps = first.steps
    if len(steps) < 2 and not known.file:
        return Checked("it reports nothing before it ends, so that nothing is known of a stop midway")
    if end - time.monotonic() < first.seconds / 2:
        return Checked("no time was left; more of it: --minutes")
    target = steps[(len(steps) - 1) // 2] if len(steps) > 1 else None
    paths = first.task.paths(scratch.second)
    stopped = scratch.perform(first.task, True, _midway(paths, known.file, target, first.seconds / 2, end))
    if stopped.finished:
        missing = known.file and not any(paths.output.glob(known.file))
        return Checked(f"it left no {known.file} before it ended" if missing else "it ended before it could be stopped")
    if time.monotonic() >= end:
        return Checked("no time was left; more of it: --minutes")
    if stopped.state == "failed":
        return Checked(f"it failed when it was run a second time: {stopped.message}")
    if known.file and not any(paths.output.glob(known.file)):
        return Checked(f"it left no {known.file} until it was stopped: more minutes, or checkpoints more often")
    last = max(stopped.steps, default=0)
    limit = None if first.finished else max(steps, default=0)
    resumed = scratch.perform(first.task, True, _as_far(paths, limit, end))
    again = next((entry for entry in reversed(resumed.entries) if entry.get("name") == COMPUTED_AGAIN), None)
    anew = again is not None and bool(steps) and again["first"] <= steps[0] < last
    if resumed.state == "failed":
        return Checked("", last, anew, again, resumed.message)
    both = first.finished and resumed.finished
    comparison = compare(first, resumed, last, both)
    until = None if both else min(max(first.steps, default=0), max(resumed.steps, default=0))
    return Checked("", last, anew, again, "", comparison, until)


def compare(first: Performed, second: Performed, stop: int, ended: bool) -> Comparison:
    """Compare what the two have reported after a step.

    Metrics that differ up to that step are no matter of the stop: times, or a program that no seed determines.

    Args:
        first: without an interruption.
        second: stopped and resumed.
        stop: the last step before the stop.
        ended: both have ended, so that their results are compared as well.
    """
    left, right = first.curves, second.curves
    unstable = {name for name, step, a, b in _pairs(left, right) if step <= stop and not _same(a, b)}
    # Steps that the first has not: the program counts its reports, so that equal numbers are not equal steps.
    counted = max(second.steps, default=0) > max(first.steps, default=0) and ended
    found = [
        Difference(name, step, a, b)
        for name, step, a, b in _pairs(left, right)
        if step > stop and name not in unstable and not counted
    ]
    if ended:
        a, b = first.final, second.final
        found += [Difference(name, None, a[name], b[name]) for name in a if name in b and name not in unstable]
    different = [one for one in found if not _same(one.uninterrupted, one.resumed)]
    return Comparison(len(found), max(different, key=lambda one: one.size, default=None), tuple(sorted(unstable)))


def _pairs(left: Curves, right: Curves) -> Iterable[tuple[str, int, float, float]]:
    for name, values in left.items():
        for step, value in values.items():
            if step in right.get(name, {}):
                yield name, step, value, right[name][step]


def _same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


def _midway(paths: TaskPaths, file: str, target: int | None, seconds: float, end: float) -> Callable[[float], bool]:
    """When to stop: at a step, or after some time where no steps are known, but not before there is the file."""
    looked = 0.0

    def reached(passed: float) -> bool:
        nonlocal looked
        if time.monotonic() >= end:
            return True
        if passed < looked + LOOK_SECONDS:
            return False
        looked = passed
        if file and not any(paths.output.glob(file)):
            return False
        if target is None:
            return passed >= seconds
        return max((step for values in curves(paths).values() for step in values), default=-1) >= target

    return reached


def _as_far(paths: TaskPaths, limit: int | None, end: float) -> Callable[[float], bool]:
    """When to stop a resumed task: never, or where the first one was cut."""
    if limit is None:
        return lambda passed: time.monotonic() >= end
    reached = _midway(paths, "", limit, math.inf, end)
    return reached
