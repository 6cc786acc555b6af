"""Sums of gradients over processes, on their way while the backward pass still computes others.

Gradients travel in buckets, as in torch's DistributedDataParallel, which cannot be used here: it wraps a module's
`forward`, and a step with a loss of the whole batch has several passes. A bucket is sent when all its gradients are
there and those before it are sent, so that all processes send the same ones in the same order. The first pass shows in
which order gradients become ready, and which are there before it; then the buckets are filled in rank 0's order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ablative.trainer.torch.distributed import World, buckets

Pending = tuple[Callable[[], None], Tensor, list[Tensor]]
"""What waits for a sum, the sum of a bucket, and the gradients that are to become it."""


class GradientSums:
    """Replaces the gradients of a model by their sums over all processes of a run."""

    def __init__(self, parameters: Sequence[nn.Parameter], world: World, dtype: torch.dtype = torch.float32) -> None:
        """`dtype`: in which gradients travel and are added."""
        self._parameters, self._world, self._dtype = list(parameters), world, dtype
        self._ordered = False
        self._ready: list[int] = []
        self._open = False
        self._pending: list[Pending] = []
        self._fill(range(len(self._parameters) - 1, -1, -1))
        if world.size > 1:
            for number, parameter in enumerate(self._parameters):
                parameter.register_post_accumulate_grad_hook(lambda _, number=number: self._note(number))

    @contextmanager
    def last_pass(self) -> Iterator[None]:
        """The block holds the last backward pass of a step; after it, gradients are the sums over all processes."""
        if self._world.size == 1:
            yield
            return
        self._ready, self._pending = [], []
        self._missing = [len(bucket) for bucket in self._buckets]
        self._open = True
        try:
            yield
        finally:
            self._open = False
        for bucket in self._buckets[len(self._pending) :]:
            self._send(bucket)
        for wait, flat, gradients in self._pending:
            wait()
            sums = flat.split([gradient.numel() for gradient in gradients])
            torch._foreach_copy_(gradients, [part.view_as(own) for part, own in zip(sums, gradients, strict=True)])
        self._pending = []
        if not self._ordered:
            self._ordered, order = True, self._world.collect(self._ready)[0]
            self._fill([*order, *sorted(set(range(len(self._parameters))) - set(order))])

    def _fill(self, order: Sequence[int]) -> None:
        """Deal parameters out to buckets in this order."""
        parts = buckets([self._parameters[number] for number in order])
        numbers = iter(order)
        self._buckets = [[next(numbers) for _ in part] for part in parts]
        self._bucket_of = {number: place for place, bucket in enumerate(self._buckets) for number in bucket}

    def _note(self, number: int) -> None:
        """A gradient is there: send what is complete now."""
        if not self._open:
            return
        self._ready.append(number)
        self._missing[self._bucket_of[number]] -= 1
        while len(self._pending) < len(self._buckets) and not self._missing[len(self._pending)]:
            self._send(self._buckets[len(self._pending)])

    def _send(self, bucket: Sequence[int]) -> None:
        gradients = [own for number in bucket if (own := self._parameters[number].grad) is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients] or [torch.zeros(0)]).to(self._dtype)
        self._pending.append((self._world.start_adding(flat), flat, gradients))
