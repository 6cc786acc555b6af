"""Finished runs that a plan would run again, although they differ from what it plans in keys alone that no run reads.

Earlier versions hashed such keys: a level that set one gave the run another id, and the same training.
"""

from __future__ import annotations

from dataclasses import dataclass

from ablative.study.core.plurals import counted
from ablative.study.home.task_state import FINISHED, directory_state
from ablative.study.plan.plan import Plan
from ablative.study.plan.stage_graph import id_after
from ablative.study.plan.task import Task


@dataclass(frozen=True)
class FormerRun:
    """A run under its former id."""

    run: Task
    """The planned task; nothing of it is there."""
    former_id: str
    tasks: tuple[tuple[Task, str], ...]
    """Finished tasks of the run, itself included, in plan order, each with its former id."""


def former_runs(plan: Plan) -> tuple[FormerRun, ...]:
    """Finished runs of the home that may be taken over."""
    found = []
    for run in plan.runs:
        if not run.former_ids:
            continue  # most runs: the paths of 10,000 take a tenth of a second
        paths = run.paths(plan.home)
        if any(path.exists() for path in (paths.journal, paths.lease)):
            continue
        for former in run.former_ids:
            if directory_state(plan.home.run(former)).state in FINISHED:
                found.append(FormerRun(run, former, tuple(_finished(plan, run, former))))
                break
    return tuple(found)


def describe(runs: tuple[FormerRun, ...]) -> str:
    """One line that names them, and what to do."""
    few = ", ".join(f"{each.former_id} ({each.run.name})" for each in runs[:3])
    rest = f" and {len(runs) - 3} more" if len(runs) > 3 else ""
    one = len(runs) == 1
    return (
        f"{counted(len(runs), 'finished run')} {'differs' if one else 'differ'} from what is planned in keys alone "
        f"that no such run reads: {few}{rest}; --take-over uses {'it' if one else 'them'}, --train-again does not"
    )


def _finished(plan: Plan, run: Task, former: str) -> list[tuple[Task, str]]:
    known = {run.task_id: former}
    found = [(run, former)]
    folder = plan.home.run(former)
    for task in (task for task in plan.tasks if task.run_id == run.run_id and task is not run):
        needs = dict(zip(task.need_stages, (known.get(need, need) for need in task.needs), strict=True))
        known[task.task_id] = id_after(plan.trainer, task, needs)
        if directory_state(folder.evaluation(known[task.task_id])).state in FINISHED:
            found.append((task, known[task.task_id]))
    return found
