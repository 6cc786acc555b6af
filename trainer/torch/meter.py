"""What a torch task has cost so far, over all of its processes and kept attempts."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass

import torch

from ablative.study.costs.devices import find
from ablative.trainer.runner.environment import cpu_seconds
from ablative.trainer.torch.distributed import ALONE, World


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
        self._begin, self._cpu_begin = time.monotonic(), cpu_seconds()

    @property
    def seconds(self) -> float:
        """Wall-clock seconds so far."""
        return self._earlier.seconds + time.monotonic() - self._begin

    def elapsed(self) -> ElapsedCost:
        """Time so far, over all processes; every process has to make this call."""
        now = sum(self._world.collect(cpu_seconds() - self._cpu_begin))
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


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
