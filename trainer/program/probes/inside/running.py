"""Runs a program until a server takes over inside of it, and answers requests from there.

The program runs as it would by hand: as `__main__`, with its folder first in `sys.path` and its words in `sys.argv`.
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import io
import json
import os
import runpy
import signal
import sys
import traceback
import types
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn, Protocol

from ablative.trainer.program.probes.inside.command_line import CommandLine
from ablative.trainer.program.probes.inside.used import Used

if TYPE_CHECKING:
    Message = dict[str, object]


class Serving(Protocol):
    """A kind of probe inside the program."""

    def __init__(self, session: Session) -> None: ...

    def run(self, request: Message) -> None:
        """Run the program up to `Session.branch`; what is raised before is the answer."""
        ...


class Session:
    """Requests and answers: one JSON object a line, through pipes that the program does not know of."""

    def __init__(self, requests: int, answers: int, used: Used) -> None:
        for pipe in (requests, answers):
            os.set_inheritable(pipe, False)
        self._requests = os.fdopen(requests, "r", encoding="utf-8")
        self._answers = answers
        self.used = used
        self.first = json.loads(self._requests.readline())
        self.forked = False
        self.errors = io.StringIO()
        """What a forked process wrote to standard error."""

    def branch(self, quick: Callable[[Message], Message] | None = None) -> Message:
        """Answer requests to the end; returns in a forked process, with the request that it has to answer.

        Args:
            quick: answers here, where that leaves no trace.
        """
        signal.alarm(0)
        self._send({"reached": self.used.collected(), "path": sys.path})
        request: Message | None = self.first
        while request is not None:
            if not self._suits(request):
                self._send({"restart": True})
            elif quick is not None:
                self._send({**quick(request), "used": {}})
            elif self._forks():
                return request
            line = self._requests.readline()
            request = json.loads(line) if line else None
        os._exit(0)

    def _suits(self, request: Message) -> bool:
        """Whether the program has come the same way as for the first request."""
        line = sys.argv
        if request is self.first or "arguments" not in request:
            return True
        if not isinstance(line, CommandLine):  # the program has put another list in its place
            return False
        line.recording = False
        return line.same_way(list(request["arguments"]))  # type: ignore[call-overload]

    def _forks(self) -> bool:
        """True in a new process; False here, when that has answered."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a fork while a library of the program's has threads
            child = os.fork()
        if child == 0:
            self.forked = True
            sys.stderr = self.errors
            return True
        try:
            _, status = os.waitpid(child, 0)
        except ChildProcessError:  # the program has the kernel collect its children
            status = 0
        if status != 0:
            self._send({"died": status})
        return False

    def reply(self, message: Message) -> NoReturn:
        """Answer, and end the process."""
        with contextlib.suppress(OSError, ValueError, AttributeError):  # the program may have closed it
            sys.stdout.flush()
        self._send({**message, "used": self.used.collected()})
        os._exit(0)

    def refuse(self, text: str) -> NoReturn:
        """End a program that cannot be asked, before it comes to its work."""
        self.fail(text, ended=True, refused=True)

    def parsed_by(self, library: str) -> NoReturn:
        self.refuse(
            f"it has {library} parse its command line, and its configuration cannot be read; declare the values in the "
            "study instead, `config: {key: value}`"
        )

    def fail(self, text: str, **more: object) -> NoReturn:
        self.reply({"error": text, **more})

    def _send(self, message: Message) -> None:
        data = json.dumps(message).encode() + b"\n"
        while data:
            data = data[os.write(self._answers, data) :]


def main(kind: Callable[[Session], Serving], requests: int, answers: int, seconds: int, elsewhere: bool) -> None:
    """Serve the requests.

    Args:
        kind: of the probe.
        requests: file descriptor.
        answers: file descriptor.
        seconds: after which the process ends unless `Session.branch` was reached.
        elsewhere: with another number of processor cores than the machine has.
    """
    used = Used()
    session = Session(requests, answers, used)
    if elsewhere:
        _pretend_cores()
    # Whatever happens to the process that asks, this one ends.
    signal.alarm(seconds)
    server = kind(session)
    used.start()
    try:
        server.run(session.first)
    except SystemExit as end:
        session.fail(_of_exit(end, session.errors.getvalue()), ended=not session.forked)
    except BaseException as error:
        session.fail(describe(error), ended=not session.forked)
    session.fail("", ended=not session.forked)


def _pretend_cores() -> None:
    known = os.cpu_count() or 1
    os.cpu_count = lambda: 1 if known > 1 else 2
    if hasattr(os, "sched_setaffinity"):
        # A container may forbid it; `cpu_count` differs all the same.
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def _of_exit(end: SystemExit, errors: str) -> str:
    """What a program said that has ended itself; empty: its output has it."""
    if isinstance(end.code, str):
        return end.code
    return errors.strip()


def describe(error: BaseException) -> str:
    """An exception on one line, with the innermost place that is not in a library."""
    frames = traceback.extract_tb(error.__traceback__)
    used = Used()
    users = [frame for frame in frames if used.is_users(os.path.abspath(frame.filename)) and frame.filename[0] != "<"]
    text = " ".join(str(error).split())
    place = f"{os.path.relpath(users[-1].filename)}:{users[-1].lineno}: " if users else ""
    if isinstance(error, SyntaxError) and error.filename:
        place = f"{os.path.relpath(error.filename)}:{error.lineno}: "
        text = error.msg or text
    return place + type(error).__name__ + (": " + text if text else "")


def run_program(target: list[str], arguments: list[str], session: Session) -> None:
    """Run `python TARGET ARGUMENTS` in this process."""
    first = target[0]
    module = first == "-m"
    if not getattr(sys.flags, "safe_path", False) and not sys.flags.isolated:
        sys.path[0] = os.getcwd() if module else os.path.dirname(os.path.realpath(first))
    sys.argv = CommandLine([target[-1], *arguments], session.used.is_users, session.parsed_by)
    if module:
        runpy.run_module(target[1], run_name="__main__", alter_sys=True)
    elif os.path.isdir(first):
        runpy.run_path(first, run_name="__main__")
    else:
        run_script(first)


def run_script(path: str) -> None:
    """Run a script as the interpreter does: in `sys.modules` it is `__main__`, to the end of the process."""
    main_module = types.ModuleType("__main__")
    main_module.__file__ = os.path.abspath(path) if sys.version_info >= (3, 9) else path
    main_module.__loader__ = importlib.machinery.SourceFileLoader("__main__", path)
    sys.modules["__main__"] = main_module
    with io.open_code(os.path.abspath(path)) as file:
        code = compile(file.read(), main_module.__file__, "exec")
    exec(code, vars(main_module))
