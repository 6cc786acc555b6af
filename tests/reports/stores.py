"""A small study and its tracking store, written through MLflow's own client as `ablate` does."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
from shared import empty_store, once

from ablative.reports.declared import declared_table
from ablative.reports.store.results import open_results
from ablative.reports.store.store_tables import SOURCES, Store, StoreTables
from ablative.reports.tables.tables import Table
from ablative.study.home.paths import Home
from ablative.study.plan.plan import Plan, Task, make_plan
from ablative.trainer.clip.spec.config import EvaluationConfig
from ablative.trainer.clip.spec.metrics import PROTOCOL_KINDS

STUDY = """
name: pooled
title: Does <pooling> matter & "why"?
base: {model: tiny, data: shapes, schedule: demo}
seeds: [0, 1, 2]
factors:
  scale:   {small: {data.pairs: 1000}, large: {data.pairs: 2000}}
  method:  {clip: {objective: clip}, "mae_clip": {objective: mae_clip}, mae: {objective: mae, model.pooling: gap}}
  pooling: {map: {model.pooling: map}, gap: {model.pooling: gap}}
applies: {pooling: {method: [clip, mae_clip]}}
drop: [{scale: small, method: mae}]
baseline: {scale: small, method: clip, pooling: map}
protocols: [zero_shot, linear_probe]
tables:
  main:
    title: Pooling & method, 100 % real
    rows: [method, pooling]
    split: scale
    delta: true
    note: Made up.
    columns:
      - {label: shape, metric: zero_shot/shapes_shape/top1, group: Zero-shot}
      - {label: mean, metric: linear_probe/shapes_*/top1, group: Probes}
      - {label: CPU-hours, metric: cost/cpu_hours, digits: 2}
effects:
  factors:
    factors: [scale, method, pooling]
    where: {method: [clip, mae_clip]}
    columns: [{label: shape, metric: zero_shot/shapes_shape/top1}, {label: probes, metric: linear_probe/shapes_*/top1}]
  suite:
    kind: suite
    factors: [method]
    where: {scale: small, pooling: map}
    columns: [{label: probes, metric: linear_probe/shapes_*/top1}]
