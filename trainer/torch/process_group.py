"""Brings the processes of a run together, and sees to it that they end together.

A scheduler starts them itself (`srun`: `sweeps.slurm.team`) and describes each by torch's standard variables RANK,
WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT. Without these, `runtime.processes` says how many there are on this
machine: the process that was asked to train is rank 0, whose files, signals and errors are those of a run on one
process, and forks the others. That takes no time, and is safe where it happens: before the task has touched a GPU,
started a thread or computed a gradient.

A failure of one process ends all. An exception is passed on to rank 0 through the store at which they met, and is
raised there; a killed process takes rank 0 with it by the same signal, so that the task's worker sees the
cause; and the others follow rank 0 into its end, whatever that was.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import NoReturn

import torch
import torch.distributed as dist

from ablative.study.core.errors import EXIT_OUT_OF_MEMORY, AblateError, ConfigError, DataError, exit_code
from ablative.study.core.processes import die_with_parent
from ablative.study.core.secrets import redact
from ablative.study.home.attempt_times import MET, WAITING
from ablative.study.spec.runtime import RuntimeConfig
from ablative.trainer.torch.distributed import ALONE, PeerLostError, World

Report = Callable[[str, str], None]
"""Takes the name of an event, and a message."""

TIMEOUT = timedelta(minutes=30)
"""How long to wait for a process that is there and says nothing: rank 0 may have shards to index first."""
PATIENCE = 5.0
"""Seconds in which processes that have nothing left to do end by themselves, and failed ones say why."""
STUCK = 30.0
"""Seconds after which rank 0, waiting in a GPU's driver for a process that has failed, is given up."""

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_FAILURE = "ablate/failure"


@dataclass(frozen=True)
class Rendezvous:
    """One process, and where it meets the others."""

    world: World
    host: str
    port: int
    listener: int | None = None
    """Descriptor of a socket that listens at `port` already, in rank 0 of processes that it forked itself."""


def scheduled() -> Rendezvous | None:
    """Where this process meets the others that a scheduler started; None where it is the only one."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return None
    missing = [name for name in VARIABLES if name not in os.environ]
    if missing:
        raise ConfigError(f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, and {', '.join(missing)} not set (needed: all)")
    rank, size, local_rank, port = (
        int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT")
    )
    return Rendezvous(World(rank, size, local_rank), os.environ["MASTER_ADDR"], port)


@contextmanager
def team(
    runtime: RuntimeConfig, follow: Callable[[World], None], report: Report = lambda name, message: None
) -> Iterator[World]:
    """The processes that train a run; in the block all of them are there.

    Args:
        follow: what the others do where this process is the one to start them.
        report: called when the wait for the other processes begins, and when it ends.

    Raises:
        PeerLostError: another process died, or its machine did.
        AblateError, OSError, MemoryError, RuntimeError: what another process raised.
    """
    rendezvous = scheduled()
    if rendezvous is not None:
        with _joined(rendezvous, runtime.device, report) as world:
            yield world
    elif runtime.processes == 1:
        yield ALONE
    else:
        with _forked(runtime, follow, report) as world:
            yield world


@contextmanager
def _forked(runtime: RuntimeConfig, follow: Callable[[World], None], report: Report) -> Iterator[World]:
    """Rank 0 of processes on this machine, with the others forked from it."""
    parent, size = os.getpid(), runtime.processes
    with ExitStack() as cleanup:
        listener = cleanup.enter_context(socket.create_server(("127.0.0.1", 0), backlog=size))
        meetings = [Rendezvous(World(rank, size, rank), *listener.getsockname()) for rank in range(size)]
        sys.stdout.flush()
        sys.stderr.flush()
        pids = {}
        for rendezvous in meetings[1:]:
            pid = os.fork()
            if pid == 0:
                listener.close()
                _live(parent, rendezvous, runtime.device, follow)
            pids[pid] = rendezvous.world.rank
        cleanup.callback(Peers(pids).end)
        _require_gpus(runtime)
        first = Rendezvous(meetings[0].world, meetings[0].host, meetings[0].port, listener.detach())
        yield cleanup.enter_context(_joined(first, runtime.device, report))


def _require_gpus(runtime: RuntimeConfig) -> None:
    """NCCL refuses two processes on one GPU, and says so much later and in other words."""
    if runtime.device != "cpu" and torch.cuda.is_available() and torch.cuda.device_count() < runtime.processes:
        raise ConfigError(
            f"runtime.processes: {runtime.processes}, but the task sees {torch.cuda.device_count()} GPUs; "
            "take fewer processes, or runtime.device=cpu"
        )


def _live(parent: int, rendezvous: Rendezvous, device: str, follow: Callable[[World], None]) -> NoReturn:
    """The whole life of a forked process."""
    code = 1
    try:
        if die_with_parent(parent):
            with _joined(rendezvous, device, lambda name, message: None) as world:
                follow(world)
            code = 0
    except PeerLostError as lost:
        print(f"process {rendezvous.world.rank} of {rendezvous.world.size} ends: {lost}", file=sys.stderr)
    except BaseException as error:
        code = exit_code(error)
        print(f"process {rendezvous.world.rank} of {rendezvous.world.size} failed:", file=sys.stderr)
        print(redact(traceback.format_exc()), end="", file=sys.stderr)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # Not sys.exit: the cleanup of rank 0, whose copy this process is, is not ours to do.
        os._exit(code)


class Peers:
    """The processes that rank 0 forked; a thread waits for their ends, because rank 0 computes."""

    def __init__(self, pids: dict[int, int]) -> None:
        self._left = dict(pids)
        """Process id → rank."""
        self._dismissed = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Wait until all have ended, and kill those that take too long."""
        self._dismissed.set()
        self._thread.join(PATIENCE)
        for pid in list(self._left):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._thread.join()

    def _watch(self) -> None:
        handles = {os.pidfd_open(pid): pid for pid in self._left}
        poll = select.poll()
        for handle in handles:
            poll.register(handle, select.POLLIN)
        while handles:
            for handle, _ in poll.poll():
                pid = handles.pop(handle)
                poll.unregister(handle)
                os.close(handle)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                rank = self._left.pop(pid)
                if code:
                    end_like(rank, code, self._dismissed)


