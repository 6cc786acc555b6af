"""Reads a program's metrics while it runs, and says what is missing when it has ended."""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ablative.study.core.plurals import counted
from ablative.trainer.program.metrics.event_files import EventFiles
from ablative.trainer.program.metrics.mlflow_stores import MlflowStore
from ablative.trainer.program.metrics.records import (
    MOST_KEYS,
    Csv,
    Document,
    JsonLines,
    Origin,
    Record,
    field_of,
    keys_of,
)
from ablative.trainer.program.metrics.series import Series, Value
from ablative.trainer.program.metrics.sources import REPORTED, MetricSource

LONGEST_LINE = 1 << 16
"""Characters of a line of output in which patterns are searched."""
_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_DIGIT = re.compile(r"\d")


@dataclass(frozen=True)
class Ended:
    """What there is to say about the metrics of a program that has ended."""

    values: tuple[Value, ...]
    """Points of the curves that no call before has given: the last lines of files may have no end."""
    closing: tuple[Value, ...]
    """Points after which the last value of each curve is the result; to be reported if the program has completed."""
    final: Mapping[str, float]
    """Results."""
    missing: Mapping[str, str]
    """Metric → why it has no value."""
    notes: Sequence[str]
    """Warnings, a line each."""


@dataclass(frozen=True)
class Again:
    """Steps that an attempt has reported although an earlier one had."""

    first: int
    last: int
    reports: int
    """Number of different steps."""


class MetricReader:
    """The metrics of one attempt at a task."""

    def __init__(
        self, sources: Sequence[MetricSource], out: Path, earlier: Iterable[Value] = (), anew: bool = False
    ) -> None:
        """Read these sources.

        Args:
            sources: with their words filled in.
            out: the task's folder of outputs.
            earlier: what earlier attempts have reported, in its order. Files are read from their beginnings, and
                steps up to the largest that was reported are not reported again.
            anew: the program begins at the beginning all the same: lines without steps are counted from 0.
        """
        before = defaultdict(list)
        for value in earlier:
            before[value.name].append(value)
        self._series = {source.name: Series(source, before[source.name], anew) for source in sources}
        self._output = _Output([series for series in self._series.values() if series.source.kind == "stdout"])
        self._reported = _Group(None, [series for series in self._series.values() if series.source.kind == REPORTED])
        self._groups = list(_grouped(self._series.values(), out))

    @property
    def diverged(self) -> Value | None:
        """The earliest value that is not finite, of the metrics that say `diverges: true`."""
        found = [series.diverged for series in self._series.values() if series.diverged]
        return min(found, key=lambda value: value.step, default=None)

    def begin(self) -> list[Value]:
        """Values that files hold before the program starts: all that comes after them is of this attempt."""
        found = self.poll()
        for series in self._series.values():
            series.begin()
        return found

    @property
    def restored(self) -> int | None:
        """The step from which this attempt has gone on; None: that is not known, or it began at the beginning."""
        found = [series.restored for series in self._series.values() if series.restored is not None]
        return min(found, default=None)

    @property
    def again(self) -> Again | None:
        """Steps that this attempt has computed and an earlier one had reported; None: there are none."""
        steps = {step for series in self._series.values() for step in series.again}
        return Again(min(steps), max(steps), len(steps)) if steps else None

    def line(self, text: str) -> list[Value]:
        """Values in one line of the program's output."""
        return list(self._output.line(text))

    def report(self, values: Mapping[str, object], step: int | None = None) -> list[Value]:
        """Values that the program itself has reported; without a step they count up."""
        return list(self._reported.take(Record(values, self._reported.records, REPORTED, step)))

    def poll(self) -> list[Value]:
        """Values that files hold since the last call."""
        return list(self._read(last=False))

    def finish(self) -> Ended:
        """The rest of what files hold, and the results; the program has ended."""
        values = tuple(self._read(last=True))
        final, missing, closing = {}, {}, []
        for name, series in self._series.items():
            result = series.final()
            if result is None:
                missing[name] = self._reason(series)
            else:
                final[name] = result
            if point := series.closing():
                closing.append(point)
        notes = [note for series in self._series.values() for note in series.notes()]
        notes += [note for group in self._groups if group.origin for note in group.origin.notes()]
        return Ended(values, tuple(closing), final, missing, notes)

    def _read(self, last: bool) -> Iterator[Value]:
        for group in self._groups:
            if group.origin:
                for record in group.origin.read(last):
                    yield from group.take(record)

    def _reason(self, series: Series) -> str:
        name = series.source.name
        if series.found:
            return f"{name}: {counted(series.found, 'value')}, none a number (first: {series.not_numbers()})"
        if series.source.kind == "stdout":
            return f"{name}: {self._output.reason(series.source.pattern)}"
        if series.source.kind == REPORTED:
            return f"{name}: {self._reported.reason(series.source.key)}"
        return f"{name}: {next(group for group in self._groups if series in group.series).reason(series.source.key)}"


