"""What a plan's tasks will cost: from tasks like them that were measured, else from their arithmetic.

The time of a task goes with its work, as its trainer counts it (`history` says which tasks are alike). Where nothing
like a task is finished in this home, nor was measured by `ablate try`, its FLOPs are set against the peak of the device
that it would run on. Where the trainer does not know them either, as of users' programs, no price is known.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ablative.study.core import registry
from ablative.study.core.plurals import counted
from ablative.study.costs.devices import driven, find, label
from ablative.study.costs.history import RunTime, WorkRates, similarity_keys
from ablative.study.home.records import read_record
from ablative.study.home.tried import read_tried
from ablative.study.plan.plan import Plan
from ablative.study.plan.task import Task
from ablative.study.spec.runtime import RuntimeConfig

ASSUMED_FLOPS_PER_CORE = 40e9
"""fp32 on one CPU core at half of its peak: a guess for the first run, replaced by history after it."""
ASSUMED_SECONDS = 5.0
ASSUMED_UTILISATION = 0.4
"""Share of a GPU's peak that a task makes use of."""
USUAL_GPUS = ("A100", "H100")
"""GPUs to estimate hours for, where a study is meant for GPUs and their kind is not known."""

SOURCES = ("measured", "history", "tried", "loose history", "flops", "passes", "assumed", "unknown")
"""How a cost is known: seen, from tasks like this, from `ablate try`, from tasks of other models, from FLOPs (an
evaluation's are those of its data sets' passes alone), assumed of an evaluation that does little, or not at all."""
MEASURE = "`ablate try` measures a cell"
"""What to do where nothing is known."""

Records = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class TargetDevice:
    """What a task would run on."""

    gpu: str | None
    """Label of the GPU; empty: of an unknown kind; None: it runs on CPUs."""
    cores: int
    """That one of its processes holds."""


@dataclass(frozen=True)
class Costs:
    """Estimated, or where a task is finished, measured."""

    core_seconds: dict[str, float]
    """Task id → seconds by the clock, times the cores that it holds meanwhile; none where no price is known."""
    source: dict[str, str]
    """Task id → one of `SOURCES`."""
    gpu_hours: dict[str, dict[str, float]]
    """Task id → GPU → hours, of tasks for GPUs; also of runs that their trainer means for them."""
    gpus: tuple[str, ...]
    """GPUs of `gpu_hours`."""
    either: bool
    """The GPUs are alternatives, since it is not known on which the tasks would run; else they add up."""
    by_operations: bool = True
    """Tasks that are alike approximately are compared by their FLOPs."""

    def of(self, task_id: str) -> dict[str, Any]:
        """One task's entry of `ablate plan --json`."""
        seconds = self.core_seconds.get(task_id)
        shown = None if seconds is None else round(seconds, 1)
        entry = {"core_seconds": shown, "basis": self.source[task_id]}
        if task_id not in self.gpu_hours:
            return entry
        return {**entry, "gpu_hours": {gpu: round(hours, 3) for gpu, hours in self.gpu_hours[task_id].items()}}

    def hours(self, tasks: Iterable[Task], gpu: str) -> float:
        """Hours of one kind of GPU."""
        return sum(self.gpu_hours.get(task.task_id, {}).get(gpu, 0.0) for task in tasks)

    def core_hours(self, tasks: Iterable[Task]) -> float:
        return sum(self.core_seconds.get(task.task_id, 0.0) for task in tasks) / 3600

    def unknown(self, tasks: Iterable[Task]) -> list[Task]:
        """Those of `tasks` of which no price is known: sums of hours are without them."""
        return [task for task in tasks if self.source[task.task_id] == "unknown"]

    def price(self, tasks: Iterable[Task], unit: str) -> float:
        """`gpuh`: hours of GPUs (of the first kind, where they are alternatives); `cpuh`: core-hours."""
        if unit == "cpuh":
            return self.core_hours(tasks)
        tasks = list(tasks)
        return sum(self.hours(tasks, gpu) for gpu in (self.gpus[:1] if self.either else self.gpus))

    def summary(self, tasks: Sequence[Task]) -> str:
        """What `tasks` will cost, in words, and how that is known."""
        if not tasks:
            return "nothing to pay for"
        unknown = len(self.unknown(tasks))
        if unknown == len(tasks):
            return f"no price is known; {MEASURE}"
        rest = f", and {counted(unknown, 'task')} of which no price is known; {MEASURE}" if unknown else ""
        return f"about {self.amount(tasks)} ({self.basis(tasks)}){rest}"

    def amount(self, tasks: Sequence[Task]) -> str:
        """`12 A100-hours or 4 H100-hours of pretraining`, `5 core-minutes`."""
        if self.gpus:
            words = [f"{estimated(self.hours(tasks, gpu))} {gpu}-hours" for gpu in self.gpus]
            return " or ".join(words) + " of pretraining" if self.either else " and ".join(words)
        hours = self.core_hours(tasks)
        return f"{estimated(hours)} core-hours" if hours >= 10 else f"{estimated(60 * hours)} core-minutes"

    def basis(self, tasks: Sequence[Task]) -> str:
        """How the costs of `tasks` are known, in words."""
        unknown = {task.task_id for task in self.unknown(tasks)}
        counts = Counter(self.source[t.task_id] for t in tasks if self._counts(t) and t.task_id not in unknown)
        peak = f"by exact FLOPs at {ASSUMED_UTILISATION:.0%} of the device's peak"
        other = (
            "by FLOPs from finished tasks with other models"
            if self.by_operations
            else "from finished tasks with other values"
        )
        guess = f"guessed from FLOPs at {ASSUMED_FLOPS_PER_CORE / 1e9:.0f} GFLOP/s a core"
        words = {
            "measured": "measured",
            "history": "from finished tasks like these",
            "tried": "from `ablate try`",
            "loose history": other,
            "flops": peak if self.gpus else guess,
            "passes": "evaluations by FLOPs of their images and questions",
            "assumed": f"at an assumed {ASSUMED_SECONDS:.0f} s a task",
        }
        parts = [f"{counts[kind]} {words[kind]}" if len(counts) > 1 else words[kind] for kind in words if counts[kind]]
        return "; ".join(parts)

    def _counts(self, task: Task) -> bool:
        """Whether the task is in the sum that is printed."""
        return not self.gpus or task.task_id in self.gpu_hours