figures:
  pooling: {kind: bars, title: Pooling, metric: zero_shot/shapes_shape/top1, x: pooling, hue: method, panel: scale}
  scaling: {kind: lines, metric: linear_probe/shapes_*/top1, x: scale, hue: method, panel: pooling}
  probes: {kind: heatmap, metric: linear_probe/*/top1, x: method, where: {scale: large}}
  transfer: {kind: scatter, metric: [zero_shot/shapes_shape/top1, linear_probe/shapes_shape/top1], hue: method}
  training: {kind: curves, metric: train/loss, hue: method, panel: scale}
"""

COMMIT = "0123456789abcdef0123456789abcdef01234567"
MEMORY = Path("/dev/shm")
"""A file system in memory, on Linux."""

Value = Callable[[Task, str], float]


def write_study(folder: Path, text: str = STUDY, name: str = "pooled") -> Path:
    """A config folder that holds one study."""
    path = folder / "study" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return folder


def plan_of(folder: Path, text: str = STUDY, overrides: tuple[str, ...] = ()) -> Plan:
    """The plan of a study text, with a home below `folder`."""
    return make_plan("pooled", overrides, str(write_study(folder / "conf", text)), Home(folder / "home"))


def redeclared(plan: Plan, prefix: str, **declared: Any) -> Plan:
    """The plan with another declaration (unit, better, …) of all metrics whose names begin so, without bounds."""
    own = {"low": None, "high": None, **declared}
    metrics = {
        name: replace(metric, **own) if name.startswith(prefix) else metric for name, metric in plan.declared.items()
    }
    return replace(plan, declared=metrics)


def one_table(plan: Plan, name: str) -> Table:
    """A single table of the study, filled from its store."""
    with open_results(plan) as results:
        return declared_table(results, name)


def rows_of(store: Store, experiment: str) -> dict[str, list[dict[str, Any]]] | None:
    """What a tracking store adds to each table of a warehouse; None for an experiment that it does not have."""
    with duckdb.connect() as connection:
        tables = StoreTables(connection)
        if not store.read(experiment, tables):
            return None
        return {name: connection.sql(f"select * from {name}").to_arrow_table().to_pylist() for name in SOURCES}


def expected(task: Task, metric: str) -> float:
    """A value that can be worked out by hand: 10 × the cell's place in the grid, + the task, + the seed."""
    cell = task.cells[0]
    place = ["small", "large"].index(cell["scale"]) * 3 + ["clip", "mae_clip", "mae"].index(cell["method"])
    base = 10.0 + 10 * place + 3 * (cell.get("pooling") == "gap")
    return base + len(metric.split("/")[1]) / 10 + task.seed


def metrics_of(task: Task, value: Value = expected) -> dict[str, float]:
    """Everything that a finished task reports."""
    if isinstance(task.config, EvaluationConfig):
        names = [
            f"{task.stage}/{data.name}/{metric}"
            for data in task.config.datasets
            for metric in PROTOCOL_KINDS[task.config.protocol.kind].metrics
            if metric != "top5"
        ]
        return {name: value(task, name) for name in names} | {"cost/cpu_hours": 0.01, "cost/gpu_hours": 0.0}
    return {"train/loss": 1.0 + task.seed, "cost/cpu_hours": 0.25, "cost/gpu_hours": 0.0, "cost/seconds": 900.0}


def track(
    plan: Plan,
    uri: str,
    state: Callable[[Task], str] = lambda task: "completed",
    value: Value = expected,
) -> None:
    """Fill the study's experiment; tasks of state "" are left out, unfinished ones have half their metrics."""
    if uri.startswith("sqlite:"):
        path = Path(uri.removeprefix("sqlite:///"))
        path.parent.mkdir(parents=True, exist_ok=True)
        # MLflow commits seven times a task: in memory, none of them waits for the disk.
        with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
            shutil.copyfile(empty_store(), Path(folder) / "store.db")
            with pytest.MonkeyPatch.context() as patch:
                # One connection: each new one reads the whole schema, and MLflow asks for seven a task.
                patch.setenv("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "StaticPool")
                _fill(plan, f"sqlite:///{folder}/store.db", state, value)
            shutil.copyfile(Path(folder) / "store.db", path)
    else:
        _fill(plan, uri, state, value)


def _fill(plan: Plan, uri: str, state: Callable[[Task], str], value: Value) -> None:
    with mlflow_client(uri) as client:
        experiment = client.create_experiment(plan.study.name)
        for task in plan.tasks:
            if state(task):
                track_task(client, experiment, task, state(task), value)
        if uri.startswith("sqlite:"):
            client._tracking_client.store.engine.dispose()


def track_once(name: str, plan: Plan, state: Callable[[Task], str] = lambda task: "completed") -> None:
    """As `track`, into the home's own store, which one process of the tests fills for all of them."""
    plan.home.root.mkdir(parents=True, exist_ok=True)
    filled = once(f"{name}.db", lambda path: track(plan, f"sqlite:///{path}", state))
    shutil.copyfile(filled, plan.home.store)


@contextlib.contextmanager
def mlflow_client(uri: str) -> Iterator[Any]:
    """MLflow's client without its warnings, which tests would take for errors, and without pooled connections."""
    os.environ.setdefault("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient

        yield MlflowClient(uri)


def track_task(client: Any, experiment: str, task: Task, state: str, value: Value = expected, **tags: str) -> str:
    """One task as an MLflow run; its id."""
    from mlflow.entities import Metric, Param

    own = {
        "task_id": task.task_id,
        "run_id": task.run_id,
        "stage": task.stage,
        "kind": task.kind,
        "seed": task.seed,
        "cells": json.dumps(list(task.cells)),
        "state": state,
        "commit": COMMIT,
        "dirty": "0",
        **({"protocol": task.protocol} if task.protocol else {}),
        **({"cause": "out of memory"} if state == "failed" else {}),
        **tags,
    }
    named = {f"ablate.{name}": str(text) for name, text in own.items()}
    run = client.create_run(experiment, start_time=1_700_000_000_000, tags=named)
    found = list(metrics_of(task, value).items())
    if state not in ("completed", "diverged"):
        found = found[: len(found) // 2]
    if state == "diverged":
        found = [(name, math.nan if name.startswith("train/") else number) for name, number in found]
    noise = int(task.task_id[:4], 16) / 1e12  # no two runs have the same curve
    history = [Metric("train/loss", 3.0 - step / 10 + task.seed / 100 + noise, 5, step) for step in range(0, 20, 5)]
    client.log_batch(
        run.info.run_id,
        metrics=[Metric(name, number, 10, 30) for name, number in found] + (history if task.opens else []),
        params=[Param("seed", str(task.seed))],
    )
    client.set_terminated(run.info.run_id, end_time=1_700_000_100_000)
    return str(run.info.run_id)