def end_like(rank: int, code: int, dismissed: threading.Event) -> None:
    """End this process as another one of the run ended, unless it is about to end anyway.

    Args:
        rank: of the other one.
        code: its exit code; negative: the signal that killed it.
        dismissed: set when this process has come to its own end.
    """
    if code > 0:
        # It has raised something, which rank 0 raises too as soon as it misses the peer.
        dismissed.wait(STUCK)
    if dismissed.is_set():
        return
    reason = f"was killed ({signal.Signals(-code).name})" if code < 0 else "failed"
    print(f"process {rank} of the run {reason}; the run ends here", file=sys.stderr, flush=True)
    if code < 0:
        os.kill(os.getpid(), -code)
    # This exit code makes the next attempt halve the micro-batch.
    os._exit(code if code == EXIT_OUT_OF_MEMORY else 1)


@contextmanager
def _joined(rendezvous: Rendezvous, device: str, report: Report) -> Iterator[World]:
    """Meet the others; in the block they can be talked to."""
    world, cuda = rendezvous.world, device != "cpu" and torch.cuda.is_available()
    others = f"{world.size - 1} of {world.size} processes" if world.rank == 0 else "process 0"
    minutes = f"{TIMEOUT.total_seconds() / 60:g} minutes"
    report(
        WAITING, f"process {world.rank} waits for {others} at {rendezvous.host}:{rendezvous.port}, {minutes} at most"
    )
    with _meeting():
        store = dist.TCPStore(
            rendezvous.host,
            rendezvous.port,
            world.size,
            is_master=world.rank == 0,
            timeout=TIMEOUT,
            master_listen_fd=rendezvous.listener,
        )
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo",
            store=store,
            rank=world.rank,
            world_size=world.size,
            timeout=TIMEOUT,
        )
    report(MET, f"{world.size} processes")
    clean = False
    try:
        yield world
        clean = True
    except PeerLostError as lost:
        raise (_passed_failure(store) if world.rank == 0 else None) or lost from None
    except Exception as error:
        if world.rank:
            # Where rank 0 is gone too, no process is left to read it.
            with suppress(RuntimeError):
                store.set(_FAILURE, _describe(error, world.rank))
        raise
    finally:
        if clean or not cuda:
            # After a failure NCCL would wait for the others.
            dist.destroy_process_group()


@contextmanager
def _meeting() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise PeerLostError(f"the processes of the run cannot meet: {error}") from error


def _passed_failure(store: dist.TCPStore) -> Exception | None:
    """What another process raised, in so far as it could say so."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if store.check([_FAILURE]):
            return _revive(json.loads(store.get(_FAILURE)))
        time.sleep(0.05)
    return None


def _describe(error: Exception, rank: int) -> str:
    number, text = (error.errno, error.strerror) if isinstance(error, OSError) else (None, None)
    kind = next((base.__name__ for base in type(error).__mro__ if base in _KINDS), type(error).__name__)
    return json.dumps({"rank": rank, "kind": kind, "message": redact(text or str(error)), "errno": number})


_KINDS: tuple[type[Exception], ...] = (DataError, ConfigError, AblateError, MemoryError, torch.OutOfMemoryError)
"""Exceptions that mean the same whichever process raises them."""


def _revive(failure: dict[str, str | int | None]) -> Exception:
    """An exception like the one that another process described."""
    message = str(failure["message"])
    if isinstance(failure["errno"], int):
        return OSError(failure["errno"], message)
    for kind in _KINDS:
        if kind.__name__ == failure["kind"]:
            return kind(message)
    return RuntimeError(f"process {failure['rank']}: {failure['kind']}: {message}")
