"""The tags that the plan gives a task."""

from __future__ import annotations

import json

from ablative.study.plan.task import TaskRef
from ablative.sweeps.tracking.values import TAG_LENGTH, cut, key_name


def plan_tags(task: TaskRef, study: str) -> dict[str, str]:
    """Tags that follow from the plan alone: they change when the study renames its levels."""
    tags = {
        "ablate.study": study,
        "ablate.run_id": task.run_id,
        "ablate.task_id": task.task_id,
        "ablate.kind": task.kind,
        "ablate.seed": str(task.seed),
        "ablate.cells": cells_text(task.cells),
    }
    if task.protocol is not None:
        tags["ablate.protocol"] = task.protocol
    for factor, level in (task.cells[0] if task.cells else {}).items():
        tags[key_name(f"ablate.cell.{factor}")] = cut(level, TAG_LENGTH)
    return tags


def cells_text(cells: tuple[dict[str, str], ...]) -> str:
    """JSON list of the cells: whole cells only, as many as a tag can hold."""
    text = json.dumps(cells)
    while len(text) > TAG_LENGTH:
        cells = cells[: len(cells) // 2]
        text = json.dumps(cells)
    return text
