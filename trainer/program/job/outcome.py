"""How a user's program ended: the last of its output, and the error that its end means."""

from __future__ import annotations

import itertools
import math
import os
import re
import signal
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from ablative.study.core.errors import AblateError, is_out_of_memory
from ablative.trainer.program.metrics.sources import MetricSource

KEPT_LINES = 60
_FRAME = re.compile(r'\s*File "(.+)", line \d+, in (.+)')
_RAISED = re.compile(r"([A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit|Warning))(?::|$)")
_RANK = re.compile(r"\[rank\d+\]: ?")
"""What torch writes before each line of a process's traceback."""
_FOLDERS = re.compile(r"(?<![\w/])\.{0,2}/(?:[^\s/'\"]+/)*")
"""The folders of a path that begins with `/` or `.`; other words with slashes are names."""
_VALUE = re.compile(r"\b(?:0x)?(?=\w*\d)[0-9a-f]{6,}\b|[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?", re.IGNORECASE)
_DISK = ("No space left on device", "Disk quota exceeded", "Read-only file system")
_MEMORY = re.compile(r"\b(?:OutOfMemoryError|MemoryError)\b|RESOURCE_EXHAUSTED: Out of memory")


class ProgramError(AblateError):
    """A user's program ended without what its stage has to leave."""

    cause = "code"

    def __init__(self, message: str, places: Sequence[str], cause: str = "code", lacks: str = "") -> None:
        """What a failure is made of.

        Args:
            message: for people.
            places: what this failure has in common with the same one elsewhere.
            cause: one of `failures.CAUSES`.
            lacks: path of the file that was not there.
        """
        super().__init__(message)
        self.places, self.cause, self.lacks = tuple(places), cause, lacks


class OutOfMemoryError(ProgramError):
    """A user's program ran out of memory; the name is what `study.core.errors.is_out_of_memory` goes by."""


class Tail:
    """The last lines of a program's output."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)

    def add(self, line: str) -> None:
        if line.strip():
            self.lines.append(line)

    @property
    def last(self) -> str:
        """The last line that says something."""
        return self.lines[-1].strip()[:500] if self.lines else ""

    @property
    def exception(self) -> str:
        """The exception of the last traceback, with the indented lines after it; empty: there is no traceback.

        Libraries print much after it: statistics at their end, advice, and launchers that a process of theirs failed.
        """
        lines = [_RANK.sub("", line) for line in self.lines]
        begin = next((number for number, line in enumerate(lines) if line.startswith("Traceback (most")), len(lines))
        raised = [number for number in range(begin, len(lines)) if _RAISED.match(lines[number])]
        own = [number for number in raised if "ChildFailedError" not in lines[number]] or raised
        if not own:
            return ""
        more = itertools.takewhile(lambda line: line[:1].isspace(), lines[own[-1] + 1 :])
        return " ".join(line.strip() for line in [lines[own[-1]], *more])[:500]

    def ending(self) -> str:
        """What it said last, for a message."""
        if not self.exception or self.exception == self.last:
            return f"its last line: {self.last or 'it printed nothing'}"
        return f"its exception: {self.exception}"

    def shown(self, most: int = 3) -> str:
        """The last lines, on one line."""
        found = [line.strip()[:200] for line in list(self.lines)[-most:]]
        return " | ".join(found) if found else "it printed nothing"

    def places(self) -> list[str]:
        """Functions and exception of the traceback that ends the output; else its last line without numbers."""
        lines = [_RANK.sub("", line) for line in self.lines]
        frames = [f"{Path(match[1]).name}:{match[2]}" for line in lines if (match := _FRAME.match(line))]
        raised = [match[1] for line in lines if (match := _RAISED.match(line))]
        if raised:
            return [raised[-1], *frames[-8:]]
        return [without_values(self.last)]


def failure(status: int, tail: Tail, name: str) -> ProgramError:
    """The error of a program that ended with a status other than 0.

    Args:
        status: negative: the signal that ended it.
        tail: of its output.
        name: of the stage, for the message.
    """
    how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
    message = f"{name}: the program ended with {how}; {tail.ending()}"
    if _ran_out_of_memory(tail):
        return OutOfMemoryError(message, tail.places(), "out of memory")
    if any(words in line for line in tail.lines for words in _DISK):
        return ProgramError(message, tail.places(), "disk")
    if status in (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGHUP, 128 + signal.SIGKILL, 128 + signal.SIGTERM):
        return ProgramError(message, [how], "killed")
    return ProgramError(message, tail.places())


def incomplete(missing: Sequence[str], tail: Tail, name: str) -> ProgramError:
    """The error of a program that ended with status 0 and without what it has to leave."""
    first = "; ".join(missing[:3]) + (f"; and {len(missing) - 3} more" if len(missing) > 3 else "")
    message = f"{name}: the program ended with exit status 0, but {first}; its last lines: {tail.shown()}"
    return ProgramError(message, ["incomplete", *map(without_values, missing)])


def without_values(text: str) -> str:
    """A message less what differs between tasks that fail of one thing: folders, ids and numbers."""
    return _VALUE.sub("#", _FOLDERS.sub("", text))


def cannot_start(program: str, cwd: Path, error: OSError) -> ProgramError:
    """The error of a command that this machine lacks."""
    here = cwd.is_dir()
    what = f"{program}: {error.strerror or error}" if here else f"no folder {cwd}"
    places, lacks = ["start", type(error).__name__], program if here else str(cwd)
    return ProgramError(f"the program cannot be started: {what}", places, lacks=lacks if os.sep in lacks else "")


def stopped(status: int, grace: float) -> str:
    """How a program that was asked to stop has ended."""
    if status == -signal.SIGKILL:
        return f"killed, as it went on for {grace:g} s after it was asked to stop"
    return f"stopped (exit status {status})" if status >= 0 else f"stopped by {signal.Signals(-status).name}"


def not_a_number(final: Mapping[str, float], sources: Iterable[MetricSource], full: Callable[[str], str]) -> str:
    """The first final value that is no finite number, of a metric of which one is better or that is said to diverge."""
    for source in sources:
        value = final.get(full(source.name))
        if value is not None and not math.isfinite(value) and (source.diverges or source.better):
            return full(source.name)
    return ""


def variable(stage: str) -> str:
    """A stage's name as part of a variable's."""
    return re.sub(r"\W", "_", stage).upper()


def gpu_name() -> str:
    """Name of the first GPU, as the driver's files have it; torch is not asked."""
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        for line in path.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "Model":
                return value.strip()
    return "GPU"


def _ran_out_of_memory(tail: Tail) -> bool:
    return any(_MEMORY.search(line) or is_out_of_memory(RuntimeError(line)) for line in tail.lines)
