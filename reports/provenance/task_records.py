"""What the tasks of a report left behind: their code, data and environment, as `numbers.json` keeps them."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ablative.reports.store.coverage import TaskState
from ablative.reports.store.warehouse import Warehouse
from ablative.study.clip.config import DataConfig, DatasetConfig, RunConfig
from ablative.study.core.files import read_json

if TYPE_CHECKING:
    from ablative.study.plan.plan import Plan
    from ablative.study.plan.task import Task

SHOWN = ("device", "host", "python", "packages")
"""Of a record's environment; code and command line are told elsewhere."""


def task_facts(
    plan: Plan, states: Iterable[TaskState], warehouse: Warehouse
) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
    """Finished tasks by id (kind, run, seed, commit, when it ended, data fingerprints, place of its environment), and
    the environments. A task of another home has no record here: its environment is None."""
    rows = {row[0]: row[1:] for row in warehouse.rows(_ENDS)}
    environments: dict[str, int] = {}
    tasks = {}
    for state in states:
        task = state.task
        if task.task_id not in rows:
            continue
        commit, finished = rows[task.task_id]
        tasks[task.task_id] = {
            "kind": task.kind,
            "protocol": task.protocol,
            "run_id": task.run_id,
            "seed": task.seed,
            "state": state.state,
            "commit": commit,
            "finished": finished,
            "data": fingerprints(task),
            "environment": _place(environment(plan, task), environments),
        }
    return tasks, [json.loads(text) for text in environments]


def environment(plan: Plan, task: Task) -> Mapping[str, Any]:
    """Device, host and versions of a task that ran in this home; empty for others."""
    record: Mapping[str, Any] = read_json(task.paths(plan.home).record) or {}
    found = record.get("environment") or {}
    return {name: found[name] for name in SHOWN if found.get(name)}


def fingerprints(task: Task) -> dict[str, str]:
    """Name of each data set -> its content's fingerprint; what the program makes itself is known by its version."""
    return dict(_fingerprints((task.config.data,) if isinstance(task.config, RunConfig) else task.config.datasets))


@functools.lru_cache(maxsize=1000)
def _fingerprints(sets: tuple[DataConfig | DatasetConfig, ...]) -> tuple[tuple[str, str], ...]:
    return tuple((data.name, _fingerprint(data)) for data in sets)


def _fingerprint(data: DataConfig | DatasetConfig) -> str:
    if data.fingerprint:
        return data.fingerprint
    version = f", version {data.version}" if isinstance(data, DataConfig) else ""
    return f"comes with ablate ({data.kind}{version})"


def _place(found: Mapping[str, Any], environments: dict[str, int]) -> int | None:
    """Where an environment stands in the list; put there if it is new."""
    return environments.setdefault(json.dumps(found, sort_keys=True), len(environments)) if found else None


_ENDS = """
    select task_id, commit, strftime(finished, '%Y-%m-%dT%H:%M:%SZ')
    from runs where planned and state in ('completed', 'diverged')
"""
