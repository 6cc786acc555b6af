"""What `findings` rests on: which code ran each task, what is older than it should be, and what has changed."""

from __future__ import annotations

import functools
import json
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ablative.reports.store.results import Results
from ablative.reports.store.warehouse import cell_key
from ablative.study.core import packages
from ablative.study.core.errors import ConfigError
from ablative.study.core.identity import differences, identity
from ablative.study.core.typed import load_config
from ablative.study.home.task_state import FINISHED
from ablative.trainer.clip.spec.config import EvaluationConfig, RunConfig

if TYPE_CHECKING:
    from ablative.study.home.paths import Home
    from ablative.study.plan.plan import Plan
    from ablative.study.plan.task import Task

KEYS = 5
"""The most changed keys of a configuration that a finding names."""


@dataclass(frozen=True)
class Facts:
    """Facts about finished tasks, by task id."""

    commits: Mapping[str, str]
    """Codes as the store has them: `<commit>`, `<commit>-dirty`, `unknown`."""
    versions: Mapping[str, str]
    """Commit -> what makes it one version with others: the contents of `packages.TRAINED_BY`, where git knows them."""
    stale: Mapping[str, str]
    """Why, of tasks that are older than what they measured."""
    changed: Mapping[str, str]
    """What has changed, of tasks whose results are those of another configuration."""
    pending: int
    """Tasks with something in their journals that is not in the store."""

    def code(self, task: Task) -> tuple[str, ...] | None:
        """Versions of the code that trained and that evaluated; None for a task without a result."""
        ids = dict.fromkeys((task.run_id, task.task_id))
        if task.task_id not in self.commits:
            return None
        return tuple(self.versions[self.commits[each]] for each in ids if each in self.commits)

    def short(self, task: str) -> str:
        """A task's commit as people write it."""
        return short_commit(self.commits[task])


def short_commit(commit: str) -> str:
    """Ten digits of each commit, with what follows it.

    >>> short_commit("0123456789abcdef0123456789abcdef01234567-dirty unknown")
    '0123456789-dirty unknown'
    """
    words = (word.partition("-") for word in commit.split())
    return " ".join(f"{name[:10]}{dash}{rest}" for name, dash, rest in words) or "unknown"


def edited(commit: str) -> bool:
    """No commit holds this code."""
    return commit.endswith("-dirty")


def collect_facts(results: Results, pending: int = 0, thorough: bool = False) -> Facts:
    """Facts about the plan's tasks; `thorough` also reads the configuration of every run in this home.

    `pending`: tasks with something in their journals that the store lacks.
    """
    commits = dict(results.warehouse.rows(_COMMITS))
    changed = _superseded(results)
    if thorough:
        changed |= _edited(results.plan)
    stale = dict(results.warehouse.rows(_STALE))
    return Facts(commits, code_versions(set(commits.values())), stale, changed, pending)


def code_versions(commits: Iterable[str]) -> dict[str, str]:
    """Commit -> version; a commit that git does not know is its own version.

    Commits between which no code of `packages.TRAINED_BY` changed are one version. Git is asked only where there are
    several commits.
    """
    known = sorted(set(commits))
    if len(known) < 2:
        return {commit: commit for commit in known}
    return {commit: commit if edited(commit) else _trees(commit) or commit for commit in known}


@functools.cache
def _trees(commit: str) -> str:
    """Git's hashes of the packages' contents at a commit; empty where git does not know it."""
    found = []
    for package in packages.TRAINED_BY:
        command = ["git", "-C", str(packages.folder(package)), "rev-parse", "--verify", "--quiet", f"{commit}:./"]
        try:
            done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return ""
        if done.returncode:
            return ""
        found.append(done.stdout.strip())
    return " ".join(found)


def _superseded(results: Results) -> dict[str, str]:
    """Tasks without a result whose cell, seed and protocol have one under an id that the plan no longer has."""
    lacking = [state.task for state in results.coverage.states.values() if state.state not in (*FINISHED, "not synced")]
    rows = results.warehouse.rows(_LEFT) if lacking else []
    former = {
        (cell_key(cell), protocol, seed): run_id
        for cells, protocol, seed, run_id in rows
        for cell in json.loads(cells or "[]")
    }
    found: dict[str, str] = {}
    for task in lacking:
        runs = [former.get((cell_key(cell), task.protocol, task.seed)) for cell in task.cells]
        if run_id := next(filter(None, runs), None):
            found[task.task_id] = _difference(results.plan, run_id, task)
    return found


def _difference(plan: Plan, former: str, task: Task) -> str:
    """`model.width: 64 → 128`, where the former run's configuration is in this home."""
    if former == task.run_id:
        return f"run {former} was evaluated otherwise"
    run = next((each for each in plan.runs if each.run_id == task.run_id), None)
    keys = changed_keys(plan.home, former, run.config) if run else ""
    return f"run {former} is now {task.run_id}" + (f": {keys}" if keys else "")


def changed_keys(home: Home, former: str, now: object) -> str:
    """Keys in which a run's configuration differs from that of run `former`; empty where the home lacks its file."""
    try:
        before = load_config(home.run(former).config, RunConfig)
    except ConfigError:  # another home's, or of a version with other keys
        return ""
    found = differences(identity(before), identity(now))
    texts = [f"{key}: {old} → {new}" for key, (old, new) in found.items()]
    return ", ".join(texts[:KEYS] + [f"{len(texts) - KEYS} more"] * (len(texts) > KEYS))


def _edited(plan: Plan) -> dict[str, str]:
    """Tasks whose configuration file says something else than the plan: their ids would be others."""
    found = {}
    for task in plan.tasks:
        path = task.paths(plan.home).config
        if not path.exists():
            continue
        kind = RunConfig if task.kind == "pretrain" else EvaluationConfig
        try:
            own = differences(identity(load_config(path, kind)), identity(task.config))
        except ConfigError as error:
            found[task.task_id] = str(error)
            continue
        if own:
            found[task.task_id] = f"{path}: {', '.join(f'{key}: {a}, planned {b}' for key, (a, b) in own.items())}"
    return found


_COMMITS = "select task_id, commit from runs where planned and state in ('completed', 'diverged')"

_STALE = """
    with evaluated as (
        select evaluations.task_id, 'its run was trained again after it' as why
        from runs as evaluations
        join runs as trained on trained.task_id = evaluations.run_id
        where evaluations.kind = 'evaluate' and evaluations.finished < trained.finished
          and evaluations.planned and evaluations.state = 'completed'
    ),

    begun as (
        select runs.task_id, 'begun again since' as why
        from runs
        join stg_tags using (task_id)
        join stg_runs using (run)
        where runs.planned and runs.state in ('completed', 'diverged')
          and stg_runs.started > runs.started and stg_runs.mlflow_run_id <> runs.mlflow_run_id
          and stg_tags.state is distinct from 'completed'
    )

    select * from evaluated
    union all
    select * from begun
"""
"""A run trained again while its evaluations stand, and what is being done again."""

_LEFT = """
    select cells, protocol, seed, run_id from runs
    where not planned and not searched and state in ('completed', 'diverged')
    order by finished
"""
"""Finished tasks that the plan no longer has, the newest last."""
