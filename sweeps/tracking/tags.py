"""The tags that the plan gives a task."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ablative.study.home import tracking_tags
from ablative.study.plan.task import TaskRef
from ablative.sweeps.tracking.values import TAG_LENGTH, cut, key_name


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


def list_text(items: Sequence[object]) -> str:
    """JSON list: whole items only, as many as a tag can hold."""
    text = json.dumps(items)
    while len(text) > TAG_LENGTH:
        items = items[: len(items) // 2]
        text = json.dumps(items)
    return text
