"""What `findings` rests on: which code ran each task, what is older than it should be, and what has changed."""

from __future__ import annotations

import functools
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ablative.reports.provenance.identical_curves import identical_curves
from ablative.reports.provenance.inexact_resumes import inexactly_resumed
from ablative.reports.store.coverage import StoredState
from ablative.reports.store.results import Results
from ablative.reports.store.warehouse import cell_key
from ablative.study.core import checkouts, packages
from ablative.study.core.errors import ConfigError
from ablative.study.core.identity import differences, identity
from ablative.study.core.typed import read_config
from ablative.study.home.task_state import FINISHED

if TYPE_CHECKING:
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
    """What makes a task's code one version with that of others: the contents of the trainer's packages, where they are
    known."""
    packages: tuple[str, ...]
    """The trainer's: they are the code that counts."""
    stale: Mapping[str, str]
    """Why, of tasks that are older than what they measured."""
    changed: Mapping[str, str]
    """What has changed, of tasks whose results are those of another configuration."""
    pending: int
    """Tasks with something in their journals that is not in the store."""
    identical: tuple[tuple[Task, ...], ...] = ()
    """Tasks of different ids that have logged the same, bit by bit."""
    resumed: Mapping[str, str] = field(default_factory=dict)
    """What is known of it, of tasks that were stopped and resumed and may not end as uninterrupted ones do."""
    folder: str = ""
    """The user's code, where the study has one: the commits are those of its repository."""

    @property
    def comparison(self) -> str:
        """Command that shows what differs between two commits."""
        if self.folder:
            return f"git -C {shlex.quote(self.folder)} diff COMMIT COMMIT"
        folders = (name.removeprefix(f"{packages.ROOT}.").replace(".", "/") for name in self.packages)
        return f"git diff COMMIT COMMIT -- {' '.join(folders)}"

    def code(self, state: StoredState) -> tuple[str, ...] | None:
        """Versions of the code of all that a task needs, then its own; None for a task without a result."""
        if state.task.task_id not in self.commits:
            return None
        return tuple(dict.fromkeys(self.versions[each] for each in state.chain if each in self.versions))

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
    rows = results.warehouse.rows(_CODES)
    commits = {task: commit for task, commit, _ in rows}
    counted = tuple(results.plan.trainer.packages)
    known = code_versions(commits.values(), counted)
    versions = {task: sources or known[commit] for task, commit, sources in rows}
    changed = _superseded(results)
    if thorough:
        changed |= _edited(results.plan)
    stale = dict(results.warehouse.rows(_STALE))
    folder = str(results.plan.code.folder) if results.plan.code else ""
    same, resumed = identical_curves(results), inexactly_resumed(results)
    return Facts(commits, versions, counted, stale, changed, pending, same, resumed, folder)


def code_versions(commits: Iterable[str], counted: Sequence[str]) -> dict[str, str]:
    """Commit -> version; a commit that git does not know is its own version.

    Commits between which no code of the packages `counted` changed are one version. Git is asked only where there are
    several commits.
    """
    known = sorted(set(commits))
    if len(known) < 2:
        return {commit: commit for commit in known}
    return {commit: commit if edited(commit) else _trees(commit, tuple(counted)) or commit for commit in known}


@functools.cache
def _trees(commit: str, counted: tuple[str, ...]) -> str:
    """Git's hashes of the packages' contents at a commit; empty where git does not know it."""
    found = []
    for package in counted:
        try:
            place = packages.location(package)
            folder, inside = (place.parent, place.name) if place.is_file() else (place, "")
            done = checkouts.git(folder, "rev-parse", "--verify", "--quiet", f"{commit}:./{inside}")
        except (OSError, ImportError):
            return ""
        if done.returncode:
            return ""
        found.append(done.stdout.strip())
    return " ".join(found)


def _superseded(results: Results) -> dict[str, str]:
    """Tasks without a result whose cell, seed and stage have one under an id that the plan no longer has."""
    lacking = [state.task for state in results.coverage.states.values() if state.state not in (*FINISHED, "not synced")]
    rows = results.warehouse.rows(_LEFT) if lacking else []
    former = {
        (cell_key(cell), stage, seed): run_id
        for cells, stage, seed, run_id in rows
        for cell in json.loads(cells or "[]")
    }
    found: dict[str, str] = {}
    for task in lacking:
        runs = [former.get((cell_key(cell), task.stage, task.seed)) for cell in task.cells]
        if run_id := next(filter(None, runs), None):
            found[task.task_id] = _difference(results.plan, run_id, task)
    return found


def _difference(plan: Plan, former: str, task: Task) -> str:
    """`model.width: 64 → 128`, where the former run's configuration is in this home."""
    if former == task.run_id:
        return f"run {former} had another {task.stage}"
    keys = changed_keys(plan, former, task.run_id)
    return f"run {former} is now {task.run_id}" + (f": {keys}" if keys else "")


def changed_keys(plan: Plan, former: str, run: str) -> str:
    """Keys in which a run's configuration differs from that of run `former`; empty where one is not known."""
    now = plan.by_id.get(run)
    if now is None:
        return ""
    try:
        before = plan.trainer.load(now.stage, read_config(plan.home.run(former).config))
    except ConfigError:  # another home's, of another stage, or of a version with other keys
        return ""
    found = differences(identity(before), identity(now.config))
    texts = [f"{key}: {old} → {new}" for key, (old, new) in found.items()]
    return ", ".join(texts[:KEYS] + [f"{len(texts) - KEYS} more"] * (len(texts) > KEYS))


def _edited(plan: Plan) -> dict[str, str]:
    """Tasks whose configuration file says something else than the plan: their ids would be others."""
    found = {}
    for task in plan.tasks:
        path = task.paths(plan.home).config
        if not path.exists():
            continue
        try:
            own = differences(identity(plan.trainer.load(task.stage, read_config(path))), identity(task.config))
        except ConfigError as error:
            found[task.task_id] = f"{path}: {error}"
            continue
        if own:
            found[task.task_id] = f"{path}: {', '.join(f'{key}: {a}, planned {b}' for key, (a, b) in own.items())}"
    return found


_CODES = "select task_id, commit, sources from runs where planned and state in ('completed', 'diverged')"

_STALE = """
    with rested as (
        select own.task_id, 'what it rests on was run again after it' as why
        from runs as own
        join src_needs as needs using (task_id)
        join runs as needed on needed.task_id = needs.need
        where own.finished < needed.finished and own.planned and own.state = 'completed'
        group by own.task_id
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

    select * from rested
    union all
    select * from begun
"""
"""A task that is run again while results that need it remain, and what is being done again."""

_LEFT = """
    select cells, stage, seed, run_id from runs
    where not planned and not searched and state in ('completed', 'diverged')
    order by finished
"""
"""Finished tasks that the plan no longer has, the newest last."""
