"""Images that are read while others are computed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from ablative.trainer.clip.data.images import streams

Asked = TypeVar("Asked")
Found = TypeVar("Found")


def read_ahead(read: Callable[[Asked], Found], asked: Iterable[Asked], threads: int = 0) -> Iterator[Found]:
    """What `read` returns for each item, in their order; so many threads read the next ones meanwhile."""
    if not threads:
        yield from map(read, asked)
        return
    # Threads are enough: Pillow decodes and resizes without holding the interpreter.
    with ThreadPoolExecutor(threads) as pool:
        ahead: deque[Future[Found]] = deque()
        try:
            for item in asked:
                ahead.append(pool.submit(read, item))
                if len(ahead) > threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


class Order:
    """The order of so many samples without end: each epoch has its own, a function of name, seed and epoch."""

    def __init__(self, name: str, seed: int, samples: int) -> None:
        self._name, self._seed, self._samples = name, seed, samples
        self._orders: dict[int, np.ndarray] = {}

    def row(self, place: int) -> int:
        """The sample at a place, counted over all epochs."""
        epoch, position = divmod(place, self._samples)
        if epoch not in self._orders:
            number = streams.stream(self._name, self._seed, epoch)
            self._orders[epoch] = streams.permutation(number, self._samples)
        return int(self._orders[epoch][position])