def estimate(plan: Plan, records: Records | None = None) -> Costs:
    """Costs of every task of the plan; `records` are those of its finished tasks, where they are read already."""
    if records is None:
        read = ((task.task_id, read_record(task.paths(plan.home))) for task in plan.tasks)
        records = {task_id: record for task_id, record in read if record is not None}
    return _Estimator(
        plan, {task_id: record for task_id, record in records.items() if record.get("seconds") is not None}
    ).costs()


class _Estimator:
    """Looks at every task of a plan."""

    def __init__(self, plan: Plan, records: Records) -> None:
        self.plan = plan
        self.took = {task_id: RunTime.of(record) for task_id, record in records.items()}
        gpus = functools.cache(registry.gpus)
        self.targets = {
            task.task_id: _target(plan, task.run_id, task.runtime, gpus) for task in plan.tasks if task.opens
        }
        self._known: dict[tuple[str, str], tuple[float, str]] = {}
        """(task id, GPU) → seconds and how they are known, with the history and the GPUs at hand."""
        self._operations: dict[str, float] = {}
        """Task id → FLOPs, as the trainer counts them."""
        self._speeds: dict[tuple[str, str], float] = {}
        """(run id, GPU) → FLOP/s to be expected."""
        self.history, self.tried = WorkRates(), WorkRates()
        for task in plan.tasks:
            if task.task_id in records and records[task.task_id]["state"] == "completed":
                self.history.add(self._keys(task), self._work(task), self.took[task.task_id])
        if len(self.took) < len(plan.tasks):
            for stage in read_tried(plan.home.study(plan.study.name)).values():
                self.tried.add_tried(stage)
        if any(self._seconds(task)[1] in ("flops", "passes", "assumed", "unknown") for task in plan.tasks):
            self.history.add_others(plan.home, self.targets)
            self._known.clear()
        self.gpus, self.either = self._choose_gpus()

    def costs(self) -> Costs:
        core_seconds, source, gpu_hours = {}, {}, {}
        for task in self.plan.tasks:
            own = self._own(task)
            found = {gpu: self._seconds(task, gpu) for gpu in own} if own else {"": self._seconds(task)}
            seconds, source[task.task_id] = next(iter(found.values()))
            if source[task.task_id] == "unknown":
                continue
            if own:
                gpu_hours[task.task_id] = {gpu: seconds / 3600 for gpu, (seconds, _) in found.items()}
            target = self.targets[task.run_id]
            if own and target.gpu is None:
                seconds, _ = self._seconds(task)
            core_seconds[task.task_id] = seconds * target.cores
        by_operations = any(self._counts_operations(task) for task in self.plan.runs[:1])
        return Costs(core_seconds, source, gpu_hours, self.gpus, self.either, by_operations)

    def _choose_gpus(self) -> tuple[tuple[str, ...], bool]:
        """The GPUs to estimate hours for, and whether they are alternatives."""
        targets = [target.gpu for target in self.targets.values()]
        named = sorted({gpu for gpu in targets if gpu})
        if "" in targets and not named:
            named = list(self.history.gpus[:1])
        if named:
            return tuple(named), False
        meant = any(self._meant_for_gpus(task) for task in self.plan.tasks if task.opens)
        return (USUAL_GPUS, True) if meant else ((), False)

    def _meant_for_gpus(self, task: Task) -> bool:
        """Whether a task goes to a GPU, or should, as its trainer says, unless it was done on CPUs."""
        target, took = self.targets[task.run_id].gpu, self.took.get(task.task_id)
        if target is not None:
            return True
        return self.plan.trainer.meant_for_gpus(task.stage, task.config) and (took is None or bool(took.gpu))

    def _own(self, task: Task) -> tuple[str, ...]:
        """The GPUs to estimate a task's hours for; where they are alternatives, evaluations are left out."""
        target = self.targets[task.run_id].gpu
        if self.either:
            return self.gpus if task.opens and self._meant_for_gpus(task) else ()
        return () if target is None else (target or self.gpus[0],)

    def _seconds(self, task: Task, gpu: str = "") -> tuple[float, str]:
        """Seconds of one process for the whole task on a GPU (empty: on CPUs), and how that is known."""
        at = task.task_id, gpu
        if at not in self._known:
            self._known[at] = self._estimated(task, gpu)
        return self._known[at]

    def _estimated(self, task: Task, gpu: str) -> tuple[float, str]:
        took = self.took.get(task.task_id)
        if took is not None and took.gpu == gpu:
            return took.seconds, "measured"
        if self.history.rates or self.tried.rates:
            for key, source in zip(self._keys(task), ("history", "loose history"), strict=True):
                for rates, name in ((self.history, source), (self.tried, "tried")):
                    rate = rates.rate(key, gpu)
                    if rate is not None:
                        return self._work(task) * rate, name
        operations = self._flops(task)
        seconds = operations / self._speed(task, gpu)
        if task.opens and operations:
            return seconds, "flops"
        if not operations and not self._counts_operations(task):
            return 0.0, "unknown"
        return (seconds, "passes") if seconds > ASSUMED_SECONDS else (ASSUMED_SECONDS, "assumed")

    def _flops(self, task: Task) -> float:
        """FLOPs of a task."""
        if task.task_id not in self._operations:
            needs = self.plan.needed_configs(task)
            self._operations[task.task_id] = self.plan.trainer.operations(task.stage, task.config, needs)
        return self._operations[task.task_id]

    def _counts_operations(self, task: Task) -> bool:
        """`counts_operations`."""
        return self._flops(self.plan.by_id.get(task.run_id, task)) > 0

    def _speed(self, task: Task, gpu: str) -> float:
        """All stages of a run do their arithmetic as the one that opens it."""
        at = task.run_id, gpu
        if at not in self._speeds:
            first = self.plan.by_id.get(task.run_id, task)
            self._speeds[at] = _speed(self.plan.trainer.precision(first.stage, first.config), gpu)
        return self._speeds[at]

    def _work(self, task: Task) -> float:
        return self.plan.trainer.work(task.stage, task.config)

    def _keys(self, task: Task) -> tuple[str, str]:
        return similarity_keys(self.plan.trainer, task.stage, task.config, self.plan.needed_configs(task))


