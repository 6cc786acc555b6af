"""Where a task runs and what it costs: facts for its record, none of which changes its result."""

from __future__ import annotations

import json
import os
import platform
import resource
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import torch

from ablative.study.core.errors import ConfigError
from ablative.study.costs.devices import find
from ablative.study.home import tracking_tags
from ablative.trainer.torch.distributed import ALONE, World

PACKAGES = {
    "ablate": "ablative",
    **{name: name for name in ("torch", "numpy", "pillow", "tokenizers", "scikit-learn")},
}
"""Key in `record.json` → distribution; the key of this program is the name that its distribution had in 0.1.0."""


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


def describe(device: torch.device) -> dict[str, Any]:
    """Host, device, versions, code and command line, as `record.json` keeps them.

    The worker that unpacked the code snapshot names its commit in `ABLATE_COMMIT` and `ABLATE_DIRTY`.
    """
    dirty = os.environ.get("ABLATE_DIRTY")
    return {
        "host": socket.gethostname(),
        "device": device_name(device),
        "python": platform.python_version(),
        "packages": {key: version for key, name in PACKAGES.items() if (version := _version(name))},
        "commit": os.environ.get("ABLATE_COMMIT") or None,
        "dirty": None if dirty is None else dirty == "1",
        "command": " ".join(sys.argv),
        "scheduler": scheduler() or None,
    }


def device_name(device: torch.device) -> str:
    """The driver's name of a GPU; for a CPU, the machine's architecture."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else (platform.machine() or "cpu")


def scheduler() -> dict[str, Any]:
    """Job id, node, requeues and seconds in the queue, as the scheduler's job passed them on; empty without a job."""
    found: dict[str, Any] = json.loads(os.environ.get("ABLATE_SCHEDULER") or "{}")
    return found


def code() -> dict[str, str]:
    """Which code this attempt runs, and as which job of a scheduler, as tags of its MLflow run."""
    tags = {
        tracking_tags.COMMIT: os.environ.get("ABLATE_COMMIT", ""),
        tracking_tags.DIRTY: os.environ.get("ABLATE_DIRTY", ""),
    }
    return tags | {tracking_tags.SCHEDULER + key: str(value) for key, value in scheduler().items() if value is not None}


@dataclass(frozen=True)
class ElapsedCost:
    """Time that went into a run up to some step, over all attempts whose work was kept."""

    seconds: float = 0.0
    """Wall-clock time."""
    cpu_seconds: float = 0.0
    """CPU time of all processes, with their loader processes that have ended."""
    gpu_seconds: float = 0.0
    """Time of all GPUs together."""


class Meter:
    """Adds this attempt's time to what earlier attempts had spent."""

    def __init__(self, earlier: ElapsedCost, device: torch.device, world: World = ALONE) -> None:
        self._earlier, self._device, self._world = earlier, device, world
        self._begin, self._cpu_begin = time.monotonic(), _cpu_seconds()

    @property
    def seconds(self) -> float:
        """Wall-clock seconds so far."""
        return self._earlier.seconds + time.monotonic() - self._begin

    def elapsed(self) -> ElapsedCost:
        """Time so far, over all processes; every process has to make this call."""
        now = sum(self._world.collect(_cpu_seconds() - self._cpu_begin))
        seconds, gpus = self.seconds, self._world.size if self._device.type == "cuda" else 0
        gpu_seconds = gpus * (seconds - self._earlier.seconds)
        return ElapsedCost(seconds, self._earlier.cpu_seconds + now, self._earlier.gpu_seconds + gpu_seconds)

    def cost(self) -> dict[str, float]:
        """`cost/…` metrics of the time so far; every process has to make this call.

        Memory is the peak of the process that needed most, allocated on a GPU or resident on a CPU.
        """
        spent = self.elapsed()
        return {
            "cost/seconds": spent.seconds,
            "cost/cpu_hours": spent.cpu_seconds / 3600,
            "cost/gpu_hours": spent.gpu_seconds / 3600,
            "cost/peak_memory_gib": max(self._world.collect(_peak_bytes(self._device))) / 2**30,
        }


def utilisation(flops_per_second: float, precision: str, name: str) -> float | None:
    """Share of the device's peak (MFU), in percent; None for a device whose peak is not known."""
    device = find(name)
    return None if device is None else 100 * flops_per_second / device.peak(precision)


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
