"""Memory: what a device has left, and what tensors without values would take."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def free_bytes(device: torch.device) -> int | None:
    """What this process can still take on a GPU; None for a CPU, whose memory others share in unknown ways."""
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    # What the allocator holds without a tensor in it is this process's already.
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


class LiveTensors(TorchDispatchMode):
    """Counts the bytes of all tensors that are alive while it is entered; works with those of `FakeTensorMode`."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        """Bytes alive."""
        self.peak = 0
        """The most there were at once."""
        self._seen: set[int] = set()

    def count(self, tensor: torch.Tensor) -> None:
        """Count a tensor that was there before, until it is gone."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self._seen:
            self._seen.add(key)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._freed, key, size)

    def _freed(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.now -= size

    def __torch_dispatch__(
        self,
        function: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        found = function(*args, **(kwargs or {}))
        for value in tree_leaves(found):
            if isinstance(value, torch.Tensor):
                self.count(value)
        return found