def counts_operations(plan: Plan, task: Task) -> bool:
    """Whether the trainer knows the operations of the task's run, so that a stage which adds few of them is cheap."""
    first = plan.by_id.get(task.run_id, task)
    return plan.trainer.operations(first.stage, first.config, plan.needed_configs(first)) > 0


def estimated(hours: float) -> str:
    """Estimated hours for people, in two significant digits or whole: an estimate has no more.

    >>> [estimated(hours) for hours in (1234.5, 3.44, 0.0512, 2e-18, 0.0)]
    ['1,234', '3.4', '0.051', '< 0.001', '0']
    """
    if 0 < hours < 0.001:
        return "< 0.001"
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}"


def _speed(precision: str, gpu: str) -> float:
    """FLOP/s to be expected of a GPU, for one that is not in the table those of the first usual one; of a core."""
    if not gpu:
        return ASSUMED_FLOPS_PER_CORE
    device = find(gpu) or find(USUAL_GPUS[0])
    assert device is not None
    return device.peak(precision) * ASSUMED_UTILISATION


def _target(plan: Plan, run_id: str, runtime: RuntimeConfig, local_gpus: Callable[[], Sequence[str]]) -> TargetDevice:
    cluster = plan.clusters.get(run_id, plan.cluster)
    if cluster.kind == "slurm":
        return TargetDevice(label(cluster.gpu_type) if cluster.gpus else None, cluster.cpus)
    gpus = local_gpus() if runtime.device != "cpu" else ()
    return TargetDevice(label(driven()) if gpus else None, max(1, runtime.threads))
