"""What a plan's tasks will cost: from finished tasks like them, else from their arithmetic.

Two pretrainings are alike when they train the same model with the same objective; then time goes with the
samples seen. Two evaluations are alike when they follow the same protocol on the same model and data sets.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from study.identity import canonical, identity
from study.lazy import FLOPS, load
from study.plan import Plan, Task
from study.schema import EvaluationConfig, RunConfig
from study.states import directory_state

ASSUMED_FLOPS_PER_CORE = 40e9
"""fp32 on one CPU core at half of its peak: a guess for the first run, replaced by history after it."""
ASSUMED_EVALUATION_SECONDS = 5.0
PEAK_FLOPS = {"A100": 312e12, "H100": 989e12}
"""bf16, dense, without sparsity (NVIDIA's data sheets)."""
ASSUMED_UTILISATION = 0.4
"""Share of the peak that a pretraining in bf16 makes of a GPU."""


@dataclass(frozen=True)
class Costs:
    """Estimated, or where a task is finished, measured."""

    core_seconds: dict[str, float]
    basis: str
    """Where the estimates come from, in words."""
    source: dict[str, str]
    """Task id → measured | history | flops."""
    gpu_hours: dict[str, dict[str, float]]
    """Run id → GPU → hours, of pretrainings in bf16, which are meant for GPUs; from their exact FLOPs."""

    def of(self, task_id: str) -> dict[str, Any]:
        """One task's entry of `ablate plan --json`."""
        entry = {"core_seconds": round(self.core_seconds[task_id], 1), "basis": self.source[task_id]}
        if task_id in self.gpu_hours:
            entry["gpu_hours"] = {gpu: round(hours, 1) for gpu, hours in self.gpu_hours[task_id].items()}
        return entry

    def hours(self, tasks: Iterable[Task], gpu: str) -> float:
        """GPU-hours of the pretrainings among `tasks`."""
        return sum(self.gpu_hours.get(task.task_id, {}).get(gpu, 0.0) for task in tasks)

    def summary(self, tasks: Sequence[Task]) -> str:
        """What `tasks` will cost, in words."""
        if self.gpu_hours:
            hours = " or ".join(f"{self.hours(tasks, gpu):,.0f} {gpu}-hours" for gpu in PEAK_FLOPS)
            return f"about {hours} of pretraining (exact FLOPs at {ASSUMED_UTILISATION:.0%} of the bf16 peak)"
        minutes = sum(self.core_seconds[task.task_id] for task in tasks) / 60
        return f"about {minutes:.0f} core-minutes ({self.basis})"


def estimate(plan: Plan) -> Costs:
    """Core-seconds of every task of the plan."""
    measured, rates = _history(plan)
    seconds: dict[str, float] = {}
    source: dict[str, str] = {}
    for task in plan.tasks:
        like = rates.get(_signature(task))
        if task.task_id in measured:
            seconds[task.task_id], source[task.task_id] = measured[task.task_id], "measured"
        elif like:
            seconds[task.task_id], source[task.task_id] = _size(task) * sum(like) / len(like), "history"
        else:
            seconds[task.task_id], source[task.task_id] = _from_flops(task), "flops"
    return Costs(seconds, _basis(source), source, {task.task_id: _gpu_hours(task) for task in plan.runs if _bf16(task)})


def _bf16(task: Task) -> bool:
    return isinstance(task.config, RunConfig) and task.config.schedule.precision == "bf16"


def _gpu_hours(task: Task) -> dict[str, float]:
    flops = float(load(FLOPS)(task.config))
    return {gpu: flops / (peak * ASSUMED_UTILISATION) / 3600 for gpu, peak in PEAK_FLOPS.items()}


def _basis(source: dict[str, str]) -> str:
    kinds = {kind for kind in source.values() if kind != "measured"}
    if not kinds:
        return "all measured"
    words = {
        "history": "from finished tasks like these",
        "flops": f"guessed from FLOPs at {ASSUMED_FLOPS_PER_CORE / 1e9:.0f} GFLOP/s a core",
    }
    return "; ".join(words[kind] for kind in sorted(kinds, reverse=True))


def _history(plan: Plan) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Core-seconds of finished tasks by id, and seconds per unit of size by signature."""
    measured: dict[str, float] = {}
    rates: dict[str, list[float]] = defaultdict(list)
    for task in plan.tasks:
        detail = directory_state(task.paths(plan.home)).detail
        if detail is not None and "seconds" in detail:
            measured[task.task_id] = detail["seconds"]
            if detail["state"] == "completed":
                rates[_signature(task)].append(detail["seconds"] / max(_size(task), 1))
    return measured, rates


def _signature(task: Task) -> str:
    config = task.config
    if isinstance(config, RunConfig):
        return canonical(["pretrain", identity(config.model), config.objective.name, config.schedule.steps > 0])
    assert isinstance(config, EvaluationConfig)
    return canonical(["evaluate", identity(config.protocol), [identity(item) for item in config.datasets]])


def _size(task: Task) -> int:
    """Samples seen by a pretraining; evaluations of one signature are of one size."""
    config = task.config
    return config.schedule.steps * config.schedule.batch_size if isinstance(config, RunConfig) else 1


def _from_flops(task: Task) -> float:
    if isinstance(task.config, RunConfig):
        return float(load(FLOPS)(task.config)) / ASSUMED_FLOPS_PER_CORE
    return ASSUMED_EVALUATION_SECONDS
