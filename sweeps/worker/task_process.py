"""One task in a forked process: the job survives whatever the task does to itself.

The job imports the trainer's code once and forks for every task, which saves some four seconds of
imports a task where that is torch. For this the job itself must start no threads and must not touch a GPU.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablative.study import installed_trainers
from ablative.study.core.damage import set_aside
from ablative.study.core.errors import Interrupted, exit_code
from ablative.study.core.extras import MissingExtraError, missing_extra
from ablative.study.core.processes import die_with_parent
from ablative.study.core.registry import load
from ablative.study.core.secrets import redact
from ablative.study.home.paths import Home
from ablative.study.plan.task import TaskRef
from ablative.study.trainers import JobTask
from ablative.sweeps.queue import failures
from ablative.sweeps.queue.manifest import Manifest
from ablative.sweeps.worker.print_safely import flush_output

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)
"""Cancelled or preempted, interrupted, and Submitit's warning before the time limit."""

Stop = Callable[[], bool]
"""True once the task is to save and end."""
Perform = Callable[[TaskRef, Stop], None]
"""Runs a task of the queue to its end."""

_OOM_SCORE = "500"


@dataclass(frozen=True)
class Child:
    """A running task."""

    pid: int
    report: int
    """Descriptor that an exception's description can be read from, as JSON."""

    def signal(self, number: int) -> None:
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return

    def kill(self) -> None:
        """Kill the task and what it started."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            self.signal(signal.SIGKILL)

    def ended(self) -> int | None:
        """Wait status, once the task has ended."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        return status if pid else None


@dataclass(frozen=True)
class Entry:
    """What a submission's jobs call for each task."""

    home: Home
    trainer: str
    trained_by: tuple[str, ...]
    """The trainer's packages, whose functions a failure's fingerprint counts."""
    execute: Callable[[JobTask], None]

    @classmethod
    def of(cls, queue: Manifest, home: Home) -> Entry:
        """Import the entry.

        Where its module needs an extra that is not installed, it raises MissingExtraError: each task fails with the
        line that names the extra, as with any other fault of the code.
        """
        return cls.load(home, queue.trainer, queue.entry)

    @classmethod
    def load(cls, home: Home, trainer: str, entry: str) -> Entry:
        """`of`, for a trainer and its entry (`module:function`)."""
        try:
            execute = load(entry)
        except ModuleNotFoundError as error:
            missing = missing_extra(error)
            if missing is None:
                raise
            execute = _lacking(missing)
        return cls(home, trainer, tuple(installed_trainers.trainer(trainer).packages), execute)

    def perform(self, task: TaskRef, stop: Stop) -> None:
        """Run a task to its end."""
        self.execute(task.job(self.home, self.trainer, task.name, stop))


def _lacking(error: MissingExtraError) -> Callable[[JobTask], None]:
    def fail(job: JobTask) -> None:
        raise error

    return fail


def start(log: Path, run: Callable[[Stop], None], trained_by: Sequence[str]) -> Child:
    """Fork a process that calls `run` and exits.

    Args:
        log: file that its output goes to.
        run: called with what says whether a stop signal has come.
        trained_by: the trainer's packages.
    """
    read, write = os.pipe()
    os.set_blocking(read, False)
    parent = os.getpid()
    # A signal between the fork and the child's own handlers would run the worker's handlers in the child.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        pid = os.fork()
        if pid == 0:
            _run(parent, write, log, run, trained_by)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    os.close(write)
    return Child(pid, read)


def _run(parent: int, report: int, log: Path, run: Callable[[Stop], None], trained_by: Sequence[str]) -> None:
    """The child's whole life; never returns."""
    code = 1
    try:
        stopping = _prepare(parent, log)
        run(lambda: bool(stopping))
        code = 0
    except BaseException as error:
        code = exit_code(error)
        _tell(report, error, trained_by)
    finally:
        flush_output()
        # Not sys.exit: the worker's cleanup (and pytest's) is not ours to run.
        os._exit(code)


def _prepare(parent: int, log: Path) -> list[int]:
    """Tie the child's life to the worker's; output to the log. Returns the list that stop signals fill."""
    os.setpgid(0, 0)
    signal.set_wakeup_fd(-1)
    stopping: list[int] = []
    for number in STOP_SIGNALS:
        signal.signal(number, lambda received, _frame: stopping.append(received))
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    if not die_with_parent(parent):
        os._exit(1)
    _prefer_oom_kill()
    if log.is_dir():
        set_aside(log, "a folder")
    for descriptor, path in ((0, Path(os.devnull)), (1, log), (2, log)):
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), line_buffering=True)
    sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), line_buffering=True)
    return stopping


def _prefer_oom_kill() -> None:
    """When memory runs out the kernel should kill the task and not the worker, which then says so."""
    try:
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
    except OSError:
        print("oom_score_adj cannot be set: out of memory may kill the worker instead of the task", file=sys.stderr)


def _tell(report: int, error: BaseException, trained_by: Sequence[str]) -> None:
    # A program that failed has said why itself: its output ends the log, and no frames of ours.
    if not isinstance(error, Interrupted) and not hasattr(error, "places"):
        # Where the log's disk is full, the report is what counts.
        with suppress(OSError):
            print(redact("".join(traceback.format_exception(error))), end="", file=sys.stderr)
    message = json.dumps(failures.from_exception(error, trained_by).to_json()).encode()
    while message:
        message = message[os.write(report, message) :]


def read_report(data: bytes) -> failures.Failure | None:
    """The failure that the child reported before it ended, or None where it reported none."""
    try:
        fields: dict[str, Any] = json.loads(data)
    except ValueError:
        return None
    return failures.Failure(**fields)


def out_of_memory_kills() -> int:
    """Kernel's count of out-of-memory kills in this process's control group (of the machine, without one)."""
    for path in _memory_events():
        try:
            lines = path.read_text().splitlines()
        except OSError:
            continue
        counts = dict(line.split(maxsplit=1) for line in lines)
        if "oom_kill" in counts:
            return int(counts["oom_kill"])
    return 0


def _memory_events() -> list[Path]:
    """Files that have the count, the best first: control groups version 2, then 1, then the whole machine."""
    found = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, group = line.split(":", 2)
        if not controllers:
            found.append(Path(f"/sys/fs/cgroup{group}/memory.events"))
        elif "memory" in controllers.split(","):
            found.append(Path(f"/sys/fs/cgroup/memory{group}/memory.oom_control"))
    return [*found, Path("/proc/vmstat")]
