"""Sleep that a signal, or the end of a child, cuts short."""

from __future__ import annotations

import os
import select
import signal


class Alarm:
    """Python writes the number of every signal that has a handler into a pipe, which the sleep watches."""

    def __init__(self) -> None:
        self._wake, wakes = os.pipe()
        for end in (self._wake, wakes):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
        # A handler, if an empty one, makes the end of a child wake us.
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)

    def wait(self, seconds: float) -> None:
        """Sleep, but wake at once when a child ends or a signal comes."""
        select.select([self._wake], [], [], seconds)
        drain(self._wake)

    def close(self) -> None:
        signal.set_wakeup_fd(-1)


def drain(descriptor: int) -> bytes:
    """Whatever can be read without waiting."""
    data = b""
    try:
        while chunk := os.read(descriptor, 65536):
            data += chunk
    except BlockingIOError:
        return data
    return data
