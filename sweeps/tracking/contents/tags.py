"""The tags of a task's MLflow run and of a study's experiment: the plan's, and those that MLflow's page shows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from ablative.study.home import tracking_tags
from ablative.study.plan.task import TaskRef
from ablative.sweeps.tracking.contents.values import TAG_LENGTH, cut, key_name

PARENT = "mlflow.parentRunId"
NOTE = "mlflow.note.content"
KIND = "mlflow.experimentKind"
TRAINING = "custom_model_development"
"""Kind of experiment for which MLflow's page shows parameters, metrics and curves rather than traces. Where the page
has a switch between GenAI and model training (3.17), that decides."""
SHOWN_CELLS = 8
"""So many of the cells that share a task are in its description."""


def plan_tags(task: TaskRef, study: str) -> dict[str, str]:
    """Tags that follow from the plan alone: they change when the study renames its levels."""
    tags = {
        tracking_tags.STUDY: study,
        tracking_tags.RUN_ID: task.run_id,
        tracking_tags.TASK_ID: task.task_id,
        tracking_tags.STAGE: task.stage,
        tracking_tags.KIND: task.kind,
        tracking_tags.SEED: str(task.seed),
        tracking_tags.CELLS: list_text(task.cells),
    }
    if task.needs:
        tags[tracking_tags.NEEDS] = list_text(task.needs)
    if task.protocol is not None:
        tags[tracking_tags.PROTOCOL] = task.protocol
    for factor, level in (task.cells[0] if task.cells else {}).items():
        tags[key_name(tracking_tags.CELL + factor)] = cut(level, TAG_LENGTH)
    return tags


def page_tags(task: TaskRef, study: str, code: Mapping[str, str]) -> dict[str, str]:
    """What MLflow's page shows of a run: description, source and commit. `code`: tags that name the code, if known."""
    folder = f"runs/{task.run_id}" + ("" if task.opens else f"/evaluations/{task.task_id}")
    cells = [", ".join(f"{factor} = {level}" for factor, level in cell.items()) for cell in task.cells[:SHOWN_CELLS]]
    lines = [
        f"Stage `{task.stage}` of study `{study}`, seed {task.seed}.\n",
        *(f"- {cell}" for cell in cells if cell),
        f"\n`ablate logs {task.task_id}` prints its log; its files lie in `{folder}` of the home.",
    ]
    tags = {
        NOTE: cut("\n".join(lines), TAG_LENGTH),
        "mlflow.source.name": f"ablate run {study}",
        "mlflow.source.type": "LOCAL",
    }
    if commit := code.get(tracking_tags.COMMIT):
        tags["mlflow.source.git.commit"] = commit
    return tags


def experiment_tags(study: str, title: str) -> dict[str, str]:
    """Tags of a study's experiment, which a user may change."""
    rest = f"`ablate report {study}` writes its tables and figures, `ablate sync {study}` uploads what is missing here."
    return {KIND: TRAINING, NOTE: cut(f"{title}\n\n{rest}" if title else rest, TAG_LENGTH)}


def list_text(items: Sequence[object]) -> str:
    """JSON list: whole items only, as many as a tag can hold."""
    text = json.dumps(items)
    while len(text) > TAG_LENGTH:
        items = items[: len(items) // 2]
        text = json.dumps(items)
    return text
