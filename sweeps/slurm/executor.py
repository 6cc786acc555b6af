"""SLURM behind the interface of `sweeps.queue.executors`.

Nothing stays behind on the machine that submits: the arrays are in the scheduler's queue, and what they do is in the
manifest. Whether an element lives is asked of `squeue`, by the name of its array; how its tasks ended, of their
directories. Job states, exit codes and Submitit's results say too little and too late to be asked.
"""

from __future__ import annotations

import getpass
import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ablative.study.core.errors import ConfigError
from ablative.study.core.typed import build, plain
from ablative.study.home.paths import Home, SubmissionPaths, TaskPaths
from ablative.study.home.task_state import FINISHED, directory_state
from ablative.study.plan.plan import Plan
from ablative.study.plan.search_arms import SearchArm
from ablative.study.plan.task import Task
from ablative.study.spec.cluster import ClusterConfig, warned
from ablative.sweeps.queue import leases, retries
from ablative.sweeps.queue.executors import Ending, NoRoom
from ablative.sweeps.queue.leases import Owner
from ablative.sweeps.queue.manifest import Array, Job, Manifest, WorkerLayout, submissions
from ablative.sweeps.slurm import cluster, endings, layout, limits, squeue
from ablative.sweeps.slurm.cluster import Cluster
from ablative.sweeps.slurm.environment import adopt
from ablative.sweeps.slurm.squeue import Queue, QueuedElement, SchedulerSilent
from ablative.sweeps.submission import local

LAUNCH_SECONDS = 120.0
"""A submission that is being made on another host is believed to be for so long."""
SEARCHERS = 4
"""Elements of a search by default: if all trials ran at once, none would learn from another."""
BACK_OFF = (2.0, 5.0, 15.0, 30.0)
"""Seconds between tries while the controller does not answer."""
CLOSED = (*FINISHED, "failed", "cancelled")

invalidate_cache = squeue.invalidate_cache


def arrange(plan: Plan, tasks: tuple[Task, ...], new: frozenset[str], jobs: int, prefix: str) -> WorkerLayout:
    """Arrays for these tasks, checked against what the cluster has.

    Raises:
        ConfigError: SLURM is not installed here, or would never start what the configuration asks for.
        NoRoom: limits on the user's jobs leave no place in the queue.
        SchedulerSilent: the controller does not answer.
    """
    found = cluster.inspect()
    configs = {repr(config): config for task in tasks for config in [layout.cluster_of(plan, task)]}.values()
    for config in configs:
        _check_kind(config)
        _check(config, found)
    holders = _holders(plan.home) if any(task.task_id not in new for task in tasks) else {}
    most = _room(configs, found)
    # The first of many elements is tried by one more.
    most -= int(most > plan.cluster.canary > 0)
    arrays = layout.arrange(plan, tasks, new, holders, prefix, found.max_array, most, jobs)
    exclude = _excluded(plan, configs, found)
    arrays = tuple(replace(array, exclude=exclude) for array in arrays)
    count = sum(bool(element) for array in arrays if not array.canary for element in array.elements)
    return WorkerLayout(count, (), arrays, getpass.getuser())


def _check(config: ClusterConfig, found: Cluster) -> None:
    cluster.check(config, found)
    limits.check(config, found, limits.of(found, getpass.getuser()))


def _room(configs: Iterable[ClusterConfig], found: Cluster) -> int:
    """How many elements the queue takes now, as far as it can be known.

    Raises NoRoom where that is none.
    """
    user = getpass.getuser()
    accounting = limits.of(found, user)
    if accounting.qos is None:
        return found.max_jobs
    seen = squeue.look([user], 0.0)
    rooms = [limits.room(config, found, accounting, seen.elements) for config in configs]
    tightest = min(rooms, key=lambda room: room.left)
    if not tightest.left:
        raise NoRoom(f"{tightest}: `ablate run` waits until there is room, or submit again when some of them are done")
    return int(min(tightest.left, found.max_jobs))


def _check_kind(config: ClusterConfig) -> None:
    if config.kind != "slurm":
        raise ConfigError(f"cluster: a level goes to '{config.name}', which is no SLURM cluster, and the others do")


