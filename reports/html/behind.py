"""What is behind the numbers of the page: runs with their tasks and files, cells with what is special about them,
and the curves of losses. Each is stored once; numbers name it by its place in a list.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ablative.reports.provenance.sidecar import Fields
from ablative.reports.store.coverage import StoredState
from ablative.reports.store.results import Results
from ablative.reports.store.warehouse import Source, cell_key
from ablative.study.core.identity import differences, identity
from ablative.study.core.secrets import redact
from ablative.study.home.paths import Home
from ablative.study.plan.plan import Plan
from ablative.study.plan.tuned_levels import Tuned
from ablative.study.spec.design import DESIGNS, Cell, cell_name
from ablative.study.spec.labels import StudyLabels
from ablative.study.spec.parents import parents
from ablative.study.spec.search import SEARCH_KEY

Line = list[Any]
"""A list whose places have meanings of their own: shorter in JSON than an object with names."""

CURVES_OF_RUNS = 500
"""The most runs whose curves the page carries: more would make it slow to open."""
POINTS = 60
"""The most points of one curve."""
KEYS = 12
"""The most keys of a configuration that the panel lists."""

PARTS = ("tables", "effects", "queries", "figures", "claims")
"""Keys of a study that name levels, or may: a study of one cell is without them, and without labels for them."""


class Behind:
    """Collects what numbers rest on; `data` is all of it, for the page."""

    def __init__(self, results: Results) -> None:
        self._results = results
        self._cells: dict[str, int] = {}
        self._sets: dict[tuple[object, ...], int] = {}
        self._listed: list[Line] = []
        self._tasks: dict[str, int] = {}
        self._states: list[StoredState] = []

    def cell(self, key: str) -> int:
        """Place of a cell."""
        return self._cells.setdefault(key, len(self._cells))

    def runs(self, sources: Sequence[Source], cell: str, stages: tuple[str, ...]) -> int:
        """Place of the set of the runs behind a number: seed, run, and the tasks of each."""
        key = (cell, stages, *[source.run_id for source in sources])
        if key not in self._sets:
            self._sets[key] = len(self._listed)
            self._listed.append(self._set(sources, cell, stages))
        return self._sets[key]

    def _set(self, sources: Sequence[Source], cell: str, stages: tuple[str, ...]) -> Line:
        chains: dict[str, dict[str, StoredState]] = {}
        for state in self._results.coverage.behind(cell, stages):
            chains.setdefault(state.task.run_id, {}).update(state.chain)
        found = []
        for source in sources:
            tasks = [self._task(state) for state in chains.get(source.run_id, {}).values()]
            found.append([source.seed, source.run_id, tasks, *([] if tasks else [source.commit])])
        return found

    def _task(self, state: StoredState) -> int:
        task = state.task.task_id
        if task not in self._tasks:
            self._tasks[task] = len(self._states)
            self._states.append(state)
        return self._tasks[task]

    def data(self) -> Fields:
        """Everything that was asked for, and where it lies."""
        plan, warehouse = self._results.plan, self._results.warehouse
        home = plan.home
        stored = {task: rest for task, *rest in warehouse.rows(_STORED)}
        commits: dict[str, int] = {}
        stages: dict[str, int] = {}
        runs: dict[str, int] = {}
        tasks = []
        for state in self._states:
            task = state.task
            mlflow_run, commit, origin = stored.get(task.task_id, ("", "", None))
            place = commits.setdefault(commit, len(commits))
            own = (runs.setdefault(task.run_id, len(runs)), stages.setdefault(task.stage, len(stages)))
            tasks.append([task.task_id, *own, *(["", place, origin] if origin else [mlflow_run, place])])
        run, other = home.run("RUN"), home.run("RUN").evaluation("TASK")
        here = sorted(self._results.here.intersection(state.task.run_id for state in self._states))
        return {
            "asked": _others(plan.asked),
            "home": str(home.root.absolute()),
            "here": here,
            "folders": [str(each.root.relative_to(home.root)) for each in (run, other)],
            **files(home, here),
            "tracking": redact(home.tracking_uri, home.tracking_uri),
            "warehouse": str(home.study(plan.study.name).warehouse.absolute()),
            "commits": list(commits),
            "stages": list(stages),
            "runs": list(runs),
            "tasks": tasks,
            "sets": self._listed,
            "cells": cells(self._results, self._cells),
            "curves": curves(self._results, {state.task.run_id for state in self._states}),
        }


def files(home: Home, runs: Sequence[str]) -> Fields:
    """Files of every task, and those of the task that opens a run alone: what a trainer writes is named where runs of
    the home have it (a command has outputs, and no checkpoint of ours)."""
    run = home.run("RUN")
    every = {"log": run.log.name, "config": run.config.name}
    if any(home.run(each).output.is_dir() for each in runs):
        every["outputs"] = run.output.name
    model = any(home.run(each).model.exists() for each in runs)
    return {"files": every, "opening": {"checkpoint": str(run.model.relative_to(run.root))} if model else {}}


def cells(results: Results, keys: Iterable[str]) -> list[Line]:
    """The key of each cell, the words that plan it alone, and its keys that differ from the baseline's."""
    plan = results.plan
    known = {cell_key(cell): cell for cell in plan.cells}
    configs: dict[str, dict[str, object]] = {}
    for task in plan.tasks:
        for cell in task.cells:
            configs.setdefault(cell_key(cell), {}).setdefault(task.stage, task.config)
    base = configs.get(cell_key(plan.study.baseline)) if plan.study.baseline else None
    starts = parents(plan.study.design, plan.cells, plan.study.where)
    return [
        [key, words(plan, known[key], starts), _changes(base, configs.get(key, {}))]
        if key in known
        else [key, "", None]
        for key in keys
    ]