class _Group:
    """Metrics that are read from the same records."""

    def __init__(self, origin: Origin | None, series: Sequence[Series]) -> None:
        self.origin, self.series = origin, series
        self.records = 0
        self._seen: set[str] = set()
        self._keys: dict[str, None] = {}

    def take(self, record: Record) -> Iterator[Value]:
        self.records += 1
        if len(self._keys) < MOST_KEYS and not record.fields.keys() <= self._seen:
            self._seen.update(record.fields)
            self._keys.update(dict.fromkeys(keys_of(record.fields)))
        for series in self.series:
            value = field_of(record.fields, series.source.key)
            if value is None or value == "":
                continue
            step: object = record.step
            number = record.number if self.origin else series.number + series.found
            if step is None and self.origin:
                step = field_of(record.fields, series.source.step)
            # Keras writes one list a metric.
            items = value if isinstance(value, list) and series.source.kind == "json" else [value]
            for index, item in enumerate(items):
                at = step[index] if isinstance(step, list) and index < len(step) else step
                point = series.add(item, at, number + index, record.part)
                if point:
                    yield point

    def reason(self, key: str) -> str:
        if self.origin and (absent := self.origin.absent()):
            return absent
        if not self.records:
            notes = f" ({'; '.join(self.origin.notes())})" if self.origin and self.origin.notes() else ""
            return f"{self.origin.place()} has no record{notes}" if self.origin else "the program reported nothing"
        had = f"{self.origin.place()} has {counted(self.records, 'record')}" if self.origin else ""
        had = had or f"the program reported {counted(self.records, 'time')}"
        return f"{had}, none with key '{key}'; {_nearest(key, self._keys)}"


class _Output:
    """Metrics in lines of the program's output, by regular expressions."""

    def __init__(self, series: Sequence[Series]) -> None:
        self._patterns: dict[str, tuple[re.Pattern[str], list[Series]]] = {}
        for one in series:
            pattern = one.source.pattern
            self._patterns.setdefault(pattern, (re.compile(pattern), []))[1].append(one)
        self._lines, self._likely = 0, ""

    def line(self, text: str) -> Iterator[Value]:
        """Values in a line; a progress bar's parts, which write over each other, are lines too."""
        text = text[:LONGEST_LINE]
        if "\x1b" in text:
            text = _COLOUR.sub("", text)
        for part in text.split("\r"):
            if not part or part.isspace():
                continue
            self._lines += 1
            if _DIGIT.search(part):
                self._likely = part
            for pattern, series in self._patterns.values():
                if found := pattern.search(part):
                    yield from self._take(found, series)

    def _take(self, found: re.Match[str], series: list[Series]) -> Iterator[Value]:
        step = found["step"] if "step" in found.re.groupindex else None
        for one in series:
            value = found[1 if one.source.key == "1" else one.source.key]
            if value is not None:
                point = one.add(value, step, one.number + one.found, "output")
                if point:
                    yield point

    def reason(self, pattern: str) -> str:
        if not self._lines:
            return f"the program printed nothing, so that '{pattern}' matches nothing"
        last = f"; the last with a number: '{self._likely.strip()[:120]}'" if self._likely else ""
        return f"'{pattern}' matches none of {counted(self._lines, 'line')} of output{last}"


def _grouped(series: Iterable[Series], out: Path) -> Iterator[_Group]:
    groups: dict[tuple[str, str, str], list[Series]] = {}
    for one in series:
        source = one.source
        if source.kind not in ("stdout", REPORTED):
            # A document without steps waits for the end of the program, so that the key of steps matters to it.
            groups.setdefault((source.kind, source.file, source.step if source.kind == "json" else ""), []).append(one)
    for (kind, file, step), members in groups.items():
        yield _Group(_origin(kind, file, step, out), members)


def _origin(kind: str, file: str, step: str, out: Path) -> Origin:
    if kind == "jsonl":
        return JsonLines(out, file)
    if kind == "csv":
        return Csv(out, file)
    if kind == "json":
        return Document(out, file, step)
    return EventFiles(out, file) if kind == "tensorboard" else MlflowStore(out, file)


def _nearest(key: str, keys: Iterable[str]) -> str:
    """The nearest key that there is, and some others."""
    names = list(keys)
    near = difflib.get_close_matches(key, names, n=1, cutoff=0.5)
    last_part = [name for name in names if re.split("[./]", name)[-1] == re.split("[./]", key)[-1]]
    if found := near or last_part:
        return f"nearest '{found[0]}'"
    return f"keys: {', '.join(names[:8])}" if names else "the records have no keys"
