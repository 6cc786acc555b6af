"""The device of a task: which one it takes, what it is called, and the arithmetic that is done on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ablative.study.core.errors import ConfigError
from ablative.trainer.runner.attempts import RunningTask
from ablative.trainer.runner.environment import processor


def choose_device(wanted: str) -> torch.device:
    """`auto` takes a GPU where there is one; raises ConfigError when `cuda` is asked for in vain."""
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise ConfigError("runtime.device: cuda, but this machine shows no CUDA device; use auto or cpu")
    return torch.device("cuda" if available and wanted != "cpu" else "cpu")


@contextmanager
def arithmetic(device: torch.device, threads: int) -> Iterator[None]:
    """Settings under which a step is repeatable, and fast on a GPU; global ones are put back afterwards.

    On a CPU results are bit-identical for the same machine type, torch version and number of threads: another
    number of threads sums in another order, so floating-point results may differ in the last digits. On CUDA
    they agree within rounding: TF32 products and the fastest kernels are allowed.
    """
    before = (
        torch.get_num_threads(),
        torch.get_deterministic_debug_mode(),
        torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.benchmark,
    )
    if threads:
        torch.set_num_threads(threads)
    # The same switch as use_deterministic_algorithms, which loads the compiler first: two seconds for each task.
    torch.set_deterministic_debug_mode("error" if device.type == "cpu" else "default")
    # Nothing here reads memory before writing it, and filling it would cost as much as many a kernel.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.set_float32_matmul_precision("high" if device.type == "cuda" else "highest")
    torch.backends.cudnn.benchmark = device.type == "cuda"
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.set_deterministic_debug_mode(before[1])
        torch.utils.deterministic.fill_uninitialized_memory = before[2]  # type: ignore[attr-defined]
        torch.set_float32_matmul_precision(before[3])
        torch.backends.cudnn.benchmark = before[4]


def device_name(device: torch.device) -> str:
    """The driver's name of a GPU; for a CPU, the machine's architecture."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor()


def hold(task: RunningTask, device: torch.device, threads: int, processes: int = 1) -> None:
    """Tag the task's run with the device, GPUs and cores of this attempt; `threads` 0 means torch's own number."""
    gpus = processes if device.type == "cuda" else 0
    task.hold(device_name(device), gpus, processes * (threads or torch.get_num_threads()), processes)