def _changes(base: Mapping[str, object] | None, own: Mapping[str, object]) -> list[list[str]] | None:
    """Key, the baseline's value, and this cell's, over all stages; None where there is no baseline."""
    if base is None:
        return None
    found: dict[str, list[str]] = {}
    for stage, config in own.items():
        if stage in base and config is not base[stage]:
            for key, (left, right) in differences(identity(base[stage]), identity(config)).items():
                found.setdefault(key, [key, *(_shown(value) for value in (left, right))])
    for key in ("seed", "run_id"):
        found.pop(key, None)
    listed = list(found.values())
    more = [[f"{len(listed) - KEYS} more", "", ""]] if len(listed) > KEYS else []
    return listed[:KEYS] + more


def _shown(value: object) -> str:
    text = "–" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _others(asked: str) -> str:
    """The words of a study without those that `words` gives anew: which levels, seeds and outputs there are.

    >>> _others("demo 'factors.scale=[small]' seeds=[0] schedule.steps=20 tables.main.delta=true")
    'demo schedule.steps=20'
    """
    name, *rest = shlex.split(asked)
    again = (*PARTS, "labels", "seeds", "baseline", "design", "search")
    kept = [
        word for word in rest
        if re.split("[.=]", word)[0] not in again and not re.match(r"factors\.[^=]+=\[", word)
    ]  # fmt: skip
    return shlex.join([name, *kept])


def words(plan: Plan, cell: Cell, starts: Mapping[str, Cell]) -> str:
    """Words of `ablate run` that plan a single cell, and those that it starts from (`starts`, by name): the levels of
    each of its factors, no other factor, and nothing that names others."""
    study, needed = plan.study, [cell]
    while (name := cell_name(needed[-1])) in starts:
        needed.append(starts[name])
    levels = []
    for factor in study.factors:
        own = dict.fromkeys(_quoted(each[factor]) for each in needed if factor in each)
        levels.append(f"factors.{factor}=[{','.join(own)}]" if own else f"factors.{factor}=null")
    empty = [f"{part}={{}}" for part in (*PARTS, "labels") if getattr(study, part) not in ({}, StudyLabels())]
    baseline = ["baseline=null"] if study.baseline else []
    search = ["search=null"] if study.search else []
    design = ["design=product"] if study.design.kind != DESIGNS[0] else []
    return shlex.join([*_tuned(plan, cell), *levels, *design, *baseline, *search, *empty])


def _tuned(plan: Plan, cell: Cell) -> Iterator[str]:
    """The word that gives a level the values that its search has found, for a home without that search."""
    study = plan.study
    level = next(((f, own) for f, own in cell.items() if SEARCH_KEY in study.design.factors[f][own]), None)
    if level and cell_name(cell) in plan.searched:
        tuned = Tuned(study.design, study.name, plan.arms, study.search, plan.home)
        values = ",".join(f"{key}:{json.dumps(value)}" for key, value in tuned.values(cell).items())
        yield f"factors.{'.'.join(level)}={{{values}}}"


def _quoted(level: str) -> str:
    """A level as Hydra reads it in a list."""
    if re.fullmatch(r"[A-Za-z_][\w.-]*", level):
        return level
    return "'" + level.replace("\\", "\\\\").replace("'", "\\'") + "'"


def curves(results: Results, runs: set[str]) -> Fields:
    """The loss of each run over its steps, thinned out: metric, and points by run.

    Without a metric whose name ends in `loss`, and for more than `CURVES_OF_RUNS` runs, there are none.
    """
    names = [name for (name,) in results.warehouse.rows(_LOSSES)]
    if not runs or not names or len(runs) > CURVES_OF_RUNS:
        return {"metric": "", "runs": {}}
    points: dict[str, list[tuple[int, float]]] = {}
    for run_id, step, value in results.warehouse.run_curves(names[0]):
        if run_id in runs:
            points.setdefault(run_id, []).append((step, value))
    return {"metric": names[0], "runs": {run: _thinned(own) for run, own in points.items() if len(own) > 1}}


def _thinned(points: Sequence[tuple[int, float]]) -> list[list[float]]:
    """Steps and values of some points, evenly over the curve, the last among them."""
    every = max(1, -(-len(points) // POINTS))
    kept = [*points[:-1:every], points[-1]]
    return [[step for step, _ in kept], [float(f"{value:.4g}") for _, value in kept]]


_STORED = "select task_id, mlflow_run_id, commit, origin from runs where planned"

_LOSSES = """
    select distinct metric from stg_metrics
    where metric like '%/loss' or metric like '%/%loss'
    order by metric not like 'train/%', metric not like '%/loss', metric
"""
