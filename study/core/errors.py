"""The one family of errors that `ablate` shows to its users on one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AblateError(Exception):
    """A problem that the user can mend: its text says what was found and what is allowed."""

    exit_code = 1


class ConfigError(AblateError):
    """A study, configuration or override that cannot be run as written."""

    exit_code = 2


class DataError(AblateError):
    """Training or evaluation data that is missing, broken or of the wrong layout."""

    cause = "data"


class LostOutputError(DataError):
    """What a finished task left is gone or damaged: the task is to be run again, and then what needs it."""

    cause = "interrupted"


class UnfitDataError(ConfigError):
    """Data without what a configuration asks of them: fewer samples, no such label, no captions."""

    cause = "data"


class AbsentDataError(DataError):
    """Data that is not on this machine: a study can be planned without it, and not run."""


class StoreError(AblateError):
    """The tracking store or the home directory cannot be read or written."""


class Interrupted(Exception):
    """A task was asked to stop, has saved what it needs to go on, and ends."""


EXIT_OUT_OF_MEMORY = 71
"""Exit code of a task's process that ran out of memory: what ends because of it can say so when it can say no more."""

_MEMORY_WORDS = (
    "can't allocate memory",
    "CUDA error: out of memory",
    "Cuda failure 2 'out of memory'",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
)
"""What the allocators of torch's CPU side, CUDA, NCCL and CUDA's libraries say in a plain RuntimeError."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether there was too little memory, of the host or of a GPU."""
    # By name, so that nothing here imports torch: torch.OutOfMemoryError and torch.cuda.OutOfMemoryError.
    if isinstance(error, MemoryError) or any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _MEMORY_WORDS)


def exit_code(error: BaseException) -> int:
    """The exit code of a process that ends because of `error`."""
    return EXIT_OUT_OF_MEMORY if is_out_of_memory(error) else 1


MANY = 40
"""Names beyond which an error lists the nearest `FEW` only."""
FEW = 8


def unknown(kind: str, found: str, allowed: Iterable[str], where: str = "") -> str:
    """Message for a name that does not exist, with the nearest valid one.

    >>> unknown("pooling", "gpa", ["map", "gap", "max"])
    "unknown pooling 'gpa'; did you mean 'gap'? (allowed: gap, map, max)"
    >>> unknown("row", "0.2, wid", ["0.2, wide", "0.4"])
    "unknown row '0.2, wid'; did you mean '0.2, wide'? (allowed: '0.2, wide', 0.4)"
    """
    names = sorted({str(name) for name in allowed})
    near = difflib.get_close_matches(str(found), names, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    if alike := [name for name in names if _value(name) == _value(str(found)) is not None]:
        hint = f"; '{alike[0]}' without quotes is read as {found}: write it in quotes"
    prefix = f"{where}: " if where else ""
    listed = ", ".join(f"'{name}'" if "," in name else name for name in names) if names else "none"
    if len(names) > MANY:
        nearest = difflib.get_close_matches(str(found), names, n=FEW, cutoff=0.0)
        listed = f"{len(names)} names, among them {', '.join(sorted(nearest))}"
    return f"{prefix}unknown {kind} '{found}'{hint} (allowed: {listed})"


def _value(name: str) -> float | str | None:
    """The number or the truth value that YAML reads where this name has no quotes; None: a text."""
    if name.lower() in _TRUTH:
        return _TRUTH[name.lower()]
    try:
        return float(name)
    except ValueError:
        return None


_TRUTH = {"yes": "true", "on": "true", "true": "true", "no": "false", "off": "false", "false": "false"}
