"""Processes that read, decode and tokenize for a loader.

Images come in memory that is shared with the training process: sent through a pipe, 1,000 of 224×224 pixels would
cost it a second, in which a GPU trains on 3,000. Nothing that these processes call imports torch, which would take each
of them three seconds.
"""

from __future__ import annotations

import math
import mmap
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection, reduction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ablative.study.core.errors import AblateError
from ablative.study.core.packages import require_snapshot, required_snapshot
from ablative.trainer.clip.data.images.crops import Crops
from ablative.trainer.clip.data.pairs.pairs import Pairs
from ablative.trainer.clip.data.pairs.tokenizer import Tokenizer

if TYPE_CHECKING:
    import torch

CHUNK = 256
"""Samples that a worker reads at a time: all of them work on a large batch, and a small one is soon there."""
PREFETCH = 2
"""Chunks under way for each worker, but at least the next batch."""

_worker: tuple[Pairs, Tokenizer, Slots] | None = None
"""What a worker process reads from, and where it puts the images."""


class Asked(NamedTuple):
    """What is asked of samples (see `Pairs.views`)."""

    crops: Crops | None = None
    further: tuple[Crops, ...] = ()
    chosen: np.ndarray | None = None

    def part(self, rows: slice) -> Asked:
        crops, further, chosen = self
        own = None if crops is None else crops[rows]
        return Asked(own, tuple(each[rows] for each in further), None if chosen is None else chosen[rows])


@dataclass(frozen=True)
class Samples:
    """Training pairs, read and tokenized."""

    images: torch.Tensor
    """uint8 (n, S, S, 3)."""
    tokens: torch.Tensor
    """int64 (n, L)."""
    broken: tuple[tuple[int, str], ...]
    """Samples that could not be read and why, as `Views` has them."""
    further: torch.Tensor | None = None
    """uint8 (V, n, S, S, 3), as `Views` has them."""


def read(pairs: Pairs, tokenizer: Tokenizer, indices: np.ndarray, size: int, asked: Asked) -> Samples:
    """`Pairs.views` with tokens for captions, in this process."""
    import torch

    views = pairs.views(indices, size, *asked)
    further = None if views.further is None else torch.from_numpy(views.further)
    return Samples(torch.from_numpy(views.images), torch.from_numpy(tokenizer(views.captions)), views.broken, further)


class Slots:
    """Memory for chunks of images, shared with processes that are started with it; nothing of it is ever on disk."""

    def __init__(self, count: int, views: int, rows: int, size: int) -> None:
        self._shape = (count, views, rows, size, size, 3)
        # Unlike files in /dev/shm it has no separate quota (64 MiB in a container), and cannot be left behind.
        self._handle = os.memfd_create("ablate-loader")
        os.truncate(self._handle, math.prod(self._shape))
        self._map()

    def _map(self) -> None:
        memory = mmap.mmap(self._handle, 0)
        self._arrays = np.frombuffer(memory, np.uint8).reshape(self._shape)

    def __getitem__(self, slot: int) -> np.ndarray:
        """uint8 (views, rows, S, S, 3)."""
        array: np.ndarray = self._arrays[slot]
        return array

    def close(self) -> None:
        """Give the memory back as soon as no array of it is used any more."""
        del self._arrays
        os.close(self._handle)

    def __getstate__(self) -> dict[str, Any]:
        return {"shape": self._shape, "handle": reduction.DupFd(self._handle)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._shape, self._handle = state["shape"], state["handle"].detach()
        self._map()


@dataclass(frozen=True)
class Reading:
    """Samples on their way."""

    count: int
    chunks: tuple[tuple[int, Future[Told]], ...]
    """Slot of each chunk, and what its worker will say of it."""


Told = tuple[np.ndarray, tuple[tuple[int, str], ...]]
"""Tokens and broken samples of a chunk, as in `Samples`; the images are in its slot."""


class Workers:
    """A pool that reads from one set of pairs; leaving it ends its processes.

    The processes start afresh instead of by forking: the training process has threads (arithmetic, heartbeat,
    CUDA), and a fork would copy their locks in whatever state they are.
    """

    def __init__(
        self,
        pairs: Pairs,
        tokenizer: Tokenizer,
        count: int,
        rows: int,
        size: int,
        pinned: bool = False,
        views: int = 1,
    ) -> None:
        """
        Args:
            count: of the processes.
            rows: samples of a reading at most.
            size: side of the images.
            pinned: give out images in page-locked memory, from which a GPU copies while others compute.
            views: of each image.
        """
        chunks = -(-rows // CHUNK)
        self.ahead = -(-PREFETCH * count // chunks)
        """Readings that may be under way besides the one that is waited for."""
        slots = (self.ahead + 1) * chunks
        self._size, self._views = size, views
        self._slots = Slots(slots, views, min(rows, CHUNK), size)
        self._free = list(range(slots))
        self._pinned = pinned
        context = multiprocessing.get_context("spawn")
        given = (required_snapshot(), pairs, tokenizer, self._slots)
        self._pool = ProcessPoolExecutor(count, mp_context=context, initializer=_start, initargs=given)

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._slots.close()

    def submit(self, indices: np.ndarray, asked: Asked) -> Reading:
        """`read`, by several workers where there are many samples."""
        chunks = []
        with _watched():
            for start in range(0, len(indices), CHUNK):
                part, slot = slice(start, start + CHUNK), self._free.pop()
                chunks.append((slot, self._pool.submit(_read, slot, indices[part], self._size, asked.part(part))))
        return Reading(len(indices), tuple(chunks))

    def result(self, reading: Reading) -> Samples:
        """Wait for it; raises what the reading raised, or AblateError where a worker died."""
        import torch

        shape = (self._views, reading.count, self._size, self._size, 3)
        images = torch.empty(shape, dtype=torch.uint8, pin_memory=self._pinned)
        tokens: list[np.ndarray] = []
        broken: list[tuple[int, str]] = []
        for part, (slot, future) in zip(images.split(CHUNK, 1), reading.chunks, strict=True):
            with _watched():
                words, wrong = future.result()
            part.numpy()[:] = self._slots[slot][:, : part.shape[1]]
            self._free.append(slot)
            tokens.append(words)
            broken += wrong
        further = images[1:] if self._views > 1 else None
        return Samples(images[0], torch.from_numpy(np.concatenate(tokens)), tuple(broken), further)


@contextmanager
def _watched() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool as error:
        raise _died() from error


def _died() -> AblateError:
    return AblateError(
        "a loader process died: killed from outside, or by the system for lack of memory (try fewer runtime.workers)"
    )


def _start(snapshot: Path | None, pairs: Pairs, tokenizer: Tokenizer, slots: Slots) -> None:
    """Initialise a worker: keep the arguments, leave signals to the training process, and never outlive it.

    `snapshot` is that of the worker's job, if any. Raises ImportError where a module came from elsewhere.
    """
    # A process that is spawned imports afresh, and inherits no import hook.
    require_snapshot(snapshot)
    global _worker  # noqa: PLW0603 - the one way in which a pool hands its workers something once
    _worker = pairs, tokenizer, slots
    # A scheduler signals every process of a job; the training process saves first and ends its workers then.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _read(slot: int, indices: np.ndarray, size: int, asked: Asked) -> Told:
    assert _worker is not None
    pairs, tokenizer, slots = _worker
    views = pairs.views(indices, size, *asked, into=slots[slot][: 1 + len(asked.further), : len(indices)])
    return tokenizer(views.captions), views.broken
