"""Names that are imported only when they are used: how `study` calls upward without importing upward."""

from __future__ import annotations

import importlib
from typing import Any

COMMANDS = {
    "list": "ablative.study.commands:list_command",
    "plan": "ablative.study.commands:plan_command",
    "diff": "ablative.study.commands:diff",
    "run": "ablative.sweeps.cli:run",
    "submit": "ablative.sweeps.cli:submit",
    "status": "ablative.sweeps.cli:status",
    "logs": "ablative.sweeps.cli:logs",
    "cancel": "ablative.sweeps.cli:cancel",
    "retry": "ablative.sweeps.cli:retry",
    "doctor": "ablative.sweeps.cli:doctor",
    "search": "ablative.sweeps.search.cli:search",
    "sync": "ablative.trainer.tracking.cli:sync",
    "data": "ablative.trainer.data.cli:data",
    "report": "ablative.reports.cli:report",
    "why": "ablative.reports.cli:why",
    "sql": "ablative.reports.sql_cli:sql",
}
"""Subcommand → where the package that owns it defines it."""

FINGERPRINT = "ablative.trainer.data.fingerprints:fingerprint"
"""`study.plan.Fingerprint`: content hash of data in files."""

STATES = "ablative.sweeps.states:task_states"
"""(plan) → {task_id: state}, scheduler included."""

SCRIPTS = "ablative.sweeps.slurm.preview:scripts"
"""(plan) → the batch scripts that a submission would hand to SLURM, each under the call that would."""

SELECT = "ablative.sweeps.selection:select"
"""(plan, budget, table) → what of the plan to submit (`study.budget.Selection`)."""

GPUS = "ablative.sweeps.local:gpus"
"""() → GPUs of this machine, as `CUDA_VISIBLE_DEVICES` names them."""

FLOPS = "ablative.trainer.models.flops:run_flops"
"""(RunConfig) → floating-point operations of the whole run."""

EVALUATION_FLOPS = "ablative.trainer.models.flops:evaluation_flops"
"""(ModelConfig, EvaluationConfig) → floating-point operations of its passes; 0 where they are not known."""

PENDING = "ablative.trainer.tracking.cursor:pending"
"""(tasks, study name, Home) → number of tasks with something journalled that is not yet in the tracking store."""

SHIP = "ablative.trainer.tracking.shipping:ship"
"""(tasks, study name, Home) → what was shipped, with `pending` tasks left; never raises for a fault of the store."""


def load(target: str) -> Any:
    """The object that `"module:attribute"` names."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)
