"""What tasks have cost, and how much of it led to nothing.

GPU-hours are hours by the clock times the GPUs that a task held; a task without GPUs costs core-hours likewise. The
energy is what the GPUs would have drawn at their published thermal design power all the time: an upper bound, without
the machines around them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ablative.study.costs.devices import find
from ablative.study.home import tracking_tags
from ablative.study.home.attempt_times import attempts, elapsed
from ablative.study.home.journal import read
from ablative.study.home.paths import RunPaths, TaskPaths


@dataclass(frozen=True)
class TaskUsage:
    """What one task has cost so far."""

    seconds: float
    """By the clock, in all attempts."""
    wasted: float
    """Seconds of these that led to nothing (`study.home.attempt_times`)."""
    gpus: int
    cores: int
    device: str = ""
    """As the driver names it."""
    queue_seconds: float = 0.0
    utilisation: float | None = None
    """Share of the GPU's peak, in percent."""

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> TaskUsage:
        """Of a finished task; a record from before this was kept tells no cores and no waste."""
        environment, cost = record.get("environment") or {}, record.get("cost") or {}
        seconds, processes = record.get("seconds") or 0.0, environment.get("processes") or 1
        usual = {
            "wasted": seconds if record["state"] == "diverged" else 0.0,
            "gpus": processes if cost.get("gpu_hours") else 0,
            "cores": processes,
        }
        queued = (environment.get("scheduler") or {}).get("queue_seconds") or 0.0
        told = {**usual, **(record.get("spent") or {})}
        return cls(
            seconds, told["wasted"], told["gpus"], told["cores"], environment.get("device") or "", queued,
            cost.get("flops_utilisation"),
        )  # fmt: skip

    @classmethod
    def unfinished(cls, paths: TaskPaths, alive: bool = False) -> TaskUsage | None:
        """Of a task without a record, by its journal and what it saved; None where it never began."""
        files = [path for path in (RunPaths(paths.root).checkpoint, paths.scores) if path.exists()]
        saved = files[0].stat().st_mtime if files else None
        return cls.by_journal(read(paths.journal)[0], saved, alive)

    @classmethod
    def by_journal(
        cls, entries: Sequence[Mapping[str, Any]], saved: float | None = None, alive: bool = False
    ) -> TaskUsage | None:
        """By its journal's entries alone. `saved`, `alive`: as `study.home.attempt_times.elapsed`."""
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
        """What a report is to know of it, from MLflow alone."""
        return {tracking_tags.SECONDS: f"{self.seconds:.3f}", tracking_tags.SECONDS_WASTED: f"{self.wasted:.3f}"}


@dataclass(frozen=True)
class Usage:
    """What many tasks have cost."""

    gpu_hours: float = 0.0
    gpu_wasted: float = 0.0
    core_hours: float = 0.0
    """Of tasks without GPUs."""
    core_wasted: float = 0.0
    queue_hours: float = 0.0
    utilisation: float | None = None
    """Mean share of the GPUs' peak in percent, by GPU-hours, where it is known."""
    kwh: float | None = None
    """None where the power of none of the GPUs is known."""

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
            f"at most {amount(self.kwh)} kWh at the GPUs' design power" if self.kwh else "",
        ]
        return "; ".join(filter(None, [" and ".join(spent), *rest]))


def total(items: Iterable[TaskUsage]) -> Usage:
    """The sum of what tasks have cost."""
    gpu_hours = gpu_wasted = core_hours = core_wasted = queued = weighed = known = kwh = 0.0
    for item in items:
        gpu_hours += item.seconds * item.gpus / 3600
        gpu_wasted += item.wasted * item.gpus / 3600
        if not item.gpus:
            core_hours += item.seconds * item.cores / 3600
            core_wasted += item.wasted * item.cores / 3600
        queued += item.queue_seconds / 3600
        if item.utilisation is not None:
            weighed += item.utilisation * item.seconds * item.gpus
            known += item.seconds * item.gpus
        device = find(item.device) if item.gpus else None
        if device is not None:
            kwh += device.watts / 1000 * item.seconds * item.gpus / 3600
    return Usage(
        gpu_hours, gpu_wasted, core_hours, core_wasted, queued, weighed / known if known else None, kwh or None
    )


def amount(hours: float) -> str:
    """Hours for people.

    >>> amount(1234.5), amount(3.44), amount(0.0512)
    ('1,234', '3.4', '0.051')
    """
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}"
