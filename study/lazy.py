"""Names that are imported only when they are used: how `study` calls upward without importing upward."""

from __future__ import annotations

import importlib
from typing import Any

COMMANDS = {
    "list": "study.commands:list_command",
    "plan": "study.commands:plan_command",
    "diff": "study.commands:diff",
    "run": "sweeps.cli:run",
    "submit": "sweeps.cli:submit",
    "status": "sweeps.cli:status",
    "logs": "sweeps.cli:logs",
    "cancel": "sweeps.cli:cancel",
    "retry": "sweeps.cli:retry",
    "doctor": "sweeps.cli:doctor",
    "search": "sweeps.search.cli:search",
    "sync": "trainer.tracking.cli:sync",
    "data": "trainer.data.cli:data",
    "report": "reports.cli:report",
    "why": "reports.cli:why",
    "sql": "reports.sql_cli:sql",
}
"""Subcommand → where the package that owns it defines it."""

FINGERPRINT = "trainer.data.fingerprints:fingerprint"
"""`study.plan.Fingerprint`: content hash of data in files."""

STATES = "sweeps.states:task_states"
"""(plan) → {task_id: state}, scheduler included."""

SCRIPTS = "sweeps.slurm.preview:scripts"
"""(plan) → the batch scripts that a submission would hand to SLURM, each under the call that would."""

SELECT = "sweeps.selection:select"
"""(plan, budget, table) → what of the plan to submit (`study.budget.Selection`)."""

GPUS = "sweeps.local:gpus"
"""() → GPUs of this machine, as `CUDA_VISIBLE_DEVICES` names them."""

FLOPS = "trainer.models.flops:run_flops"
"""(RunConfig) → floating-point operations of the whole run."""

EVALUATION_FLOPS = "trainer.models.flops:evaluation_flops"
"""(ModelConfig, EvaluationConfig) → floating-point operations of its passes; 0 where they are not known."""

PENDING = "trainer.tracking.cursor:pending"
"""(tasks, study name, Home) → number of tasks with something journalled that is not yet in the tracking store."""

SHIP = "trainer.tracking.shipping:ship"
"""(tasks, study name, Home) → what was shipped, with `pending` tasks left; never raises for a fault of the store."""


def load(target: str) -> Any:
    """The object that `"module:attribute"` names."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)
