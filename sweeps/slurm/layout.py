"""Which tasks go into which elements of which arrays.

Tasks that ask for the same resources, and of which none needs another, are dealt out to the elements of one array. What
needs them goes into further arrays: where each run's tasks need those of one element, into the element of the same
number, which follows that one alone; where a task is needed by several runs, into elements that wait for its array.
Where an array or the queue may not be as long as that, elements get several tasks in turn: then nothing waits for
anybody to submit the rest.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ablative.study.core.typed import plain
from ablative.study.plan.plan import Plan
from ablative.study.plan.task import Task
from ablative.study.spec.cluster import ClusterConfig, spread, warned
from ablative.sweeps.queue.manifest import Array
from ablative.sweeps.slurm.environment import adopt


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
        new: ids of the tasks that no live job has yet. The others are such that a queued task waits for.
        holders: task id → job id of the live element that has it.
        prefix: what the arrays' names begin with.
        max_array: elements that an array may have.
        max_elements: elements that all arrays together may have.
        jobs: elements of an array that may run at once; 0 leaves it to the configuration.
    """
    layers = _layers(_bundles(plan, queue, new))
    _deal(layers, len(queue), max_elements)
    arrays: list[Array] = []
    for layer in layers:
        content = {**plain(layer.cluster), "jobs": jobs or layer.cluster.jobs}
        held = [task.task_id for bundle in layer.bundles for task in bundle.held]
        waits_for = tuple(dict.fromkeys(holders[task_id] for task_id in held if task_id in holders))
        follows = layer.leader.names if layer.leader else []
        after = tuple(name for other in layer.waits if len(other.slices) == 1 for name in other.names if name)
        after_end = tuple(name for other in layer.waits if len(other.slices) > 1 for name in other.names if name)
        for part, start in enumerate(range(0, len(layer.slices), max_array)):
            elements = tuple(map(tuple, layer.slices[start : start + max_array]))
            layer.names.append(f"{prefix}.{len(arrays)}" if any(elements) else "")
            if any(elements):
                first = follows[part] if follows else ""
                array = Array(layer.names[-1], elements, content, first, waits_for, after, after_end)
                array = replace(array, once=plan.trainer.starts_processes)
                arrays.append(array)
    return _with_canary(arrays)


def cluster_of(plan: Plan, task: Task) -> ClusterConfig:
    """Where a task runs: as its run, on the share of it that the task's processes need."""
    return warned(adopt(_share(plan, task)))


def _share(plan: Plan, task: Task) -> ClusterConfig:
    config, processes = plan.clusters.get(task.run_id, plan.cluster), task.runtime.processes
    if config.kind != "slurm" or processes == config.nodes * max(1, config.tasks):
        return config
    if processes == 1:
        gpus = math.ceil(config.gpus / max(1, config.tasks))
        return dataclasses.replace(config, nodes=1, tasks=1, gpus=gpus)
    return spread(dataclasses.replace(config, tasks=0), task.runtime)


@dataclass(eq=False)
class _Bundle:
    """Tasks of one run that go into one element."""

    run_id: str
    cluster: ClusterConfig
    tasks: list[Task] = field(default_factory=list)
    held: list[Task] = field(default_factory=list)
    """Those of them that other jobs have: their elements come before ours; should they die, ours go on with them."""
    needs: list[_Bundle] = field(default_factory=list)
    """Other bundles that have to be done before."""
    layer: _Layer | None = None
    element: int = 0

    @property
    def depth(self) -> int:
        return 1 + max((need.depth for need in self.needs), default=-1)

    @property
    def main_need(self) -> _Bundle | None:
        """The last of what comes before it, in the same run where there is any."""
        own = [need for need in self.needs if need.run_id == self.run_id]
        return max(own or self.needs, key=lambda need: need.depth, default=None)


@dataclass(eq=False)
class _Layer:
    """Bundles of which none needs another: one array, or several where it is too long."""

    cluster: ClusterConfig
    leader: _Layer | None
    """Its element of the same number has to end well before an element starts; None: elements are dealt out anew."""
    bundles: list[_Bundle] = field(default_factory=list)
    slices: list[list[str]] = field(default_factory=list)
    """Ids of the tasks of each element."""
    waits: list[_Layer] = field(default_factory=list)
    """Other layers that have to end as a whole before any element starts."""
    names: list[str] = field(default_factory=list)
    """Names of its arrays; empty where one would have no tasks."""

    @property
    def chain(self) -> list[_Layer]:
        """The layers that it follows element by element."""
        return [self.leader, *self.leader.chain] if self.leader else []

    @property
    def waited(self) -> set[_Layer]:
        """All layers that have ended as a whole when an element starts."""
        return {*self.waits}.union(*(layer.waited for layer in (*self.waits, *self.chain[:1])))