def _excluded(plan: Plan, configs: Iterable[ClusterConfig], found: Cluster) -> tuple[str, ...]:
    """Nodes to stay away from, because they failed lately; none where the work could not be done without them."""
    failed = retries.avoided_nodes(plan.home.study(plan.study.name), plan.cluster.avoid_hours)
    names = frozenset(failed) & {node.name for partition in found.partitions.values() for node in partition.nodes}
    try:
        for config in configs:
            cluster.check(config, found.without(names))
    except ConfigError:
        return ()
    return tuple(sorted(names))


def search_layout(plan: Plan, jobs: int, left: Mapping[str, int], prefix: str) -> WorkerLayout:
    """Arrays whose elements look for trials themselves: none waits for another, and nothing has to outlive them.

    Arms that ask for the same resources share an array, and the arrays the number of elements.

    Raises:
        ConfigError: SLURM is not installed here, or would never start what the configuration asks for.
        SchedulerSilent: the controller does not answer.
    """
    found = cluster.inspect()
    groups: dict[str, list[SearchArm]] = {}
    for arm in plan.arms:
        if left.get(arm.name):
            groups.setdefault(repr(arm.cluster), []).append(arm)
    wanted = jobs or plan.cluster.jobs or SEARCHERS
    arrays = []
    for number, arms in enumerate(groups.values()):
        config = arms[0].cluster
        assert config is not None, "a plan's arms know where they run"
        _check_kind(config)
        config = warned(adopt(config))
        _check(config, found)
        share = math.ceil(wanted / len(groups))
        most = math.ceil(sum(left[arm.name] for arm in arms) / config.pack)
        count = max(1, min(share, most, found.max_array, _room([config], found) // len(groups)))
        names, once = tuple(arm.name for arm in arms), plan.trainer.starts_processes
        arrays.append(Array(f"{prefix}.{number}", ((),) * count, plain(config), once=once, arms=names))
    return WorkerLayout(sum(len(array.elements) for array in arrays), (), tuple(arrays), getpass.getuser())


def list_array(config: ClusterConfig, items: Sequence[str], jobs: int, name: str, program: str) -> Array:
    """An array of at most `jobs` elements that share items which are no tasks, of which each has every so many.

    Raises:
        ConfigError: SLURM is not installed here, or would never start what the configuration asks for.
        NoRoom: limits on the user's jobs leave no place in the queue.
        SchedulerSilent: the controller does not answer.
    """
    found = cluster.inspect()
    config = warned(adopt(replace(config, nodes=1, tasks=1, pack=1)))
    _check(config, found)
    count = min(jobs, len(items), found.max_array, _room([config], found))
    elements = tuple(tuple(items[number::count]) for number in range(count))
    return Array(name, elements, plain(config), program=program)


def launch(home: Home, submission: SubmissionPaths, environment: Mapping[str, str]) -> None:
    """Hand the manifest's arrays to `sbatch`, one call for each, and note their job ids.

    What a limit refuses is dealt out again to half as many elements, until it is taken or an element has all of it.

    Raises:
        SubmissionRefused: `sbatch` did not take an array. Those before it stay in the queue; the manifest forgets the
            others, whose tasks the next submission takes.
        NoRoom: a limit leaves no place even for one element of an array; as above.
    """
    from ablative.sweeps.queue import manifest
    from ablative.sweeps.slurm import script

    found = manifest.require(submission)
    submission.jobs.mkdir(parents=True, exist_ok=True)
    lease = leases.acquire(submission.launching, "submit", LAUNCH_SECONDS)
    arrays = list(found.arrays)
    ids: dict[str, str] = {}
    try:
        while len(ids) < len(arrays):
            array = arrays[len(ids)]
            text = script.text(home, submission, array, environment, script.dependency(array, ids))
            try:
                job_id = _submit(submission, array, text, found.user)
            except NoRoom:
                smaller = layout.halved(arrays[len(ids) :], ids)
                if max(map(_count, smaller)) == max(map(_count, arrays[len(ids) :])):
                    raise
                arrays[len(ids) :] = smaller
                # An element looks its tasks up there.
                replace(found, arrays=tuple(arrays)).write(submission)
                continue
            arrays[len(ids)] = replace(array, job_id=job_id, submitted=time.time())
            ids[array.name] = job_id
    except (script.SubmissionRefused, NoRoom) as refused:
        if not ids:
            raise
        rest = f"{len(ids)} of {len(arrays)} arrays are in the queue; `ablate submit` takes the rest when there is room"
        raise type(refused)(f"{refused} ({rest})") from None
    finally:
        replace(found, arrays=tuple(arrays[: len(ids)])).write(submission)
        squeue.invalidate_cache()
        if lease is not None:
            lease.release()


def _submit(submission: SubmissionPaths, array: Array, text: str, user: str) -> str:
    """Job id of an array that is handed over.

    A controller that is too busy to answer may have taken it: the queue is asked for its name before it is handed
    over again.
    """
    from ablative.sweeps.slurm import script

    for seconds in (*BACK_OFF, None):
        try:
            return script.submit(submission, text)
        except script.NoAnswer:
            found = _job_of(array, user)
            if found:
                return found
            if seconds is None:
                raise
            time.sleep(seconds)
    raise AssertionError("the last try returns or raises")


def _job_of(array: Array, user: str) -> str:
    """Job id of an array that is in the queue; empty: it is not there."""
    for seconds in (*BACK_OFF, 0.0):
        squeue.invalidate_cache()
        seen = squeue.look([user], 0.0)
        if not seen.silence:
            return next((one.job_id.partition("_")[0] for one in seen.elements if one.name == array.name), "")
        time.sleep(seconds)
    raise SchedulerSilent(f"{seen.silence}; whether it has {array.name} is not known: `ablate status` says so later")


def _count(array: Array) -> int:
    return len(array.elements)


def live_jobs(submission: SubmissionPaths, manifest: Manifest) -> tuple[Job, ...]:
    """Elements that run or wait; while the scheduler is silent, all of them may."""
    return tuple(Job(job_id, "", array.name, index) for job_id, array, index in _live(submission, manifest))


def held(submission: SubmissionPaths, manifest: Manifest) -> frozenset[str]:
    """Ids of the tasks that live elements have in their slices."""
    return frozenset(task for _, array, index in _live(submission, manifest) for task in array.elements[index])


def queue_summary(home: Home, study: str) -> str:
    """What the scheduler has of the study and why it waits, or that the scheduler does not answer."""
    counts: Counter[str] = Counter()
    failed: dict[str, float] = {}
    for submission, manifest in submissions(home, study):
        if manifest.arrays:
            hours = build(ClusterConfig, manifest.arrays[0].cluster, "cluster").avoid_hours
            failed |= retries.avoided_nodes(home.study(study), hours)
            seen = _look(submission, manifest)
            if seen.silence:
                return f"the scheduler does not answer ({seen.silence}): what it has is shown as it was handed over"
            names = {array.name for array in manifest.arrays}
            live = [element for element in seen.elements if element.name in names and element.live]
            counts.update(_words(element) for element in live)
    parts = [f"{count} {words}" for words, count in counts.most_common()]
    for node, until in failed.items():
        parts.append(
            f"{node} failed (submissions stay away from it until {time.strftime('%H:%M', time.localtime(until))})"
        )
    return f"slurm: {', '.join(parts)}" if parts else ""


def output(home: Home, task: TaskPaths) -> str:
    """What the element that last had this task printed: how it started, and what the scheduler did to it."""
    task_id = task.root.name
    for submission, manifest in submissions(home, ended=True):
        # A canary, the first array, leaves its task to an element of the others.
        for array in reversed(manifest.arrays):
            for index, element in enumerate(array.elements):
                job_id = f"{array.job_id}_{index}"
                files = [submission.output(job_id), submission.errors(job_id)]
                if task_id in element and any(path.exists() for path in files):
                    return "".join(path.read_text(errors="replace") for path in files if path.exists())
    return ""


def ending(submission: SubmissionPaths, manifest: Manifest, task_id: str, owner: Owner) -> Ending | None:
    """What ended the element that left its lease on a task, by the scheduler's word or by the element's errors."""
    job_id, _, number = owner.job.partition("_")
    for array in manifest.arrays:
        if array.job_id == job_id and number.isdigit() and task_id in _tasks(array, int(number)):
            elements = _look(submission, manifest).elements
            return endings.cause_of_end(elements, array.name, int(number), submission.errors(owner.job))
    return None


def last_error_line(submission: SubmissionPaths) -> str:
    """Last line of the newest errors of the submission's elements that says what ended one, else that one ended."""
    why = local.last_error_line(submission, (endings.BEGINS, *endings.REPEATED))
    return why or local.last_error_line(submission, (endings.BEGINS,))


def stop(jobs: tuple[Job, ...], force: bool) -> None:
    """`scancel`: running elements get SIGTERM and the cluster's KillWait to save; with `force`, SIGKILL at once."""
    ids = _compressed(job.job_id for job in jobs)
    if ids and force:
        squeue.cancel("--signal=KILL", *ids)
    if ids:
        squeue.cancel(*ids)


def _compressed(ids: Iterable[str]) -> list[str]:
    """`12_[0-3,7]` for the elements of an array, as `scancel` reads them."""
    elements: dict[str, list[int]] = {}
    for job_id in ids:
        array, _, number = job_id.partition("_")
        elements.setdefault(array, []).extend([int(number)] if number else [])
    return [f"{array}_[{squeue.ranges(sorted(numbers))}]" if numbers else array for array, numbers in elements.items()]


def withdraw(home: Home, submission: SubmissionPaths, manifest: Manifest) -> None:
    """`scancel` the elements that have not begun and whose tasks are all cancelled or over.

    A running element sees by itself that its task was cancelled.
    """
    paths = {task.task_id: task.paths(home) for task in manifest.tasks}
    idle = {element.job_id for element in _look(submission, manifest).elements if element.state == "PENDING"}
    stop(
        tuple(
            Job(job_id, "", array.name, index)
            for job_id, array, index in _live(submission, manifest)
            if job_id in idle
            and array.elements[index]
            and all(directory_state(paths[task]).state in CLOSED for task in array.elements[index])
        ),
        force=False,
    )


def _live(submission: SubmissionPaths, manifest: Manifest) -> list[tuple[str, Array, int]]:
    """(job id, array, element) of everything that is or may be in the queue."""
    # In this order: who is seen to have finished launching has finished before the look at the queue.
    launching = leases.inspect(submission.launching, LAUNCH_SECONDS)
    seen = _look(submission, manifest)
    by_name: dict[str, list[QueuedElement]] = {}
    for element in seen.elements:
        by_name.setdefault(element.name, []).append(element)
    found = []
    for array in manifest.arrays:
        elements = by_name.get(array.name, [])
        if seen.silence or (not elements and launching is not None and launching.alive):
            found += [(f"{array.job_id}_{i}", array, i) for i in array.numbers]
        else:
            found += [(element.job_id, array, element.index) for element in elements if element.live]
    return found


def _look(submission: SubmissionPaths, manifest: Manifest) -> Queue:
    """The queue as it is since the submission was written down."""
    try:
        written = submission.manifest.stat().st_mtime
    except FileNotFoundError:
        written = 0.0
    return squeue.look([manifest.user], min(written, time.time()))


def _holders(home: Home) -> dict[str, str]:
    """Task id → job id of a live element of any submission that has it."""
    return {
        task: job_id
        for submission, manifest in submissions(home)
        for job_id, array, index in _live(submission, manifest)
        for task in array.elements[index]
    }


def _tasks(array: Array, number: int) -> tuple[str, ...]:
    return array.elements[number] if number < len(array.elements) else ()


def _words(element: QueuedElement) -> str:
    waits = element.state == "PENDING" and element.reason not in ("None", "")
    return f"{element.state.lower()} ({element.reason})" if waits else element.state.lower()
