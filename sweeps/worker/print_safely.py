"""Printing of a job to its output, which a full disk must not end."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TextIO


def say(text: str, stream: TextIO | None = None) -> None:
    """Print a line and flush it; on a full disk the line is lost and the work goes on."""
    with suppress(OSError):
        print(text, file=stream or sys.stdout, flush=True)


def flush_output() -> None:
    """Flush standard output and error before a process ends; a full disk is no error."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
