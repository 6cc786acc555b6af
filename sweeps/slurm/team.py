"""The processes of a run on the nodes of an element: how they come together, run after run.

`srun` starts one process for each, on all nodes. The first (SLURM_PROCID 0) is the element, and works through its
tasks as every element does; the others follow it. A follower connects to the element and waits. When the element
comes to a task that several processes share, it sends it to its followers, and all work on it, with SLURM's numbers
as torch's ranks (`process_group`). Other tasks are the element's own. A connection lasts as long as the task: who
loses it knows that the task has ended at the other end.

What `srun` has started stays, so that a run costs no new imports, and signals reach every process of a run, which is
as it should be: whichever hears of it first, all of them save.
"""

from __future__ import annotations

import functools
import json
import os
import random
import re
import select
import signal
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any

from ablative.study.core.errors import Interrupted
from ablative.study.core.registry import END_LIKE, PEER_LOST, load
from ablative.study.home.paths import Home, SubmissionPaths
from ablative.study.plan.task import TaskRef
from ablative.sweeps.queue import manifest
from ablative.sweeps.worker import task_process
from ablative.sweeps.worker.task_process import Child, Entry, Perform, Stop
from ablative.sweeps.worker.wakeup import drain

PORT = "ABLATE_TEAM_PORT"
"""Variable with the port on which the element listens; the batch script sets it, and `srun` passes it on."""
PORTS = range(20_000, 32_000)
"""Below those that connections take by themselves."""
MEET_SECONDS = 600.0
"""How long to wait for a process that `srun` has started: the last node may import from a slow file system."""
PATIENCE = 20.0
"""Seconds in which a follower's part of a run that has ended elsewhere may end by itself."""
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Position:
    """One process among those that `srun` has started."""

    rank: int
    size: int
    local_rank: int
    """Number on its node: which GPU it takes."""
    host: str
    """Address of the first process's node."""
    port: int
    job: str

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Position | None:
        """None for a process that is the only one."""
        if environment.get("SLURM_NTASKS", "1") == "1" or PORT not in environment:
            return None
        rank, size, local = (int(environment[name]) for name in ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"))
        return cls(rank, size, local, first_host(environment), int(environment[PORT]), environment["SLURM_JOB_ID"])

    def variables(self, port: int) -> dict[str, str]:
        """torch's, for a meeting at this port of the first node (`trainer.torch.process_group.VARIABLES`)."""
        values = (self.rank, self.size, self.local_rank, self.host, port)
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
        return {name: str(value) for name, value in zip(names, values, strict=True)}


def first_host(environment: Mapping[str, str]) -> str:
    """The first node of the job, which has the process of rank 0: by name, or where names mean nothing, by address."""
    match = re.match(r"([^,\[\]]+)(?:\[(\d+)[^\]]*\])?([^,\[\]]*)", environment["SLURM_JOB_NODELIST"])
    assert match is not None, environment["SLURM_JOB_NODELIST"]
    name = "".join(part or "" for part in match.groups())
    try:
        socket.getaddrinfo(name, None)
    except socket.gaierror:
        return environment.get("SLURM_LAUNCH_NODE_IPADDR", name)
    return name


def free_port() -> int:
    """A port of this machine that no process uses at the moment."""
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return port
    raise OSError(f"no port from {PORTS.start} to {PORTS.stop} is free")


class Leader:
    """The element's side."""

    def __init__(self, position: Position, home: Home) -> None:
        self.position, self._home = position, home
        self._listener = socket.create_server(("", position.port), backlog=position.size)
        self._listener.settimeout(POLL_SECONDS)

    def leading(self, perform: Perform) -> Perform:
        """`perform` that brings the followers in, where processes share the task; for a process of the task's own."""

        def together(task: TaskRef, stop: Stop) -> None:
            if task.processes == 1 or task.paths(self._home).record.exists():
                perform(task, stop)
                return
            port, done = free_port(), threading.Event()
            followers = self._gather(stop)
            for link in followers.values():
                link.sendall(_line({"task": task.to_json(), "port": port}))
            threading.Thread(target=_watch, args=(followers, done), daemon=True).start()
            os.environ.update(self.position.variables(port))
            try:
                perform(task, stop)
            finally:
                done.set()

        return together

    def _gather(self, stop: Stop) -> dict[int, socket.socket]:
        """A connection to each follower, by rank."""
        found: dict[int, socket.socket] = {}
        deadline = time.monotonic() + MEET_SECONDS
        while len(found) < self.position.size - 1:
            if stop():
                raise Interrupted("stopped before the processes of the run had come together")
            if time.monotonic() > deadline:
                missing = sorted({*range(1, self.position.size)} - set(found))
                where = f"port {self.position.port} of {self.position.host}"
                raise load(PEER_LOST)(f"processes {missing} of the run did not come to {where} in {MEET_SECONDS:.0f} s")
            try:
                link, _ = self._listener.accept()
            except TimeoutError:
                continue
            # A stranger's connection (networks are scanned) says nothing, or something else.
            link.settimeout(POLL_SECONDS)
            said = _read(link)
            link.settimeout(None)
            if said is not None and said.get("job") == self.position.job:
                found[int(said["rank"])] = link
        return found


def _watch(followers: Mapping[int, socket.socket], done: threading.Event) -> None:
    """End this process as a follower's part of the run ended, where that was no good end."""
    ranks = {link: rank for rank, link in followers.items()}
    while ranks:
        for link in select.select(list(ranks), [], [])[0]:
            said, rank = _read(link), ranks.pop(link)
            if said is not None and said["code"]:
                load(END_LIKE)(rank, int(said["code"]), done)


class Follower:
    """Another process than the first: works on what the element shares with it, and ends when that is gone."""

    def __init__(self, home: Home, submission: SubmissionPaths, position: Position) -> None:
        self._child: Child | None = None
        for stop in task_process.STOP_SIGNALS:
            signal.signal(stop, self._on_signal)
        queue = manifest.require(submission)
        self.home, self.position = home, position
        first = submission.output("{SLURM_ARRAY_JOB_ID}_{SLURM_ARRAY_TASK_ID}".format_map(os.environ))
        # Submitit's name for what a process prints ends with its rank.
        self.output = first.with_name(first.name.replace("_0_log", f"_{position.rank}_log"))
        self.entry = Entry.of(queue, home)
        self._met = False

    def run(self) -> int:
        """Follow from run to run; the exit code."""
        while (link := self._connect()) is not None:
            with link:
                order = _read(link)
                if order is not None:
                    self._follow(TaskRef.from_json(order["task"]), order["port"], link)
        return 0

    def _connect(self) -> socket.socket | None:
        """Connect to the element; None when the element was there once and has ended."""
        deadline = time.monotonic() + MEET_SECONDS
        while time.monotonic() < deadline:
            try:
                link = socket.create_connection((self.position.host, self.position.port), timeout=MEET_SECONDS)
                link.settimeout(None)
                link.sendall(_line({"job": self.position.job, "rank": self.position.rank}))
            except ConnectionRefusedError:
                if self._met:
                    return None
            except OSError as error:
                print(f"process {self.position.rank}: {self.position.host}: {error}", flush=True)
            else:
                self._met = True
                return link
            time.sleep(POLL_SECONDS)
        raise TimeoutError(f"nothing listens at port {self.position.port} of {self.position.host}")

    def _follow(self, task: TaskRef, port: int, link: socket.socket) -> None:
        """Do this process's part of one task, in a forked process; its log is another node's to write."""
        os.environ.update(self.position.variables(port))
        run = functools.partial(self.entry.perform, task)
        running = self._child = task_process.start(self.output, run, self.entry.trained_by)
        gone, report = 0.0, b""
        while (status := running.ended()) is None:
            report += drain(running.report)
            if gone:
                time.sleep(POLL_SECONDS)
            elif select.select([link], [], [], POLL_SECONDS)[0]:
                # Nothing is ever said to a follower that follows: the element's part has ended.
                gone = time.monotonic()
            if gone and time.monotonic() > gone + PATIENCE:
                running.kill()
        self._child = None
        found = task_process.read_report(report + drain(running.report))
        os.close(running.report)
        stopped = found is not None and found.cause == "interrupted"
        try:
            link.sendall(_line({"code": 0 if stopped else os.waitstatus_to_exitcode(status)}))
            # Until it has ended there, too.
            link.recv(1)
        except ConnectionError:
            return

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        """Pass a signal on to the run, which saves in all its processes; the scheduler ends this process."""
        if self._child is not None:
            self._child.signal(number)


def _line(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


def _read(link: socket.socket) -> dict[str, Any] | None:
    """The next message; None when there is none, or when it is no message of ours."""
    data = b""
    try:
        while not data.endswith(b"\n"):
            chunk = link.recv(4096)
            if not chunk:
                return None
            data += chunk
        found = json.loads(data)
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


if __name__ == "__main__":
    print(free_port())
