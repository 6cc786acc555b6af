"""Several processes that train one run: which rows of a batch each takes, and how they exchange sums and rows.

Each process holds the whole model and takes its contiguous rows of every global batch. What a step needs of the
others are sums and gathered rows, so that losses and gradients are those of one process on the whole batch, up
to the order in which numbers are added. A process alone (`ALONE`) exchanges nothing and computes as if this
file did not exist. Tensors travel by NCCL on GPUs and by gloo on CPUs; flags and objects always by gloo, which
never makes the host wait for a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ablative.study.core.errors import AblateError, ConfigError

BUCKET = 2**24
"""Elements that are added up in one message (64 MiB of fp32): few messages, and little memory for the copy."""

T = TypeVar("T")


class PeerLostError(AblateError):
    """Another process of the run ended, or cannot be reached any more: the run can go on from its checkpoint."""

    cause = "killed"


@dataclass(frozen=True)
class World:
    """The processes of a run, seen from one of them. All of them have to make the same calls in the same order."""

    rank: int = 0
    """Number of this process; 0 is the one that writes files."""
    size: int = 1
    local_rank: int = 0
    """Number of this process on its machine: which GPU it takes."""

    def rows(self, total: int) -> slice:
        """This process's part of a global batch; parts differ by one row at most."""
        if total < self.size:
            raise ConfigError(f"a batch of {total} cannot be shared among {self.size} processes; take fewer of them")
        return slice(self.rank * total // self.size, (self.rank + 1) * total // self.size)

    def device(self, wanted: torch.device) -> torch.device:
        """The process's own among the GPUs that it sees; processes share CPUs."""
        if self.size == 1 or wanted.type != "cuda":
            return wanted
        device = torch.device("cuda", self.local_rank % torch.cuda.device_count())
        torch.cuda.set_device(device)
        return device

    def gather(self, own: Tensor, total: int) -> Tensor:
        """Rows (b,…) of every process → rows of the whole batch (total,…), without graph."""
        if self.size == 1:
            return own.detach()
        # Parts may differ in length, messages may not.
        longest = -(-total // self.size)
        padded = own.new_zeros(longest, *own.shape[1:])
        padded[: len(own)] = own.detach()
        found = [torch.empty_like(padded) for _ in range(self.size)]
        with _talking():
            dist.all_gather(found, padded)
        parts = [World(rank, self.size).rows(total) for rank in range(self.size)]
        return torch.cat([rows[: part.stop - part.start] for rows, part in zip(found, parts, strict=True)])

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor (all of one dtype) by its sum over the processes, the same bits on all of them."""
        if self.size == 1:
            return
        for bucket in buckets(tensors):
            flat = torch.cat([tensor.flatten() for tensor in bucket])
            with _talking():
                dist.all_reduce(flat)
            sums = flat.split([tensor.numel() for tensor in bucket])
            torch._foreach_copy_(bucket, [part.view_as(tensor) for part, tensor in zip(sums, bucket, strict=True)])

    def start_adding(self, tensor: Tensor) -> Callable[[], None]:
        """Begin to replace a tensor by its sum over the processes; what is returned waits for the end of that."""
        with _talking():
            work = dist.all_reduce(tensor, async_op=True)

        def wait() -> None:
            with _talking():
                work.wait()

        return wait

    def any(self, *flags: bool) -> list[bool]:
        """Whether any process has set each flag: one answer for a flag, in their order."""
        if self.size == 1:
            return list(flags)
        votes = torch.tensor(flags, dtype=torch.int32)
        with _talking():
            dist.all_reduce(votes, dist.ReduceOp.MAX)
        return [bool(vote) for vote in votes.tolist()]

    def collect(self, value: T) -> list[T]:
        """The value of every process, by rank; pickles it, so only for small values outside the step."""
        if self.size == 1:
            return [value]
        values: list[T] = [value] * self.size
        with _talking():
            dist.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Return when every process has made this call."""
        self.any(False)

    @contextmanager
    def first(self) -> Iterator[None]:
        """Rank 0 goes through the block before the others do: it makes the files that they find."""
        if self.rank:
            self.wait()
        yield
        if not self.rank:
            self.wait()


ALONE = World()


def buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """The tensors in order, `BUCKET` elements at a time; a larger one comes alone."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        if bucket and sum(part.numel() for part in bucket) + tensor.numel() > BUCKET:
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket


@contextmanager
def _talking() -> Iterator[None]:
    """Raise PeerLostError for what torch raises when a connection breaks."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise PeerLostError(
            f"another process of the run is gone ({reason[0]}); the run can go on from its checkpoint"
        ) from error


def visible_gpus() -> tuple[str, list[str]]:
    """Version of torch, and the names of the GPUs that it can use in this process."""
    return torch.__version__, [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
