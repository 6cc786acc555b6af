"""What tasks have cost, and how much of it led to nothing: the one accounting that `ablate status` and reports share.

GPU-hours are hours by the clock, in all attempts, times the GPUs that a task held: that is what a cluster charges. The
metric `cost/gpu_hours` covers only the work that led to a result. A task without GPUs costs core-hours in the same way.
Energy is the estimate of `energy_kwh`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ablative.study.costs.devices import find
from ablative.study.home import tracking_tags
from ablative.study.home.attempt_times import attempts, elapsed
from ablative.study.home.journal import Entry, read
from ablative.study.home.paths import RunPaths, TaskPaths

CORE_WATTS = 12.0
GPU_WATTS = 200.0
"""A CPU core at work, and a GPU of unknown kind: Green Algorithms' averages (Lannelongue et al. 2021, `TDP_*.csv`)."""

ENERGY_METHOD = (
    f"Energy is an estimate: {CORE_WATTS:.0f} W for each busy core (Green Algorithms' average) and each GPU's rated "
    f"power ({GPU_WATTS:.0f} W where its kind is not recorded); nothing is added for memory, idle machines and cooling."
)


def energy_kwh(cpu_hours: float, gpu_hours: float, device: str = "") -> float:
    """Estimated energy in kWh (`ENERGY_METHOD`).

    The method is Green Algorithms': it needs only hours and published powers, which are known of every task, finished
    or not, and it counts processors, too. A GPU draws less than its rated power on average, and the machine around it
    draws more than nothing, so the figure is no bound.

    Args:
        cpu_hours: hours of busy cores.
        gpu_hours: hours of GPUs.
        device: name of the GPUs as the driver gives it; `GPU_WATTS` is used where it is not in the table of devices.
    """
    known = find(device)
    return (cpu_hours * CORE_WATTS + gpu_hours * (known.watts if known else GPU_WATTS)) / 1000


@dataclass(frozen=True)
class TaskUsage:
    """What one task has cost so far."""

    seconds: float
    """Seconds by the clock, in all attempts."""
    wasted: float
    """Seconds of these that led to nothing (`study.home.attempt_times`)."""
    gpus: int
    cores: int
    device: str = ""
    """Name of the GPU, or processor, as the driver gives it."""
    queue_seconds: float = 0.0
    utilisation: float | None = None
    """Share of the GPU's peak, in percent."""
    cpu_hours: float | None = None
    """Hours of busy cores that were measured; None: the task ended without a result, or has not ended."""

    @property
    def gpu_hours(self) -> float:
        return self.seconds * self.gpus / 3600

    @property
    def core_hours(self) -> float:
        """Hours by the clock times the cores held."""
        return self.seconds * self.cores / 3600

    @property
    def energy_kwh(self) -> float:
        """Estimated energy; cores held count as busy where busy ones were not measured."""
        cpu_hours = self.core_hours if self.cpu_hours is None else self.cpu_hours
        return energy_kwh(cpu_hours, self.gpu_hours, self.device)

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> TaskUsage:
        """Usage of a finished task by its record; records of early versions have no cores and no waste."""
        environment, cost = record.get("environment") or {}, record.get("cost") or {}
        seconds, processes = record.get("seconds") or 0.0, environment.get("processes") or 1
        usual = {
            "wasted": seconds if record["state"] == "diverged" else 0.0,
            "gpus": processes if cost.get("gpu_hours") else 0,
            "cores": processes,
        }
        queued = (environment.get("scheduler") or {}).get("queue_seconds") or 0.0
        spent = {**usual, **(record.get("spent") or {})}
        return cls(
            seconds, spent["wasted"], spent["gpus"], spent["cores"], environment.get("device") or "", queued,
            cost.get("flops_utilisation"), cost.get("cpu_hours"),
        )  # fmt: skip

    @classmethod
    def unfinished(cls, paths: TaskPaths, alive: bool = False) -> TaskUsage | None:
        """Usage of a task without a record, from its journal and checkpoint; None where it never began."""
        files = [path for path in (RunPaths(paths.root).checkpoint, paths.scores) if path.exists()]
        saved = files[0].stat().st_mtime if files else None
        return cls.by_journal(read(paths.journal)[0], saved, alive)

    @classmethod
    def by_journal(cls, entries: Sequence[Entry], saved: float | None = None, alive: bool = False) -> TaskUsage | None:
        """Usage of a task from its journal's entries; `saved` and `alive` as in `study.home.attempt_times.elapsed`."""
        found = attempts(entries)
        if not found:
            return None
        tags: dict[str, str] = {}
        for entry in entries:
            if entry["kind"] == "tags":
                tags.update(entry["values"])
        time = elapsed(found, saved, alive)
        queued = float(tags.get(tracking_tags.QUEUE_SECONDS) or 0.0)
        gpus, cores = int(tags.get(tracking_tags.GPUS) or 0), int(tags.get(tracking_tags.CORES) or 1)
        return cls(time.seconds, time.wasted, gpus, cores, tags.get(tracking_tags.DEVICE, ""), queued)

    def tags(self) -> dict[str, str]:
        """Tags of the task's MLflow run, from which reports compute its usage."""
        return {tracking_tags.SECONDS: f"{self.seconds:.3f}", tracking_tags.SECONDS_WASTED: f"{self.wasted:.3f}"}


