"""What a job prints beside its tasks' logs."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TextIO


def say(text: str, stream: TextIO | None = None) -> None:
    """Print at once. Where the disk takes no more words, the work goes on without them."""
    with suppress(OSError):
        print(text, file=stream or sys.stdout, flush=True)


def flush_output() -> None:
    """Before a process ends: what was printed is out, as far as the disk takes it."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