def _bundles(plan: Plan, queue: Sequence[Task], new: frozenset[str]) -> list[_Bundle]:
    """Tasks of a run at one depth that ask for the same; with those that other jobs have, what needs those alone."""
    clusters = {task.task_id: cluster_of(plan, task) for task in queue}
    found: dict[tuple[object, ...], _Bundle] = {}
    by_task: dict[str, _Bundle] = {}
    depths: dict[str, int] = {}
    for task in queue:
        needs = list(dict.fromkeys(by_task[need] for need in task.needs if need in by_task))
        depths[task.task_id] = 1 + max((depths[need] for need in task.needs if need in depths), default=-1)
        held = task.task_id not in new
        if held or (needs and all(need.held and need.run_id == task.run_id for need in needs)):
            key: tuple[object, ...] = (task.run_id,)
        else:
            key = (task.run_id, depths[task.task_id], repr(clusters[task.task_id]))
        bundle = by_task[task.task_id] = found.setdefault(key, _Bundle(task.run_id, clusters[task.task_id]))
        bundle.tasks.append(task)
        bundle.held += [task] if held else []
        bundle.needs += [need for need in needs if need is not bundle and need not in bundle.needs]
    return list(found.values())


def _layers(bundles: Sequence[_Bundle]) -> list[_Layer]:
    """Layers in the order in which their arrays have to be submitted."""
    mains = ((bundle, bundle.main_need) for bundle in bundles)
    others = Counter(need for bundle, need in mains if need is not None and need.run_id != bundle.run_id)
    found: dict[tuple[object, ...], _Layer] = {}
    depths = {bundle: bundle.depth for bundle in bundles}
    for bundle in sorted(bundles, key=lambda bundle: (depths[bundle], bool(bundle.held))):
        need = None if bundle.held else bundle.main_need
        # One that several runs need would have all of them in its element.
        own = need is not None and need.run_id == bundle.run_id
        leader = need.layer if need is not None and (own or others[need] == 1) else None
        key = (depths[bundle], bool(bundle.held), repr(bundle.cluster), leader, own)
        bundle.layer = found.setdefault(key, _Layer(bundle.cluster, leader))
        bundle.layer.bundles.append(bundle)
    return list(found.values())


def _deal(layers: Sequence[_Layer], tasks: int, max_elements: int) -> None:
    """Fill in the elements of the layers, and which layers each waits for.

    Bundles are dealt out one by one, so that every element begins with what comes first in the plan.
    """
    for layer in layers:
        if layer.leader is None:
            together = [other for other in layers if layer in (other, *other.chain)]
            share = sum(len(bundle.tasks) for other in together for bundle in other.bundles)
            room = (layer.cluster.max_elements or max_elements) * share // tasks // len(together)
            count = min(math.ceil(len(layer.bundles) / layer.cluster.pack), max(1, room))
            for number, bundle in enumerate(layer.bundles):
                bundle.element = number % count
        else:
            count = len(layer.leader.slices)
            for bundle in layer.bundles:
                bundle.element = next(need.element for need in bundle.needs if need.layer is layer.leader)
        layer.slices = [[] for _ in range(count)]
        for bundle in layer.bundles:
            layer.slices[bundle.element] += [task.task_id for task in bundle.tasks]
        layer.waits = _waits(layer)


def halved(arrays: Sequence[Array], taken: Mapping[str, str]) -> tuple[Array, ...]:
    """The same tasks in half as many elements of each array; the same arrays where none can be shorter.

    Args:
        arrays: arrays that the queue has no room for, in the order in which they have to be submitted.
        taken: names of those before them, which stay as they are.
    """
    found = []
    for array in arrays:
        if array.follows in taken:
            # Elements of other numbers hold what is needed then.
            array = replace(array, follows="", after_end=(*array.after_end, array.follows))
        count = math.ceil(len(array.elements) / 2)
        parts = (array.elements[number::count] for number in range(count))
        elements = tuple(tuple(itertools.chain.from_iterable(part)) for part in parts)
        found.append(array if array.arms else replace(array, elements=elements))
    return tuple(found)


def _waits(layer: _Layer) -> list[_Layer]:
    """Layers that hold something needed, and that do not end before an element starts anyhow."""
    chain, waited = layer.chain, layer.waited
    found: dict[_Layer, None] = {}
    for bundle in layer.bundles:
        for need in bundle.needs:
            follows = need.layer in chain and need.element == bundle.element
            if not follows and need.layer not in waited:
                assert need.layer is not None
                found[need.layer] = None
    return list(found)


def _with_canary(arrays: list[Array]) -> tuple[Array, ...]:
    """Before many elements, one that tries the first task. What waits for another array need not wait for it, too."""
    count = sum(bool(element) for array in arrays for element in array.elements)
    least = int(arrays[0].cluster["canary"])
    if not least or count < least:
        return tuple(arrays)
    name = f"{arrays[0].name.rpartition('.')[0]}.canary"
    first = next(element for element in arrays[0].elements if element)
    canary = Array(name, ((first[0],),), arrays[0].cluster, canary=True, once=arrays[0].once)
    waiting = [array.follows or array.after or array.after_end for array in arrays]
    return canary, *(a if waits else replace(a, after=(name,)) for a, waits in zip(arrays, waiting, strict=True))
