"""Processes that read and decode for a loader."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from types import TracebackType

import numpy as np

from study.errors import AblateError
from trainer.data.pairs import Crops, Pairs, Views

_pairs: Pairs | None = None
"""In a worker: what it reads from."""


class Workers:
    """A pool that reads from one set of pairs; leaving it ends its processes.

    The processes start afresh instead of by forking: the training process has threads (arithmetic, heartbeat,
    CUDA), and a fork would copy their locks in whatever state they are.
    """

    def __init__(self, pairs: Pairs, count: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(count, mp_context=context, initializer=_start, initargs=(pairs,))

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def submit(self, indices: np.ndarray, size: int, crops: Crops | None) -> Future[Views]:
        """`Pairs.views` in some worker."""
        try:
            return self._pool.submit(_views, indices, size, crops)
        except BrokenProcessPool as error:
            raise _died() from error

    def result(self, future: Future[Views]) -> Views:
        """Wait for it; raises what the reading raised, or AblateError where the worker died."""
        try:
            return future.result()
        except BrokenProcessPool as error:
            raise _died() from error


def _died() -> AblateError:
    return AblateError(
        "a loader process died: killed from outside, or by the system for lack of memory (try fewer runtime.workers)"
    )


def _start(pairs: Pairs) -> None:
    """In a new worker: keep the pairs, leave signals to the training process, and never outlive it."""
    global _pairs  # noqa: PLW0603 - the one way in which a pool hands its workers something once
    _pairs = pairs
    # A scheduler signals every process of a job; the training process saves first and ends its workers then.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _views(indices: np.ndarray, size: int, crops: Crops | None) -> Views:
    assert _pairs is not None
    return _pairs.views(indices, size, crops)
