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
    "sync": "ablative.sweeps.tracking.cli:sync",
    "data": "ablative.trainer.clip.data.cli:data",
    "report": "ablative.reports.cli:report",
    "why": "ablative.reports.cli:why",
    "sql": "ablative.reports.sql_cli:sql",
}
"""Subcommand → where the package that owns it defines it."""

EXECUTE = "ablative.trainer.clip.tasks:execute"
"""(kind, root, home, stop): runs one task in a job; its module also has the exception `Interrupted`."""

EXTRA = {EXECUTE: "clip"}
"""What a job calls → the extra that it needs (`study.core.extras`); none where it is not listed."""

FINGERPRINT = "ablative.trainer.clip.data.fingerprints:fingerprint"
"""`study.plan.plan.Fingerprint`: content hash of data in files."""

STATES = "ablative.sweeps.status.task_states:task_states"
"""(plan) → {task_id: state}, scheduler included."""

SCRIPTS = "ablative.sweeps.slurm.preview:scripts"
"""(plan) → the batch scripts that a submission would hand to SLURM, each under the call that would."""

SELECT = "ablative.sweeps.submission.selection:select"
"""(plan, budget, table) → what of the plan to submit (`study.costs.budget.Selection`)."""

GPUS = "ablative.sweeps.submission.local:gpus"
"""() → GPUs of this machine, as `CUDA_VISIBLE_DEVICES` names them."""

FLOPS = "ablative.trainer.clip.models.flops:run_flops"
"""(RunConfig) → floating-point operations of the whole run."""

EVALUATION_FLOPS = "ablative.trainer.clip.models.flops:evaluation_flops"
"""(ModelConfig, EvaluationConfig) → floating-point operations of its passes; 0 where they are not known."""

PENDING = "ablative.sweeps.tracking.cursor:pending"
"""(tasks, study name, Home) → number of tasks with something journalled that is not yet in the tracking store."""

SHIP = "ablative.sweeps.tracking.sync:ship"
"""(tasks, study name, Home) → what was shipped, with `pending` tasks left; never raises for a fault of the store."""


EXECUTORS = {"local": "ablative.sweeps.submission.local", "slurm": "ablative.sweeps.slurm.executor"}
"""Cluster's `kind` → the module that is its executor (`sweeps.queue.executors.Executor`)."""

SEARCH_WORKER = "ablative.sweeps.search.worker:SearchWorker"
"""The worker of a search's submission: imports Optuna, so only its jobs load it."""

PEER_LOST = "ablative.trainer.torch.distributed:PeerLostError"
"""Exception of a run that lost one of its processes."""

END_LIKE = "ablative.trainer.torch.process_group:end_like"
"""(rank, exit code, dismissed event) → ends this process as another one of the run has ended."""

TORCH_DEVICES = "ablative.trainer.torch.distributed:visible_gpus"
"""() → (version of torch, names of the GPUs that torch sees)."""


def load(target: str) -> Any:
    """The object that `"module:attribute"` names."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)
