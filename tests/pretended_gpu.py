"""A GPU where there is none: the arithmetic is the CPU's, and each tensor belongs to one of two devices.

`.device` says to which. What a GPU refuses raises as it does there: operands on both devices, NumPy's view of its
memory, the CPU's generator for its numbers. What it cannot show: kernels, speed, NCCL (processes talk by gloo instead),
and copies that nobody waits for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
_ops = torch.ops.aten
INDEXING = (_ops.index.Tensor, _ops.index_put_.default, _ops._index_put_impl_.default)
"""Indices may be on the CPU: they are copied. Masks are searched for what they select."""
WAITING = (_ops._local_scalar_dense.default, _ops.nonzero.default, _ops.masked_select.default, _ops.equal.default)
"""They give the CPU a value, or a tensor whose size depends on values."""
_autocast, _meet = torch.autocast, dist.init_process_group
CUDA = {
    "is_available": lambda: True,
    "device_count": lambda: 2,
    "set_device": lambda device: None,
    "get_device_name": lambda device=None: "NVIDIA H100 80GB HBM3",
    "max_memory_allocated": lambda device=None: 2**30,
    "memory_allocated": lambda device=None: 0,
    "memory_reserved": lambda device=None: 0,
    "mem_get_info": lambda device=None: (80 * 2**30, 80 * 2**30),
    "get_rng_state": lambda device=None: torch.get_rng_state(),
    "set_rng_state": lambda state, device=None: None,
}
"""What of `torch.cuda` the trainer asks."""


@contextmanager
def pretended_gpu() -> Iterator[Memory]:
    """In the block there is a GPU for each of two processes, which `runtime.device: auto` takes."""
    memory = Memory()

    def meet(backend: str, **kwargs: Any) -> None:
        assert backend == "cpu:gloo,cuda:nccl"
        _meet("gloo", **kwargs)

    with ExitStack() as block:
        for name, answer in CUDA.items():
            block.enter_context(patch.object(torch.cuda, name, answer))
        block.enter_context(
            patch.object(torch, "autocast", lambda _, *args, **kwargs: _autocast("cpu", *args, **kwargs))
        )
        block.enter_context(patch.object(dist, "init_process_group", meet))
        block.enter_context(_Calls(memory))
        block.enter_context(_Operations(memory))
        yield memory


class Memory:
    """The GPU's: storages, whichever tensors are views of them."""

    def __init__(self) -> None:
        self._storages: dict[int, StorageWeakRef] = {}
        self._pinned: dict[int, StorageWeakRef] = {}
        self.operations = 0
        """Run on the GPU so far."""
        self.waits = 0
        """Times that the CPU waited for the GPU to finish: for a value, or to copy from or to pageable memory."""

    def holds(self, tensor: Tensor) -> bool:
        # A reference, even to what is freed, keeps another storage from getting the same address.
        return tensor.untyped_storage()._cdata in self._storages

    def move(self, tensor: Tensor, device: torch.device) -> Tensor:
        """Say where a tensor is."""
        storage = tensor.untyped_storage()
        self.waits += device.type == "cpu" and storage._cdata in self._storages
        if device.type == "cuda":
            self._storages[storage._cdata] = StorageWeakRef(storage)
        else:
            self._storages.pop(storage._cdata, None)
        return tensor

    def pin(self, tensor: Tensor) -> Tensor:
        """In page-locked memory, from which a copy to the GPU needs nobody's waiting."""
        storage = tensor.untyped_storage()
        self._pinned[storage._cdata] = StorageWeakRef(storage)
        return tensor

    def is_pinned(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage()._cdata in self._pinned


class _Operations(TorchDispatchMode):
    """Every operation, of a backward pass too: operands on one device, and there the results."""

    def __init__(self, memory: Memory) -> None:
        super().__init__()
        self.memory = memory

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, (Tensor, torch.Generator))]
        operands = [operand for operand in given if isinstance(operand, Tensor)]
        here = [operand for operand in operands if self.memory.holds(operand)]
        if not here:
            return func(*args, **kwargs)
        self.memory.operations += 1
        if func is _ops.copy_.default:
            self.memory.waits += len(here) < len(operands)
        else:
            self._check(func, args, given, operands)
        found = func(*args, **kwargs)
        known = {operand.untyped_storage()._cdata for operand in operands}
        for result in tree_leaves(found):
            if isinstance(result, Tensor) and result.untyped_storage()._cdata not in known:
                self.memory.move(result, GPU)
        return found

    def _check(self, func: Any, args: Any, given: list[Any], operands: list[Tensor]) -> None:
        """Raise what a GPU would, and count what would be waited for."""
        if len(given) > len(operands):
            raise RuntimeError(f"Expected a 'cuda' device type for generator but found 'cpu' ({func})")
        # A number may be anywhere.
        strangers = [operand for operand in operands if operand.dim() and not self.memory.holds(operand)]
        if func in INDEXING and self.memory.holds(args[0]):
            indices = [index for index in args[1] if index is not None]
            self.memory.waits += any(not self.memory.holds(index) or index.dtype is torch.bool for index in indices)
            strangers = [operand for operand in strangers if not any(operand is index for index in indices)]
        self.memory.waits += func in WAITING
        if strangers:
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! "
                f"({func})"
            )
        if func.namespace == "c10d" and not all(operand.is_contiguous() for operand in operands):
            raise RuntimeError(f"Tensors must be contiguous ({func})")


class _Calls(TorchFunctionMode):
    """Every call that names a device, or asks for one."""

    def __init__(self, memory: Memory) -> None:
        super().__init__()
        self.memory = memory

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func == Tensor.device.__get__:  # type: ignore[attr-defined]
            return GPU if self.memory.holds(args[0]) else CPU
        if func in (Tensor.numpy, Tensor.__array__) and self.memory.holds(args[0]):
            raise TypeError(
                "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor first"
            )
        if func is Tensor.tolist:
            self.memory.waits += self.memory.holds(args[0])
        if func is Tensor.pin_memory:
            assert not self.memory.holds(args[0])
            return self.memory.pin(args[0].clone())
        pinned = kwargs.pop("pin_memory", False)
        if func is Tensor.cpu:
            func, args = Tensor.to, (args[0], CPU)
        if func is Tensor.to:
            return self._moved(*args, **kwargs)
        if kwargs.get("device") is None:
            found = func(*args, **kwargs)
            return self.memory.pin(found) if pinned else found
        device = torch.device(kwargs["device"])
        if device.type == "cuda" and kwargs.get("generator") is not None:
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
        return self.memory.move(func(*args, **kwargs | {"device": CPU}), device)

    def _moved(self, tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """`Tensor.to`."""
        target, *rest = args or (kwargs.pop("device"),)
        if isinstance(target, torch.dtype):
            return tensor.to(*args, **kwargs)
        if isinstance(target, Tensor):
            target, rest = GPU if self.memory.holds(target) else CPU, [target.dtype]
        device = torch.device(target)
        if self.memory.holds(tensor) != (device.type == "cuda"):
            quick = kwargs.get("non_blocking") and self.memory.is_pinned(tensor)
            self.memory.waits += device.type == "cuda" and not quick
            tensor = self.memory.move(tensor.clone(), device)
        return tensor.to(CPU, *rest, **kwargs)
