"""One metric's values while a program runs: steps that only grow, a curve of bounded length, and the result."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from dataclasses import dataclass

from ablative.study.core.plurals import counted
from ablative.trainer.program.metrics.sources import MetricSource

FULL = 10_000
"""Values of a curve after which every second is reported only, after as many again every fourth, and so on."""
_LARGEST_STEP = 2**63 - 1
_STEPLESS = ("mlflow", "tensorboard")
"""Kinds that write step 0 where the program gives none."""
_AROUND = " ,;:)]}%\"'"
"""What may follow a number that a pattern such as `\\S+` has taken from a line."""
_NO_NUMBER = ("is no number", "are no numbers")
_BACK = ("at a step that does not grow is left out", "at steps that do not grow are left out")
_NO_STEP = (
    "has no whole number as its step, so that records are counted",
    "have no whole numbers as their steps, so that records are counted",
)
"""Faults of values, as notes say them of one and of several."""


@dataclass(frozen=True)
class Value:
    """One point of a metric's curve."""

    name: str
    step: int
    value: float


class Series:
    """The values of one metric, from the records of one attempt and from what earlier attempts have reported."""

    def __init__(self, source: MetricSource, earlier: Iterable[Value] = (), anew: bool = False) -> None:
        """`anew`: the program begins at the beginning, whatever earlier attempts have reported."""
        self.source = source
        self.found = 0
        """Values in records, numbers or not."""
        self.latest: float | None = None
        self.diverged: Value | None = None
        """The first value that is not finite, of a metric that says `diverges`."""
        self._lowest, self._highest, self._sum, self._count = math.inf, -math.inf, 0.0, 0
        self._step = -1
        self._reported: Value | None = None
        self._kept, self._skipped = 0, 0
        self._part: Hashable = None
        self._previous, self._zeros, self._numbered = -1, 0, False
        self._faults: dict[tuple[str, str], tuple[int, str]] = {}
        earlier = tuple(earlier)
        for value in earlier:
            self._take_in(value.value)
            self._count_in(value.value)
            self._reported, self._kept = value, self._kept + 1
            self._step = max(self._step, value.step)
        self.first = self._step + 1
        """Step of the first value that this attempt may report."""
        self.number = 0 if anew else self.first
        """Step of the first value that it prints, where the program gives none."""
        self._earliest = min((value.step for value in earlier), default=None)
        self._begins: int | None = None
        self.again: set[int] = set()
        """Steps of this attempt that an earlier one had reported."""
        self._begun = False

    @property
    def restored(self) -> int | None:
        """The step from which this attempt has gone on; None: it has reported none yet, or began at the beginning."""
        if self._begins is None or self._earliest is None or self._begins <= self._earliest:
            return None
        return self._begins - 1

    def begin(self) -> None:
        """The program starts: what was read before is an earlier attempt's."""
        self._begun = True

    def add(self, value: object, step: object, number: int, part: Hashable = None) -> Value | None:
        """Take a value in; the point that is to be reported, if any.

        Args:
            value: a number, or its text.
            step: the record's step, a number or its text; None: it has none.
            number: the record's number, which is the step of a record without.
            part: the file, and how often it was replaced: what is read anew repeats its steps without fault.
        """
        if part != self._part:
            self._part, self._previous, self._zeros = part, -1, 0
        self.found += 1
        scaled = self._scaled(value)
        if scaled is None:
            return None
        at = self._at(step, number)
        self._take_in(scaled)
        if not math.isfinite(scaled) and self.source.diverges and self.diverged is None:
            self.diverged = Value(self.source.name, max(at, 0), scaled)
        if at <= self._previous:
            self._fault(_BACK, f"step {at} after {self._previous}" if at >= 0 else f"step {at}")
        self._previous = max(self._previous, at)
        # A document is written as a whole, with the steps of earlier attempts.
        if self._begun and at >= 0 and self.source.kind != "json":
            self._begins = at if self._begins is None else self._begins
            if at < self.first:
                self.again.add(at)
        if at <= self._step:
            return None
        self._step = at
        self._count_in(scaled)
        return self._thinned(Value(self.source.name, at, scaled))

    def final(self) -> float | None:
        """The result as `take` says; None: there is no value."""
        if self.latest is None:
            return None
        take = self.source.take
        if take == "best":
            take = "min" if self.source.better == "lower" else "max"
        if take == "mean":
            return self._sum / self._count if self._count else self.latest
        extreme = {"min": self._lowest, "max": self._highest}.get(take, self.latest)
        # Without a number among the values the extremes are what they began with.
        return self.latest if self._lowest > self._highest else extreme

    def closing(self) -> Value | None:
        """The point after which the curve's last value is the result; None: it is already."""
        final = self.final()
        if final is None:
            return None
        last = self._reported
        if last and (last.value == final or (math.isnan(last.value) and math.isnan(final))):
            return None
        return Value(self.source.name, max(self._step, last.step + 1 if last else 0), final)

    def notes(self) -> list[str]:
        """What is strange about the values, a line each."""
        name = self.source.name
        found = [
            f"{name}: {counted(count, 'value')} {forms[count > 1]} (first: {first})"
            for forms, (count, first) in self._faults.items()
        ]
        if self._kept > FULL:
            found.append(f"{name}: of {self._count} values, {self._kept} are kept as its curve; its result counts all")
        return found

    def not_numbers(self) -> str:
        """The first value that was no number, if none was one."""
        return self._faults.get(_NO_NUMBER, (0, ""))[1]

    def _scaled(self, value: object) -> float | None:
        number = number_of(value)
        if number is None:
            self._fault(_NO_NUMBER, repr(value)[:60])
            return None
        return number * self.source.scale

    def _at(self, step: object, number: int) -> int:
        """The step of a record, or its number where it has none that is whole."""
        found = number_of(step) if step is not None and step != "" else None
        if found is None or not abs(found) <= _LARGEST_STEP or found != int(found):
            if step is not None and step != "":
                self._fault(_NO_STEP, repr(step)[:60])
            self._numbered |= found is not None
            return max(number, self._previous + 1) if self._numbered else number
        if self._numbered:
            return max(number, self._previous + 1)
        if found == 0 and self.source.kind in _STEPLESS and self._zeros == self._previous + 1:
            self._zeros += 1
            return self._zeros - 1
        return step if isinstance(step, int) else int(found)

    def _take_in(self, value: float) -> None:
        self.latest = value
        if not math.isnan(value):
            self._lowest, self._highest = min(self._lowest, value), max(self._highest, value)

    def _count_in(self, value: float) -> None:
        self._sum, self._count = self._sum + value, self._count + 1

    def _thinned(self, value: Value) -> Value | None:
        self._skipped += 1
        if self._skipped < 2 ** (self._kept // FULL):
            return None
        self._skipped, self._kept, self._reported = 0, self._kept + 1, value
        return value

    def _fault(self, what: tuple[str, str], first: str) -> None:
        count, earliest = self._faults.get(what, (0, first))
        self._faults[what] = (count + 1, earliest)


def number_of(value: object) -> float | None:
    """A number, or the number that a text holds, with punctuation or a percent sign behind it; None: it is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        value = value.strip().rstrip(_AROUND).lstrip("\"'")
        if "_" in value:
            return None
    elif not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None
