"""What `study` and `sweeps` use of packages that they may not import: by name, and imported when it is used.

This file and `study.trainer_names` alone name modules of other packages. Parameters that a function hands on unread
have the type `object`: the rooms that define their types lie above this one.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ablative.study.core.files import Content

P = TypeVar("P")

COMMANDS = {
    "list": "ablative.study.discovery.listing:list_command",
    "plan": "ablative.study.commands:plan_command",
    "diff": "ablative.study.commands:diff",
    "config": "ablative.study.config_command:config_command",
    "keys": "ablative.study.discovery.commands:keys_command",
    "metrics": "ablative.study.discovery.commands:metrics_command",
    "schema": "ablative.study.discovery.commands:schema_command",
    "help": "ablative.study.discovery.commands:help_command",
    "try": "ablative.sweeps.tryout.cli:try_command",
    "run": "ablative.sweeps.cli:run",
    "submit": "ablative.sweeps.cli:submit",
    "status": "ablative.sweeps.cli:status",
    "logs": "ablative.sweeps.cli:logs",
    "cancel": "ablative.sweeps.cli:cancel",
    "retry": "ablative.sweeps.cli:retry",
    "doctor": "ablative.sweeps.cli:doctor",
    "search": "ablative.sweeps.search.cli:search",
    "sync": "ablative.sweeps.tracking.cli:sync",
    "report": "ablative.reports.cli:report",
    "why": "ablative.reports.cli:why",
    "sql": "ablative.reports.sql_cli:sql",
}
"""Subcommand → where the package that owns it defines it."""

BASH = "ablative.study.discovery.completion:Bash"
"""Class of the completion in Bash."""

EXECUTORS = {"local": "ablative.sweeps.submission.local", "slurm": "ablative.sweeps.slurm.executor"}
"""Kind of a cluster → module that submits to it (`sweeps.queue.executors.Executor`)."""

SEARCH_WORKER = "ablative.sweeps.search.worker:SearchWorker"
"""Class of a worker that takes trials of a search; its module imports Optuna, which takes a third of a second."""

PEER_LOST = "ablative.trainer.torch.distributed:PeerLostError"
"""Exception class: another process of the run is gone."""

END_LIKE = "ablative.trainer.torch.process_group:end_like"
"""(rank, exit code, dismissed event) → ends this process as the first process of the run has ended."""

TORCH_DEVICES = "ablative.trainer.torch.distributed:visible_gpus"
"""() → (version of torch, names of the GPUs that torch sees)."""


class State(Protocol):
    """State of one task, as `sweeps.status.task_states.TaskState` has it."""

    state: str
    detail: dict[str, Any] | None
    """Content of `record.json` of a finished task, or of `failure.json` of a failed one."""

    @property
    def finished(self) -> bool:
        """There is a result; divergence is one."""


class Existing(Protocol):
    """Results that exist already, as `reports.imports.existing.Existing` has them."""

    @property
    def places(self) -> Mapping[str, str]:
        """Task id → where its result lies; of a task that is only needed by such a one, too."""

    @property
    def notes(self) -> Sequence[str]:
        """What a plan says of them: what was found, and what fits no cell, and why."""


class Sources(Protocol):
    """What a study's sources hold, as `reports.imports.sources.Sources` has it."""

    def filled(self, data: Content, executes: bool) -> Content:
        """The study file's content with the factors and seeds that it leaves to the sources.

        Args:
            data: the content.
            executes: its trainer runs what the sources lack; then nothing is left to them.
        """

    def matched(self, plan: P) -> P:
        """The plan with the results that exist already."""


class ShipResult(Protocol):
    """Result of shipping journals."""

    pending: int
    """Number of tasks of which something is left."""


class Dealt(Protocol):
    """What became of a list, as `sweeps.worklist.hand_over.Dealt` has it."""

    queued: int
    elements: int
    folder: str
    said: str


class JobCode(Protocol):
    """What jobs run."""

    notes: tuple[str, ...]
    """Lines on a user's repository; none where there is none."""

    def to_json(self) -> dict[str, object]: ...


def load(target: str) -> Any:
    """The object that `"module:attribute"` names, or the module that `"module"` names.

    Raises:
        ModuleNotFoundError: there is no such module.
        AttributeError: the module has no such attribute.
    """
    module, _, attribute = target.partition(":")
    loaded = sys.modules.get(module) or importlib.import_module(module)
    return getattr(loaded, attribute) if attribute else loaded


def task_states(plan: object) -> Mapping[str, State]:
    """Task id → state of every task of a plan; asks the scheduler."""
    found: Mapping[str, State] = load("ablative.sweeps.status.task_states:task_states")(plan)
    return found


def scripts(plan: object) -> Iterable[str]:
    """The batch scripts that a submission of the plan would hand to SLURM, each under the call that would."""
    found: Iterable[str] = load("ablative.sweeps.slurm.preview:scripts")(plan)
    return found


def select(plan: object, budget: str | None, output: str | None) -> object:
    """The part of a plan to submit (`study.costs.budget.Selection`)."""
    found: object = load("ablative.sweeps.submission.selection:select")(plan, budget, output)
    return found


def job_code(plan: object) -> JobCode:
    """The code that a plan's jobs would run now."""
    found: JobCode = load("ablative.sweeps.queue.job_code:current")(plan)
    return found


def deal_out(home: object, name: str, items: Sequence[str], entry: str, cluster: object, jobs: int) -> Dealt:
    """Have the jobs of an array call `entry` with each item of a list (`sweeps.worklist.hand_over`)."""
    found: Dealt = load("ablative.sweeps.worklist.hand_over:deal_out")(home, name, items, entry, cluster, jobs)
    return found


def gpus() -> tuple[str, ...]:
    """GPUs of this machine, as `CUDA_VISIBLE_DEVICES` names them."""
    return tuple(load("ablative.sweeps.submission.local:gpus")())


def pending(tasks: object, study: str, home: object) -> int:
    """Number of tasks with something in their journals that is not in the tracking store yet."""
    return int(load("ablative.sweeps.tracking.cursor:pending")(tasks, study, home))


def ship(tasks: object, study: str, home: object) -> ShipResult:
    """Ship the tasks' journals to the tracking store; never raises for a fault of the store."""
    found: ShipResult = load("ablative.sweeps.tracking.sync:ship")(tasks, study, home)
    return found


def sources(data: Content, where: str, folder: Path, home: object) -> Sources | None:
    """What the sources hold that a study file names; None: it names none.

    Args:
        data: the file's content.
        where: the file, for messages.
        folder: where relative paths begin.
        home: of the plan.
    """
    if data.get("results") is None and data.get("homes") is None:
        return None
    found: Sources = load("ablative.reports.imports.sources:open_sources")(data, where, folder, home)
    return found


def suggestions(what: str, context: object, incomplete: str) -> list[str]:
    """Words of a kind that complete what is typed (`study.discovery.completion`)."""
    found: list[str] = load("ablative.study.discovery.completion:suggestions")(what, context, incomplete)
    return found


def check_outputs(plan: object) -> None:
    """Refuse SQL and functions of a study's outputs that a report could not use; raises ConfigError."""
    study = plan.study  # type: ignore[attr-defined]
    if study.queries or any(figure.kind == "custom" for figure in study.figures.values()):
        load("ablative.reports.output_checks:check_outputs")(plan)
