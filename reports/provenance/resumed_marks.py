"""Signs at the numbers of a table that rest on runs which were stopped and resumed, unless that changes nothing."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from ablative.reports.tables.tables import Column, Entry, Table
from ablative.study.home.attempt_times import START_EVENTS
from ablative.study.home.journal import read
from ablative.study.home.paths import TaskPaths
from ablative.study.home.records import FINISHED, read_record
from ablative.study.home.tried import Tried, read_tried

if TYPE_CHECKING:
    from ablative.reports.store.results import Results

SIGN = "⋆"


def mark_resumed(tables: tuple[Table, ...], results: Results) -> tuple[Table, ...]:
    """The tables with a sign at these numbers, and a note on what is known of their stages' resumption."""
    found = _resumed(results)
    return tuple(_marked(table, results, found) for table in tables) if found else tables


def _resumed(results: Results) -> dict[str, str]:
    """Task id → stage, of finished tasks that were resumed, where that is not known to change nothing."""
    plan = results.plan
    tried = read_tried(plan.home.study(plan.study.name))
    found = {}
    for state in results.coverage.states.values():
        task = state.task
        if state.state not in FINISHED or plan.has(task.task_id) or not plan.trainer.executes:
            continue
        exact = plan.trainer.resumption(task.stage, task.config).exact
        if exact is None and task.stage in tried:
            exact = tried[task.stage].exact
        if not exact and _was_resumed(task.paths(plan.home)):
            found[task.task_id] = task.stage
    return found


def _was_resumed(paths: TaskPaths) -> bool:
    """Whether an attempt before the last one had reported anything; without a record here it is not known."""
    record = read_record(paths)
    if record is None or int(record.get("attempts") or 1) < 2:
        return False
    entries = read(paths.journal)[0]
    last = max((i for i, entry in enumerate(entries) if entry.get("name") in START_EVENTS), default=0)
    return any(entry["kind"] == "metrics" for entry in entries[:last])


def _marked(table: Table, results: Results, resumed: dict[str, str]) -> Table:
    if table.preformatted or table.sql:
        return table
    stages: set[str] = set()
    rows = []
    for row in table.rows:
        entries = []
        for entry, column in zip(row.entries, table.columns, strict=True):
            own = _stages(entry, column, results, resumed)
            stages |= own
            signs = entry.finding_marks + SIGN
            entries.append(dataclasses.replace(entry, finding_marks=signs) if own else entry)
        rows.append(dataclasses.replace(row, entries=tuple(entries)))
    if not stages:
        return table
    plan = results.plan
    tried = read_tried(plan.home.study(plan.study.name))
    said = "; ".join(_known(stage, tried.get(stage), plan.asked) for stage in sorted(stages))
    note = f"{SIGN} rests on runs that were stopped and resumed: {said}."
    return dataclasses.replace(table, rows=tuple(rows), notes=(*table.notes, note))


def _stages(entry: Entry, column: Column, results: Results, resumed: dict[str, str]) -> set[str]:
    """Stages of the resumed tasks behind a number."""
    if not entry.summary or not entry.cell:
        return set()
    states = results.coverage.behind(entry.cell, column.stages)
    return {resumed[task] for state in states for task in state.chain if task in resumed}


def _known(stage: str, tried: Tried | None, asked: str) -> str:
    """What is known of a stage's resumption."""
    if tried is None or tried.exact is None:
        return f"whether '{stage}' ends the same then is not known (ablate try {asked} measures it)"
    if tried.difference is None:
        return f"'{stage}' does not end the same then"
    return (
        f"'{stage}' does not end the same then (by up to {tried.difference:.3g} of {tried.metric}, as ablate try found)"
    )
