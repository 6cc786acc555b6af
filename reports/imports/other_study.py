"""Results of another study of ablate, from the records in its home: a column for each factor and metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ablative.reports.imports.rows import Row, SourceTable, columns_of
from ablative.reports.store.store_tables import Point
from ablative.study.core.errors import ConfigError, unknown
from ablative.study.core.files import read_json
from ablative.study.home.journal import read as read_journal
from ablative.study.home.paths import Home, TaskPaths
from ablative.study.home.records import read_record
from ablative.study.syntax.sources import SourceConfig
from ablative.study.syntax.yaml_text import shown

SEED = "seed"
_PLAN = {"tasks": [{"task_id": str, "run_id": str, "cells": [dict], "seed": int}]}


def read_study(config: SourceConfig, folder: Path, own: Home) -> SourceTable:
    """Every run of the plan that was last submitted of a study; raises ConfigError."""
    [name] = config.places
    home = Home(folder / Path(config.home).expanduser()) if config.home else own
    path = home.study(name).plan
    plan = read_json(path, _PLAN)
    if plan is None:
        known = [each.parent.name for each in path.parent.parent.glob(f"*/{path.name}")]
        if name in known:
            raise ConfigError(f"{config.at}.study: {shown(path)} is damaged")
        raise ConfigError(unknown("study", name, known, f"{config.at}.study: in {shown(home.root)}"))
    runs: dict[str, list[Mapping[str, Any]]] = {}
    for task in plan["tasks"]:
        runs.setdefault(task["run_id"], []).append(task)
    rows = tuple(row for run, tasks in runs.items() for row in _rows(home, name, run, tasks))
    factors = tuple(dict.fromkeys(factor for task in plan["tasks"] for cell in task["cells"] for factor in cell))

    def points(wanted: Sequence[str], metrics: Sequence[str]) -> list[Point]:
        names = {metric: metric for metric in metrics}
        files = [(run, paths_of(home, task)) for run in wanted for task in runs.get(run, ())]
        return [Point.of(run, *each) for run, paths in files for each in logged(paths, names)]

    title = f"study {name} in {shown(home.root)}"
    return SourceTable(title, columns_of(rows), rows, factors=factors, points=points)


def _rows(home: Home, study: str, run: str, tasks: list[Mapping[str, Any]]) -> list[Row]:
    """The run once for each cell that it is of."""
    opening = next((task for task in tasks if task["task_id"] == run), tasks[0])
    records = [record for task in tasks if (record := read_record(paths_of(home, task))) is not None]
    metrics = {name: value for record in records for name, value in final(record).items()}
    found = record_facts(records[0]) if records else {}
    unfinished = "" if records else "without a result"
    return [
        Row(f"run {run} of study {study}", {**cell, SEED: opening["seed"], **metrics}, run, "", unfinished, **found)
        for cell in opening["cells"]
    ]


def paths_of(home: Home, task: Mapping[str, Any]) -> TaskPaths:
    run = home.run(task["run_id"])
    return run if task["task_id"] == task["run_id"] else run.evaluation(task["task_id"])


def final(record: Mapping[str, Any]) -> dict[str, float]:
    """A finished task's metrics; JSON has null, or a word, for what is not finite."""
    found = (record.get("metrics") or {}).items()
    return {name: float("nan") if value is None else float(value) for name, value in found}


def record_facts(record: Mapping[str, Any]) -> dict[str, Any]:
    """Code of a finished task."""
    environment = record.get("environment") or {}
    commit = environment.get("commit") or "unknown"
    return {"commit": f"{commit}-dirty" if environment.get("dirty") else str(commit)}


def logged(paths: TaskPaths, metrics: Mapping[str, str]) -> list[tuple[str, int, float]]:
    """(name, step, value) of every point of some metrics in a task's journal; `metrics`: name there → name here."""
    if not paths.journal.exists():
        return []
    entries, _ = read_journal(paths.journal)
    points = [(e["step"], e["values"]) for e in entries if e.get("kind") == "metrics"]
    return [
        (metrics[name], step, float(value))
        for step, values in points
        for name, value in values.items()
        if name in metrics
    ]
