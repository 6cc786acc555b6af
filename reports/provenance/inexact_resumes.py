"""Finished tasks that were stopped and resumed, unless it is known that this changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ablative.study.home.attempt_times import ANEW, START_EVENTS
from ablative.study.home.journal import read
from ablative.study.home.paths import TaskPaths
from ablative.study.home.records import FINISHED, read_record
from ablative.study.home.tried import Tried, ends_the_same, read_tried

if TYPE_CHECKING:
    from ablative.reports.store.results import Results


def inexactly_resumed(results: Results) -> dict[str, str]:
    """Task id → what is known of its stage's resumption.

    A trainer or a study may say that resumed tasks end as uninterrupted ones do; else `ablate try` measures it.
    """
    plan = results.plan
    if not plan.trainer.executes:
        return {}
    tried = read_tried(plan.home.study(plan.study.name))
    found = {}
    for state in results.coverage.states.values():
        task = state.task
        if state.state not in FINISHED or task.run_id not in results.here or plan.has(task.task_id):
            continue  # how it went is known from a record in this home
        own, resumption = tried.get(task.stage), plan.trainer.resumption(task.stage, task.config)
        if not ends_the_same(resumption.exact, own) and _was_resumed(task.paths(plan.home)):
            found[task.task_id] = _known(task.stage, own)
    return found


def _was_resumed(paths: TaskPaths) -> bool:
    """Whether the last attempt went on from one that had reported anything; without a record here it is not known."""
    record = read_record(paths)
    if record is None or int(record.get("attempts") or 1) < 2:
        return False
    entries = read(paths.journal)[0]
    last = max((i for i, entry in enumerate(entries) if entry.get("name") in START_EVENTS), default=0)
    anew = max((i for i, entry in enumerate(entries) if entry.get("name") == ANEW), default=0)
    return any(entry["kind"] == "metrics" for entry in entries[anew:last])


def _known(stage: str, tried: Tried | None) -> str:
    if tried is None or tried.exact is None:
        return f"whether '{stage}' ends the same then has not been measured"
    if tried.difference is None:
        return f"'{stage}' does not end the same then"
    return f"'{stage}' ends otherwise then, by up to {tried.difference:.3g} of {tried.metric} as ablate try found"
