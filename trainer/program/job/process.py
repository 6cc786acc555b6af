"""A user's program as a child process: its output line by line, and its end, also when this process is killed."""

from __future__ import annotations

import codecs
import functools
import os
import re
import select
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

LONGEST_LINE = 1 << 16
"""Characters of a line that are looked at; what follows is kept in the log alone."""
KEPT_OUTPUT = 256 << 20
"""Bytes of output that a task's log takes; what follows is read for metrics and dropped."""
_READ = 1 << 16
MARK = "ABLATE_ATTEMPT"
"""Variable of the environment of one attempt at a task and of whatever it starts."""


class Child:
    """A running program, with all processes that it starts."""

    def __init__(self, command: Sequence[str], cwd: Path, env: Mapping[str, str], log: int = 1) -> None:
        """Start the program in a new session; its output and its errors go to one stream.

        Args:
            command: program and arguments.
            cwd: folder that it runs in.
            env: its whole environment.
            log: descriptor of the file that keeps its output.

        Raises:
            OSError: it cannot be started.
        """
        # Of this attempt alone: the guard of one that was killed may still look for processes when the next begins.
        attempt = uuid.uuid4().hex
        self._process = subprocess.Popen(
            list(command),
            cwd=cwd,
            env={**env, MARK: attempt},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # A scheduler may warn all processes of a job before its time limit: the manager stops the program then, as
            # the study says, and the warning alone would end it.
            preexec_fn=functools.partial(signal.signal, signal.SIGUSR2, signal.SIG_IGN),  # noqa: PLW1509 (it takes no lock)
        )
        self.pid = self._process.pid
        self._mark = f"{MARK}={attempt}".encode()
        self._guard = _Guard(self.pid, self._mark)
        assert self._process.stdout is not None
        self._output = self._process.stdout.fileno()
        os.set_blocking(self._output, False)
        self._log, self._kept = log, 0
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._rest = ""
        self._open = True

    def lines(self, seconds: float) -> list[str]:
        """Complete lines of its output; waits for some up to so many seconds. Progress bars end lines with \\r."""
        if not self._open:
            time.sleep(min(seconds, 0.05))
            return []
        if not select.select([self._output], [], [], seconds)[0]:
            return []
        with suppress(BlockingIOError):
            data = os.read(self._output, _READ)
            self._open = bool(data)
            self._keep(data)
            self._rest += self._decoder.decode(data, final=not data)
        *found, self._rest = re.split(r"\r\n|\r|\n", self._rest)
        if not self._open and self._rest:
            found, self._rest = [*found, self._rest], ""
        if len(self._rest) > LONGEST_LINE:
            self._rest = self._rest[:LONGEST_LINE]
        return [line[:LONGEST_LINE] for line in found]

    def _keep(self, data: bytes) -> None:
        """Write output to the log, up to a limit; where its disk is full, the program goes on."""
        if self._kept >= KEPT_OUTPUT:
            return
        with suppress(OSError):
            os.write(self._log, data)
        self._kept += len(data)
        if self._kept >= KEPT_OUTPUT:
            with suppress(OSError):
                os.write(self._log, f"\nablate: output after {KEPT_OUTPUT >> 20} MiB is not kept\n".encode())

    @property
    def ended(self) -> bool:
        """The program has ended, and its output is read; what it has left behind in the background does not count."""
        return self._process.poll() is not None and not (self._open and select.select([self._output], [], [], 0)[0])

    @property
    def status(self) -> int:
        """Exit status of the ended program; negative: the signal that ended it."""
        return int(self._process.wait())

    def signal(self, number: int) -> None:
        """Send a signal to the program and all of its processes."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def close(self) -> None:
        """Kill whatever is left of it."""
        self.signal(signal.SIGKILL)
        _kill_marked(self._mark)
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._guard.close()


class _Guard:
    """A process that kills the program's processes as soon as this one dies, however it dies.

    The kernel's own means (`study.core.processes.die_with_parent`) reach the program but not what it has started.
    """

    def __init__(self, group: int, mark: bytes) -> None:
        read, self._write = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                os.setsid()
                os.close(self._write)
                for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
                    signal.signal(number, signal.SIG_IGN)
                if not os.read(read, 1):
                    with suppress(ProcessLookupError):
                        os.killpg(group, signal.SIGKILL)
                    _kill_marked(mark)
            except OSError:
                pass
            finally:
                os._exit(0)
        os.close(read)

    def close(self) -> None:
        """End it without harm."""
        with suppress(OSError):
            os.write(self._write, b"x")
        os.close(self._write)
        with suppress(ChildProcessError):
            os.waitpid(self._pid, 0)


def _kill_marked(mark: bytes) -> None:
    """Kill all processes of an attempt, by its variable: those of `torchrun` have other sessions."""
    for _ in range(20):
        found = [int(name) for name in os.listdir("/proc") if name.isdigit() and _is_marked(name, mark)]
        for pid in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not found:
            return
        time.sleep(0.02)


def _is_marked(name: str, mark: bytes) -> bool:
    try:
        with open(f"/proc/{name}/environ", "rb") as file:
            return mark in file.read().split(b"\0")
    except OSError:
        return False


def follow(
    child: Child,
    line: Callable[[str], None],
    pause: Callable[[], None],
    stop: Callable[[], bool],
    number: int,
    grace: Callable[[], float],
) -> bool:
    """Read a program's output until it ends; stop it when asked.

    Args:
        child: the program.
        line: called with each line.
        pause: called about four times a second, and at the end.
        stop: whether it is to stop; asked as often.
        number: the signal that stops it.
        grace: seconds after which it is killed, asked when it is stopped.

    Returns:
        Whether it was asked to stop.
    """
    asked: float | None = None
    last, most = 0.0, 0.0
    while not child.ended:
        for text in child.lines(0.1):
            line(text)
        now = time.monotonic()
        if now - last >= 0.25:
            last = now
            pause()
            if asked is None and stop():
                asked, most = now, grace()
                child.signal(number)
            elif asked is not None and now - asked > most:
                child.signal(signal.SIGKILL)
    for text in child.lines(0):
        line(text)
    pause()
    return asked is not None