@dataclass(frozen=True)
class Usage:
    """What many tasks have cost."""

    gpu_hours: float = 0.0
    gpu_wasted: float = 0.0
    core_hours: float = 0.0
    """Core-hours of tasks without GPUs."""
    core_wasted: float = 0.0
    queue_hours: float = 0.0
    utilisation: float | None = None
    """Mean share of the GPUs' peak in percent, by GPU-hours, where it is known."""
    kwh: float | None = None
    """Estimated energy (`ENERGY_METHOD`); None where nothing was spent."""

    def describe(self) -> str:
        """One line; empty where nothing was spent."""
        spent = [
            f"{amount(hours)} {unit}" + (f", {amount(wasted)} of them wasted ({wasted / hours:.0%})" if wasted else "")
            for hours, wasted, unit in (
                (self.gpu_hours, self.gpu_wasted, "GPU-hours"),
                (self.core_hours, self.core_wasted, "core-hours"),
            )
            if hours
        ]
        rest = [
            f"{amount(self.queue_hours)} hours in the queue" if self.queue_hours else "",
            f"{self.utilisation:.0f} % of the GPUs' peak" if self.utilisation is not None else "",
            f"about {amount(self.kwh)} kWh" if self.kwh else "",
        ]
        return "; ".join(filter(None, [" and ".join(spent), *rest]))


def total(items: Iterable[TaskUsage]) -> Usage:
    """The sum of what tasks have cost."""
    gpu_hours = gpu_wasted = core_hours = core_wasted = queued = weighed = known = kwh = 0.0
    for item in items:
        gpu_hours += item.gpu_hours
        gpu_wasted += item.wasted * item.gpus / 3600
        if not item.gpus:
            core_hours += item.core_hours
            core_wasted += item.wasted * item.cores / 3600
        queued += item.queue_seconds / 3600
        if item.utilisation is not None:
            weighed += item.utilisation * item.seconds * item.gpus
            known += item.seconds * item.gpus
        kwh += item.energy_kwh
    return Usage(
        gpu_hours, gpu_wasted, core_hours, core_wasted, queued, weighed / known if known else None, kwh or None
    )


def amount(value: float | None) -> str:
    """Measured hours, kWh or GiB for people: two decimals, or two significant digits below 0.1; a dash for None.

    >>> [amount(value) for value in (1234.5, 14.36, 3.5, 0.0512, 6e-5, 0.0, None)]
    ['1,234', '14.36', '3.5', '0.051', '< 0.001', '0', '–']
    """
    if value is None:
        return "–"
    if 0 < value < 0.001:
        return "< 0.001"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}".rstrip("0").rstrip(".") if value >= 0.1 else f"{value:.2g}"
