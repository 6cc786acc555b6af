"""Tracking stores, written once by MLflow itself, that many tests only read."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import stores

from ablative.study.plan.plan import Plan, Task


@pytest.fixture(autouse=True)
def own_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store that a home names is its own, whatever the caller's environment says."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="session")
def full(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """A study in which every task has completed."""
    plan = stores.plan_of(tmp_path_factory.mktemp("full"))
    stores.track_once("full", plan)
    return plan


def _unfinished(task: Task) -> str:
    """At large scale: clip not begun; mae_clip map failed at seed 2, gap runs; mae diverged at seed 0."""
    cell = task.cells[0]
    if cell["scale"] == "small":
        return "completed"
    if cell["method"] == "mae_clip" and cell["pooling"] == "map":
        return "" if task.seed == 2 and not task.opens else "failed" if task.seed == 2 else "completed"
    if cell["method"] == "mae_clip":
        return "running" if task.opens else ""
    if cell["method"] == "mae":
        return ("diverged" if task.opens else "") if task.seed == 0 else "completed"
    return ""


@pytest.fixture(scope="session")
def partial(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """A study in every state; see `_unfinished`."""
    plan = stores.plan_of(tmp_path_factory.mktemp("partial"))
    stores.track_once("partial", plan, _unfinished)
    return plan
