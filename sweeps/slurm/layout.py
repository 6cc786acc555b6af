"""Which tasks go into which elements of which arrays.

Runs that ask for the same resources are dealt out to the elements of one array, their evaluations to the elements of
the same numbers in a second one that follows it element by element. Where an array or the queue may not be as long as
that, elements get several tasks in turn: then nothing waits for anybody to submit the rest.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ablative.study.core.typed import plain
from ablative.study.plan.plan import Plan
from ablative.study.plan.task import Task
from ablative.study.spec.cluster import ClusterConfig
from ablative.sweeps.queue.manifest import Array

Slices = list[list[Task]]


def arrange(
    plan: Plan,
    queue: Sequence[Task],
    new: frozenset[str],
    holders: Mapping[str, str],
    prefix: str,
    max_array: int,
    max_elements: int,
    jobs: int = 0,
) -> tuple[Array, ...]:
    """Arrays in the order in which they have to be submitted.

    Args:
        plan: says where each run goes.
        queue: tasks to hand over, in plan order.
        new: ids of the tasks that no live job has yet. The others are runs that a queued evaluation waits for.
        holders: task id → job id of the live element that has it.
        prefix: what the arrays' names begin with.
        max_array: elements that an array may have.
        max_elements: elements that all arrays together may have.
        jobs: elements of an array that may run at once; 0 leaves it to the configuration.
    """
    groups: dict[str, list[Task]] = {}
    for task in queue:
        groups.setdefault(repr(plain(cluster_of(plan, task))), []).append(task)
    arrays: list[Array] = []
    for tasks in groups.values():
        config = cluster_of(plan, tasks[0])
        share = max(2, (config.max_elements or max_elements) * len(tasks) // len(queue))
        content = {**plain(config), "jobs": jobs or config.jobs}
        alone = content | {"nodes": 1, "tasks": 1, "gpus": math.ceil(config.gpus / max(1, config.tasks))}
        leaders: list[str] = []
        for slices, follows, waits_for in _stages(tasks, new, holders, config, share):
            names = []
            needs = content if any(task.kind == "pretrain" for part in slices for task in part) else alone
            for part, start in enumerate(range(0, len(slices), max_array)):
                chunk = slices[start : start + max_array]
                elements = tuple(tuple(task.task_id for task in element) for element in chunk)
                names.append(f"{prefix}.{len(arrays)}")
                arrays.append(Array(names[-1], elements, needs, leaders[part] if follows else "", waits_for))
            leaders = names
    return _with_canary(arrays)


def _with_canary(arrays: list[Array]) -> tuple[Array, ...]:
    """Before many elements, one that tries the first task. What follows an array need not wait for the canary, too."""
    count = sum(bool(element) for array in arrays for element in array.elements)
    least = int(arrays[0].cluster["canary"])
    if not least or count < least:
        return tuple(arrays)
    name = f"{arrays[0].name.rpartition('.')[0]}.canary"
    canary = Array(name, ((arrays[0].elements[0][0],),), arrays[0].cluster, canary=True)
    return canary, *(array if array.follows else replace(array, after=name) for array in arrays)


def cluster_of(plan: Plan, task: Task) -> ClusterConfig:
    """Where a task runs."""
    return plan.clusters.get(task.run_id, plan.cluster)


def _stages(
    tasks: Sequence[Task], new: frozenset[str], holders: Mapping[str, str], config: ClusterConfig, most: int
) -> Iterable[tuple[Slices, bool, tuple[str, ...]]]:
    """(slices of an array, whether it follows the one before, elements of others that it waits for)."""
    runs = [task for task in tasks if task.kind == "pretrain" and task.task_id in new]
    held = [task for task in tasks if task.kind == "pretrain" and task.task_id not in new]
    ours, theirs = {task.task_id for task in runs}, {task.task_id for task in held}
    evaluations: dict[str, list[Task]] = {}
    for task in tasks:
        if task.kind == "evaluate":
            evaluations.setdefault(task.run_id, []).append(task)
    if runs:
        # Half of the room is for the evaluations, which wait in the queue together with the runs.
        slices = _deal([[run] for run in runs], config.pack, max(1, most // 2))
        yield slices, False, ()
        after = [[e for run in element for e in evaluations.get(run.task_id, ())] for element in slices]
        if any(after):
            yield after, True, ()
    ready = [found for run_id, found in evaluations.items() if run_id not in ours | theirs]
    if ready:
        yield _deal(ready, config.pack, most), False, ()
    if held:
        # Their elements come before ours; should they die, ours go on with the run.
        follow = [[run, *evaluations.get(run.task_id, ())] for run in held]
        waits_for = tuple(dict.fromkeys(holders[run.task_id] for run in held if run.task_id in holders))
        yield _deal(follow, config.pack, most), False, waits_for


def _deal(bundles: Sequence[Sequence[Task]], pack: int, most: int) -> Slices:
    """Bundles dealt out one by one, so that every element begins with what comes first in the plan."""
    count = min(math.ceil(len(bundles) / pack), most)
    return [[task for bundle in bundles[i::count] for task in bundle] for i in range(count)]
