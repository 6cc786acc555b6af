"""How an attempt at a task ended when it did not end in a record, and what that means for the next attempt."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ablative.study.core.errors import EXIT_OUT_OF_MEMORY, AblateError, Interrupted, is_out_of_memory
from ablative.study.core.files import NO_ROOM, write_atomic
from ablative.study.core.packages import source_name
from ablative.study.core.secrets import redact

RESUMABLE = (
    "interrupted",
    "killed",
    "preempted",
    "time limit",
    "node failure",
    "disk",
    "out of memory",
    "pruned",
)
"""Causes outside the code and the data: the next submission takes such a task again."""
CAUSES = (*RESUMABLE, "data", "code", "cancelled")

NODE_FAILURE = "node failure"
WORKER_FRAME = "sweeps/worker/task_process.py"
"""File of the frame that all exceptions of tasks pass through."""
VANISHED = ("killed", "its worker died without a word (killed, or the machine went down)")
"""Cause and message where nothing else is known."""

_TRACEBACK_CHARACTERS = 20_000
_MESSAGE_CHARACTERS = 2_000
_DISK_ERRORS = (*NO_ROOM, errno.EROFS)
_NODE_ERRORS = (errno.EIO, errno.ESTALE, errno.ESHUTDOWN)
"""A mount or a disk that this machine has lost."""
_NODE_WORDS = (
    "uncorrectable ECC error",
    "uncorrectable NVLink error",
    "CUDA-capable device(s) is/are busy or unavailable",
    "no CUDA-capable device is detected",
    "system not yet initialized",
    "has fallen off the bus",
    "GPU is lost",
)
"""What the CUDA runtime and NVML say of a GPU that another node would not have trouble with (`cudaError_t`)."""


@dataclass(frozen=True)
class Failure:
    """Content of `failure.json`, without what the worker adds (time, snapshot, attempt)."""

    cause: str
    type: str
    message: str
    fingerprint: str
    """Equal for failures at the same place of the code, whatever values and addresses they carry."""
    traceback: str
    lacks: str = ""
    """Path of the file that was not there; empty: it is no failure of that kind."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def from_exception(error: BaseException, trained_by: Sequence[str] = ()) -> Failure:
    """Failure that an exception means; `trained_by`: the trainer's packages, whose functions the fingerprint counts."""
    name = type(error).__name__
    text = redact("".join(traceback.format_exception(error)))
    return Failure(
        cause=_cause(error),
        type=name,
        message=redact(str(error))[:_MESSAGE_CHARACTERS],
        fingerprint=fingerprint(error, trained_by),
        traceback=text if len(text) <= _TRACEBACK_CHARACTERS else "…" + text[-_TRACEBACK_CHARACTERS:],
        lacks=getattr(error, "lacks", ""),
    )


def from_exit(status: int, out_of_memory: bool) -> Failure:
    """Failure of a task process that ended without reporting an exception.

    Args:
        status: as `os.waitpid` reports it.
        out_of_memory: the control group's out-of-memory kill counter rose meanwhile.
    """
    code = os.waitstatus_to_exitcode(status)
    name = signal.Signals(-code).name if code < 0 else f"exit {code}"
    if name == "SIGKILL" and out_of_memory:
        cause, message = "out of memory", "the kernel killed the process: its control group ran out of memory"
    elif code == EXIT_OUT_OF_MEMORY:
        cause, message = "out of memory", "a process of the run ran out of memory; see its log"
    elif name in ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP"):
        cause, message = "killed", f"the process was killed ({name})"
    else:
        # A crash of the interpreter (SIGSEGV, SIGBUS, SIGABRT) or an exit from below: the code is at fault.
        cause, message = "code", f"the process ended with {name} and no Python exception; see its log"
    return Failure(cause, name, message, _digest([name]), "")


def write_failure(path: Path, failure: Failure, **facts: Any) -> None:
    """`failure.json`: how the attempt ended, plus the worker's facts (time, snapshot, job, node)."""
    write_atomic(path, json.dumps({**failure.to_json(), **facts}, indent=1) + "\n")


def fingerprint(error: BaseException, trained_by: Sequence[str] = ()) -> str:
    """Hash over the exception's type and the functions of our code, and of the trainer's, that it passed through.

    Frames of libraries, line numbers, messages and addresses are left out, so that the same mistake in two
    cells, or before and after an unrelated edit, counts as one. Without a frame of such code, all frames count.
    """
    # A program that ran in another process says itself where it failed.
    if said := getattr(error, "places", None):
        return _digest([type(error).__qualname__, *said])
    frames = [(Path(frame.filename), frame.name) for frame in traceback.extract_tb(error.__traceback__)]
    # The worker's own frame, which all failures share, says nothing and does not count as ours.
    named = [(source_name(path, trained_by), name) for path, name in frames]
    own = [f"{file}:{name}" for file, name in named if file not in ("", WORKER_FRAME)]
    places = own or [f"{path.name}:{name}" for path, name in frames]
    return _digest([type(error).__qualname__, *places])


def _cause(error: BaseException) -> str:
    if isinstance(error, Interrupted):
        return "interrupted"
    if is_out_of_memory(error):
        return "out of memory"
    numbers = {link.errno for link in _chain(error) if isinstance(link, OSError)}
    if numbers & set(_DISK_ERRORS):
        return "disk"
    if numbers & set(_NODE_ERRORS) or any(words in str(error) for words in _NODE_WORDS):
        return NODE_FAILURE
    return getattr(error, "cause", "code") if isinstance(error, AblateError) else "code"


def _chain(error: BaseException) -> list[BaseException]:
    """The exception and those it was raised from."""
    links = [error]
    while (link := links[-1].__cause__ or links[-1].__context__) is not None and link not in links:
        links.append(link)
    return links


def _digest(parts: list[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
