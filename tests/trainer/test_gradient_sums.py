"""Gradients of two processes are added up while the backward pass still computes others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from forked import Forked
from tiny_run import MODEL, make_batch, make_config

from ablative.trainer.clip.data.pairs.batch import Batch
from ablative.trainer.clip.objectives.system import System
from ablative.trainer.clip.spec.config import RunConfig, RuntimeConfig
from ablative.trainer.clip.step import Gradients
from ablative.trainer.torch import distributed
from ablative.trainer.torch.distributed import ALONE, World
from ablative.trainer.torch.process_group import team

CPU = torch.device("cpu")
Found = tuple[dict[str, np.ndarray], list[tuple[bool, int]]]
"""Gradients by parameter, and of each bucket that was sent: during a backward pass or after it, its elements."""


def steps(config: RunConfig, world: World, sent: list[tuple[bool, int]]) -> list[Found]:
    """What each of three steps leaves, on this process's rows of the same batch."""
    torch.manual_seed(1)
    system = System(config.model, config.objective, MODEL.vocab_size)
    size = config.schedule.batch_size
    batch, draws, rows = make_batch(size), system.draw(size, torch.Generator().manual_seed(2)), world.rows(size)
    own = Batch(batch.images[rows], batch.tokens[rows])
    step, found = Gradients(system, config, CPU, world), []
    for _ in range(3):
        system.zero_grad()
        sent.clear()
        step(100, own, draws[rows])
        gradients = {name: weight.grad.numpy().copy() for name, weight in system.named_parameters()}
        found.append((gradients, list(sent)))
    return found


def together(bucket: int, changes: dict[str, Any]) -> list[Found]:
    """`steps` as rank 0 of two processes sees them, with buckets of so many elements."""
    sent: list[tuple[bool, int]] = []
    add = dist.all_reduce

    def noted(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("async_op"):
            sent.append((torch._C._current_graph_task_id() != -1, tensor.numel()))
        return add(tensor, *args, **kwargs)

    dist.all_reduce, distributed.BUCKET = noted, bucket  # in this process and its children alone
    config = make_config(**changes)
    with team(RuntimeConfig(device="cpu", processes=2), lambda world: steps(config, world, [])) as world:
        return steps(config, world, sent)


@pytest.mark.parametrize("micro", [0, 2])
def test_buckets_travel_during_the_last_backward_pass(micro: int) -> None:
    """From the second step on, all but what the last tensors of that pass hold and the temperature, which is there
    before it; to the bit that of one bucket, and within rounding that of one process."""
    changes = {"objective": "mae_clip similarity", "runtime__micro_batch": micro}
    whole, parts = (Forked(together, bucket, changes).answer() for bucket in (2**24, 2000))
    alone = steps(make_config(**changes), ALONE, [])[0][0]
    elements = sum(gradient.size for gradient in alone.values())
    for step, ((expected, once), (found, sent)) in enumerate(zip(whole, parts, strict=True)):
        assert len(once) == 1 and [elements] == [size for _, size in once]
        assert sum(size for _, size in sent) == elements
        early = sum(size for during, size in sent if during)
        assert early > 0.8 * elements or step == 0, (early, elements)
        assert sent == sorted(sent, key=lambda bucket: not bucket[0])
        for name, gradient in expected.items():
            assert np.array_equal(found[name], gradient), name
            np.testing.assert_allclose(
                gradient, alone[name], rtol=1e-3, atol=1e-5 * float(abs(alone[name]).max()) + 1e-8, err_msg=name
            )


def test_gradients_may_travel_in_half_the_bytes() -> None:
    """Each is then rounded to eight bits, at most twice: before it is sent, and when it is added."""
    full, half = (
        Forked(together, 2**24, {"objective": "clip", "schedule__exchange_precision": word}).answer()
        for word in ("fp32", "bf16")
    )
    rounded = 0
    for name, gradient in full[0][0].items():
        largest = float(abs(gradient).max())
        np.testing.assert_allclose(half[0][0][name], gradient, rtol=2**-7, atol=2**-7 * largest, err_msg=name)
        rounded += not np.array_equal(half[0][0][name], gradient)
    assert rounded > 10
