"""What a study has cost: hours by stage, an estimate of the energy, what came to nothing, and a paper's statement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ablative.reports.store.warehouse import Warehouse
from ablative.study.costs.devices import find

CORE_WATTS = 12.0
GPU_WATTS = 200.0
"""A CPU core at work, and a GPU of unknown kind: Green Algorithms' averages (Lannelongue et al. 2021, `TDP_*.csv`)."""

METHOD = (
    f"Energy is an estimate: {CORE_WATTS:.0f} W for each busy core (Green Algorithms' average) and each GPU's rated "
    f"power ({GPU_WATTS:.0f} W where its kind is not recorded); nothing is added for memory, idle machines and cooling."
)


@dataclass(frozen=True)
class CostRow:
    """What one stage has used; None where nothing was recorded."""

    gpu_watts: float
    stage: str
    tasks: int
    hours: float | None
    cpu_hours: float | None
    gpu_hours: float | None
    peak_memory_gib: float | None

    @property
    def energy_kwh(self) -> float | None:
        """An estimate, see `METHOD`."""
        if self.cpu_hours is None and self.gpu_hours is None:
            return None
        return ((self.cpu_hours or 0) * CORE_WATTS + (self.gpu_hours or 0) * self.gpu_watts) / 1000


def cost_rows(warehouse: Warehouse, devices: Mapping[str, int]) -> tuple[CostRow, ...]:
    """Stages, then the search, then what the study no longer names, then the sum; nothing where nothing was spent.

    `devices`: name -> tasks that ran on it.
    """
    watts = gpu_watts(devices)
    rows = [CostRow(watts, *row) for row in warehouse.rows(_COST)]
    return tuple(rows) if len(rows) > 1 else ()  # the sum alone says that nothing was spent


def gpu_watts(devices: Mapping[str, int]) -> float:
    """Rated power of the GPUs among the devices, averaged over tasks.

    >>> gpu_watts({"NVIDIA A100-SXM4-80GB": 3, "NVIDIA H200": 1, "x86_64": 10})
    475.0
    """
    known = [(count, device.watts) for name, count in devices.items() if (device := find(name)) is not None]
    return sum(count * watts for count, watts in known) / sum(count for count, _ in known) if known else GPU_WATTS


def wasted(warehouse: Warehouse) -> str:
    """What came to nothing, in words; empty where nothing did."""
    [(gpu, cores)] = warehouse.rows(_WASTED)
    [(failed, hours)] = warehouse.rows(_FAILED)
    parts = []
    if gpu or cores:
        amounts = [f"{amount(spent)} {unit}" for spent, unit in ((gpu, "GPU-hours"), (cores, "core-hours")) if spent]
        parts.append(f"{' and '.join(amounts)} in attempts that led to nothing")
    if failed:
        parts.append(f"{_count(failed, 'failed task')}, at most {amount(hours)} hours from start to end")
    [(left, cpu, gpu)] = warehouse.rows(_LEFT)
    if left:
        parts.append(
            f"{_count(left, 'task')} that the study no longer names, {amount(cpu)} CPU-hours and {amount(gpu)} "
            "GPU-hours"
        )
    return f"Wasted: {'; '.join(parts)}." if parts else ""


def statement(rows: tuple[CostRow, ...], devices: Mapping[str, int], waste: str) -> str:
    """The sentences that a paper's checklist asks for: kind of machines, time, memory and energy; what is included."""
    if not rows:
        return ""
    total = rows[-1]
    stages = [row for row in rows[:-1] if row.tasks]
    kinds = " and ".join(sorted(devices)) or "machines that were not recorded"
    parts = ", ".join(f"{amount(row.hours)} in {row.stage} ({_count(row.tasks, 'task')})" for row in stages)
    text = (
        f"All experiments took {amount(total.cpu_hours)} CPU-hours and {amount(total.gpu_hours)} GPU-hours on {kinds}: "
        f"in hours by the clock, {parts}. A task used at most {amount(total.peak_memory_gib)} GiB of memory. The "
        f"estimated energy is {amount(total.energy_kwh)} kWh."
    )
    return f"{text} {waste}".strip()


def amount(value: float | None) -> str:
    """An amount that is not negative, in two decimals or two significant digits; a dash where nothing was recorded.

    >>> [amount(value) for value in (12.345, 0.0, 0.00347, 6e-5, None)]
    ['12.35', '0', '0.0035', '< 0.001', '–']
    """
    if value is None:
        return "–"
    if 0 < value < 0.001:
        return "< 0.001"
    return "0" if value == 0 else f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


_COST = """
    select case when searched then 'search' when not planned then 'no longer in the study'
                else coalesce(protocol, 'pretraining') end as stage,
           count(*) as tasks, sum(seconds) / 3600 as hours, sum(cpu_hours) as cpu_hours, sum(gpu_hours) as gpu_hours,
           max(peak_memory_gib) as peak_memory_gib
    from cost group by all
    union all
    select 'all', count(*), sum(seconds) / 3600, sum(cpu_hours), sum(gpu_hours), max(peak_memory_gib) from cost
    order by stage = 'all', stage = 'no longer in the study', stage = 'search', stage <> 'pretraining', stage
"""

_WASTED = """
    select coalesce(sum(wasted_seconds * gpus) / 3600, 0),
           coalesce(sum(wasted_seconds * cores) filter (coalesce(gpus, 0) = 0) / 3600, 0)
    from cost where planned or searched
"""
"""GPU-hours, and the core-hours of tasks without GPUs, by what their attempts told."""

_FAILED = """
    select count(*), sum(epoch(finished - started)) / 3600
    from runs anti join (select task_id from cost where clock_seconds is not null) using (task_id)
    where state = 'failed'
"""
"""Of failed tasks whose attempts told nothing, only start and end are known."""

_LEFT = "select count(*), sum(cpu_hours), sum(gpu_hours) from cost where not planned and not searched"
