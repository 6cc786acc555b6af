"""Batches of training pairs: step → the same batch for ever.

The samples of all epochs form one endless line: epoch after epoch, each in an order that is a function of
(seed, epoch). Step s takes the places s·B … (s+1)·B−1 of that line. So nothing is drawn twice or
left out within an epoch, a batch may hold the end of one epoch and the beginning of the next, and resuming
takes one integer. Crops are a function of (seed, place),
those of further views of (seed, place, view); which of a sample's captions an epoch takes, of (seed, epoch,
sample). Workers and caching change when a batch is made, never what is in it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ablative.study.core.errors import DataError
from ablative.trainer.clip.data.images import crops, streams
from ablative.trainer.clip.data.images.crops import Crops
from ablative.trainer.clip.data.pairs.batch import Batch
from ablative.trainer.clip.data.pairs.pairs import Order, Pairs
from ablative.trainer.clip.data.pairs.tokenizer import Tokenizer
from ablative.trainer.clip.data.pairs.workers import Asked, Reading, Samples, Workers, read

CACHE_BYTES = 512 * 2**20
"""Data that fits is kept in memory, so that epochs after the first cost next to nothing."""
WHOLE = slice(None)
"""Every row of a batch."""


@dataclass(frozen=True)
class _Request:
    """The samples of one step."""

    indices: np.ndarray
    """int64 (B,)."""
    asked: Asked


class Loader:
    """Cuts the line of samples into batches."""

    def __init__(
        self,
        pairs: Pairs,
        tokenizer: Tokenizer,
        batch_size: int,
        image_size: int,
        seed: int,
        crop_scale: float,
        workers: int = 0,
        max_broken: float = 0.01,
        rows: slice = WHOLE,
        pinned: bool = False,
        views: Sequence[float] = (),
    ) -> None:
        """
        Args:
            seed: of the order, the crops and the choice of captions.
            crop_scale: smallest area of RandomResizedCrop; 1 resizes whole images instead.
            workers: processes that read and decode; 0 does so in this one.
            max_broken: share of the pairs that may be unreadable.
            rows: the part of every batch that is wanted here; other processes take the others.
            pinned: let workers' images come in page-locked memory (needs CUDA).
            views: smallest area of the crop of each further view.
        """
        if batch_size > len(pairs):
            raise DataError(f"batch_size {batch_size} is larger than the data: {len(pairs)} pairs")
        self._pairs, self._tokenizer = pairs, tokenizer
        self._batch_size, self._image_size = batch_size, image_size
        self._seed, self._crop_scale = seed, crop_scale
        self._workers, self._max_broken, self._rows, self._pinned = workers, max_broken, rows, pinned
        self._views = views
        self._reasons: dict[int, str] = {}
        self._order: tuple[int, Order] | None = None
        whole = (crop_scale == 1 and not views) or pairs.native_size == image_size
        fits = whole and not pairs.by_epoch and len(pairs) * image_size**2 * 3 <= CACHE_BYTES
        self._cache = _Cache(len(pairs), image_size, tokenizer.context_length) if fits else None

    @property
    def broken(self) -> int:
        """Number of samples found unreadable so far; the next readable one replaces each of them."""
        return len(self._reasons)

    @property
    def reasons(self) -> dict[int, str]:
        """These samples, and what is wrong with each."""
        return dict(self._reasons)

    def learn(self, reasons: Mapping[int, str]) -> None:
        """Note samples that were found unreadable, here or elsewhere; raises DataError when they are too many."""
        self._reasons.update(reasons)
        allowed = self._max_broken * len(self._pairs)
        if len(self._reasons) > allowed:
            raise DataError(
                f"{len(self._reasons)} of {len(self._pairs)} pairs cannot be read, more than data.max_broken "
                f"({self._max_broken:g}) allows; the last: {list(self._reasons.values())[-1]}"
            )

    def batches(self, start_step: int, steps: int) -> Generator[Batch, None, None]:
        """The batches of steps `start_step` … `start_step + steps - 1`.

        Raises DataError as soon as more than `max_broken` of the pairs turned out unreadable.
        """
        wanted = range(start_step, start_step + steps)
        if not self._workers:
            for step in wanted:
                request = self._request(step)
                yield self._batch(request, self._read(request) if self._missing(request) else None)
            return
        rows = len(range(self._batch_size)[self._rows])
        # A cache holds whole images, and crops what is taken out of it.
        views = 1 if self._cache else 1 + len(self._views)
        pool = Workers(self._pairs, self._tokenizer, self._workers, rows, self._image_size, self._pinned, views)
        with pool as workers:
            waiting: deque[tuple[_Request, Reading | None]] = deque()
            for step in wanted:
                request = self._request(step)
                reading = workers.submit(request.indices, self._asked(request)) if self._missing(request) else None
                waiting.append((request, reading))
                if len(waiting) > workers.ahead:
                    yield self._collect(workers, *waiting.popleft())
            while waiting:
                yield self._collect(workers, *waiting.popleft())

    def indices(self, step: int) -> np.ndarray:
        """int64 (b,): which pairs a step takes here, before unreadable ones are replaced."""
        size = len(self._pairs)
        places = self._places(step)
        epochs = places // size
        return np.concatenate([self._epoch(int(epoch))[places[epochs == epoch] % size] for epoch in np.unique(epochs)])

    def _places(self, step: int) -> np.ndarray:
        return np.arange(step * self._batch_size, (step + 1) * self._batch_size)[self._rows]

    def _epoch(self, epoch: int) -> Order:
        if self._order is None or self._order[0] != epoch:
            self._order = (epoch, self._pairs.order(self._seed, epoch))
        return self._order[1]

    def _request(self, step: int) -> _Request:
        cropped = self._cropped(self._crop_scale, step, "crops") if self._crop_scale < 1 else None
        further = (self._cropped(scale, step, "view", number) for number, scale in enumerate(self._views))
        indices = self.indices(step)
        chosen = self._chosen(step, indices) if self._pairs.by_epoch else None
        return _Request(indices, Asked(cropped, tuple(further), chosen))

    def _chosen(self, step: int, indices: np.ndarray) -> np.ndarray:
        """float64 (b,) in [0, 1): which of its captions each sample has in its epoch."""
        epochs, chosen = self._places(step) // len(self._pairs), np.empty(len(indices))
        for epoch in np.unique(epochs):
            own = epochs == epoch
            keys = streams.keys(streams.stream("caption", self._seed, int(epoch)), indices[own])
            chosen[own] = streams.uniforms(keys, 1)[:, 0]
        return chosen

    def _cropped(self, scale: float, step: int, name: str, *number: int) -> Crops:
        return Crops(streams.keys(streams.stream(name, *number, self._seed), self._places(step)), scale)

    def _missing(self, request: _Request) -> bool:
        return self._cache is None or not self._cache.known[request.indices].all()

    def _asked(self, request: _Request) -> Asked:
        """What to read; whole images alone where there is a cache."""
        return request.asked if self._cache is None else Asked()

    def _read(self, request: _Request) -> Samples:
        return read(self._pairs, self._tokenizer, request.indices, self._image_size, self._asked(request))

    def _collect(self, workers: Workers, request: _Request, reading: Reading | None) -> Batch:
        return self._batch(request, None if reading is None else workers.result(reading))

    def _batch(self, request: _Request, samples: Samples | None) -> Batch:
        """The request's batch, from samples just read, or (`samples` None) from the cache."""
        if samples is not None:
            self.learn(dict(samples.broken))
            if self._cache is None:
                return Batch(samples.images, samples.tokens, samples.further)
            self._cache.put(request.indices, samples.images.numpy(), samples.tokens.numpy())
        assert self._cache is not None
        images, tokens = self._cache.take(request.indices)
        views = [torch.from_numpy(crops.crop_squares(images, each)) for each in request.asked.further]
        if request.asked.crops is not None:
            images = crops.crop_squares(images, request.asked.crops)
        return Batch(torch.from_numpy(images), torch.from_numpy(tokens), torch.stack(views) if views else None)


class _Cache:
    """Every image and caption that was read once, by sample number."""

    def __init__(self, pairs: int, image_size: int, context_length: int) -> None:
        # Pages of empty arrays take no memory before they are written.
        self._images = np.empty((pairs, image_size, image_size, 3), np.uint8)
        self._tokens = np.empty((pairs, context_length), np.int32)
        self.known = np.zeros(pairs, bool)

    def put(self, indices: np.ndarray, images: np.ndarray, tokens: np.ndarray) -> None:
        self._images[indices], self._tokens[indices] = images, tokens
        self.known[indices] = True

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """uint8 (n, S, S, 3) and int64 (n, L)."""
        return self._images[indices], self._tokens[indices].astype(np.int64)
