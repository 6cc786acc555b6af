"""Tasks of different ids that have logged the same, bit by bit: what they differ in is not read.

Tasks whose final metrics are the same are found in the warehouse, for all tasks at once; the points of these few alone
are read from the store. What a task has cost does not count, nor a metric that tracking copied from another task.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ablative.reports.store.results import Results
    from ablative.reports.store.warehouse import Warehouse
    from ablative.study.plan.task import Task

POINTS = 3
"""A curve has so many different values at least: a constant, or a single coarse number, may well be another task's."""
GROUPS, MEMBERS = 20, 50
"""Most groups with the same final metrics in a stage that are looked at, and most tasks of each."""


class _Candidate(NamedTuple):
    stage: str
    group: int
    mlflow_run: str
    task_id: str


def identical_curves(results: Results) -> tuple[tuple[Task, ...], ...]:
    """Groups of completed tasks of one stage with the same curves, in the order of the plan."""
    warehouse, plan = results.warehouse, results.plan
    stages: dict[str, dict[int, list[_Candidate]]] = {}
    for row in warehouse.rows(_CANDIDATES, {"groups": GROUPS, "members": MEMBERS}):
        own = _Candidate(*row)
        stages.setdefault(own.stage, {}).setdefault(own.group, []).append(own)
    found: list[tuple[Task, ...]] = []
    for stage, groups in stages.items():
        for same in _alike(warehouse, stage, list(groups.values())):
            found.append(tuple(plan.by_id[task_id] for task_id in same))
    places = {task.task_id: place for place, task in enumerate(plan.tasks)}
    ordered = [tuple(sorted(group, key=lambda task: places[task.task_id])) for group in found]
    return tuple(sorted(ordered, key=lambda group: places[group[0].task_id]))


def _alike(warehouse: Warehouse, stage: str, groups: Sequence[Sequence[_Candidate]]) -> list[list[str]]:
    """Ids of tasks with the same curves, of groups with the same final metrics."""
    [(metrics, telling)] = warehouse.rows(_METRICS, {"stage": stage})
    # Most stages that measure have no curves at all: one task of each group shows it.
    firsts = dict(_digests(warehouse, [group[0] for group in groups], metrics, telling))
    left = [group for group in groups if group[0].mlflow_run in firsts]
    rest = [own for group in left for own in group[1:]]
    digests = {**firsts, **_digests(warehouse, rest, metrics, telling)}
    found: dict[tuple[int, str], list[str]] = {}
    for own in (own for group in left for own in group if own.mlflow_run in digests):
        found.setdefault((own.group, digests[own.mlflow_run]), []).append(own.task_id)
    return [same for same in found.values() if len(same) > 1]


def _digests(
    warehouse: Warehouse, tasks: Iterable[_Candidate], metrics: Sequence[str], telling: Sequence[str]
) -> Mapping[str, str]:
    """MLflow run -> hash of all its points, of the runs that have a curve."""
    warehouse.history("src_alike", [own.mlflow_run for own in tasks], metrics)
    return dict(warehouse.rows(_DIGESTS, {"telling": list(telling), "points": POINTS}))


_FINAL = """
    completed as (select run, stage, task_id, mlflow_run_id from int_tasks where planned and state = 'completed'),

    final_metrics as (
        select completed.run, completed.stage, metrics.metric, metrics.value
        from completed
        join stg_metrics as metrics using (run)
        join int_metrics as owners using (metric)
        where not owners.costs and coalesce(owners.stage = completed.stage, true)
    )
"""
"""The last value of each metric of each completed task."""

_CANDIDATES = f"""
    with {_FINAL},

    prints as (select run, bit_xor(hash(metric, value)) as print from final_metrics group by run),

    shared as (
        select
            completed.*,
            min(task_id) over same as leader,
            row_number() over (partition by stage, print order by task_id) as member
        from prints
        join completed using (run)
        window same as (partition by stage, print)
        qualify count(*) over same > 1
    ),

    placed as (select *, dense_rank() over (partition by stage order by leader) as place from shared)

    select stage, place, mlflow_run_id, task_id
    from placed
    where place <= $groups and member <= $members
    order by stage, place, task_id
"""

_METRICS = f"""
    with {_FINAL},

    spread as (
        select metric, min(value) <> max(value) as varies from final_metrics where stage = $stage group by metric
    )

    select list(metric), coalesce(list(metric) filter (varies), list(metric)) from spread
"""
"""A stage's metrics, and those by which tasks differ: what all tasks have in common (a learning rate) is no sign."""

_DIGESTS = """
    with points as (select distinct run_uuid, key, step, value, is_nan from src_alike),

    series as (
        select
            run_uuid,
            key,
            bit_xor(hash(key, step, value, is_nan)) as digest,
            count(distinct value) filter (not is_nan) as different
        from points
        group by run_uuid, key
    )

    select run_uuid, cast(bit_xor(digest) as varchar)
    from series
    group by run_uuid
    having bool_or(different >= $points and list_contains($telling, key))
"""
