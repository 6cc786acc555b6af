"""Results that exist already, as tasks of a plan: which they are, and which tasks therefore need not be run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablative.reports.imports.matching import Match, Source, listed
from ablative.reports.imports.other_study import final, logged, record_facts
from ablative.reports.imports.rows import Row
from ablative.reports.store.existing_store import Given, Points
from ablative.study.core.errors import ConfigError, unknown
from ablative.study.core.plurals import counted
from ablative.study.home.paths import Home
from ablative.study.home.records import read_record
from ablative.study.spec.design import cell_name
from ablative.study.syntax.yaml_text import shown

if TYPE_CHECKING:
    from ablative.study.plan.plan import Plan
    from ablative.study.plan.task import Task


def of_matches(plan: Plan, found: Iterable[Match]) -> dict[str, Given]:
    """Tasks whose metrics the matched runs have; raises ConfigError for a metric that no stage yields."""
    given: dict[str, Given] = {}
    for each in found:
        names = each.source.config.metrics
        stages: dict[str, list[str]] = {}
        for name in names:
            if name not in plan.declared:
                raise ConfigError(unknown("metric", name, plan.declared, f"{each.source.config.at}.metrics"))
            stages.setdefault(plan.declared[name].stage, []).append(name)
        for task in plan.of_cell(each.cell):
            own = {name: each.values[name] for name in stages.get(task.stage, ()) if name in each.values}
            whole = len(own) == len(stages.get(task.stage, ()))
            if (not task.seeded or task.seed == each.seed) and own and (whole or not plan.trainer.executes):
                given[task.task_id] = _given(task, each, own)
    return given


def _given(task: Task, found: Match, own: Mapping[str, float]) -> Given:
    config, table = found.source.config, found.source.table

    def points(metrics: Sequence[str]) -> Points:
        wanted = {config.metrics[name].key: name for name in metrics if name in own}
        if table.points is None or not wanted:
            return []
        named = {key.partition(".")[2]: name for key, name in wanted.items()} | wanted
        return [
            (
                named[point.key],
                point.step,
                float("nan") if point.is_nan else point.value * config.metrics[named[point.key]].scale,
            )
            for point in table.points([found.row.run], list(wanted))
        ]

    diverged = any(value != value for value in own.values())
    # Code that is not ours cannot be compared with ours: the results of one source count as one version.
    state = "diverged" if diverged else "completed"
    return _of_row(task, found.row, values=own, code=table.title, state=state, points=points)


def _of_row(task: Task, row: Row, **rest: Any) -> Given:
    return Given(task, row.place, row.link, row.commit, row.started, row.ended, **rest)


def of_homes(plan: Plan, homes: Sequence[str], folder: Path, at: str) -> tuple[dict[str, Given], list[str]]:
    """Tasks that other homes have finished, and what a plan says of them."""
    given: dict[str, Given] = {}
    notes = []
    for place in homes:
        home = Home(folder / Path(place).expanduser())
        if not home.runs.is_dir():
            near = [each.name for each in home.root.parent.glob("*") if (each / home.runs.name).is_dir()]
            raise ConfigError(unknown("home", home.root.name, near, f"{at}: in {shown(home.root.parent)}"))
        begun = {path.name for path in home.runs.iterdir()}
        count = 0
        for task in plan.tasks:
            if task.run_id not in begun or task.task_id in given:
                continue
            paths = task.paths(home)
            if (record := read_record(paths)) is not None:
                row = Row(f"run {task.run_id} in {shown(home.root)}", {}, task.run_id, **record_facts(record))
                points = _journal(task, home)
                given[task.task_id] = _of_row(task, row, values=final(record), state=record["state"], points=points)
                count += 1
        notes.append(f"{counted(count, 'task')} of this study are finished in {shown(home.root)}.")
    return given, notes


def _journal(task: Task, home: Home) -> Callable[[Sequence[str]], Points]:
    return lambda metrics: logged(task.paths(home), {name: name for name in metrics})


def not_to_run(plan: Plan, given: Mapping[str, Given]) -> dict[str, Given]:
    """The given tasks and what only they need, less what a task that is to be run needs."""
    finished = {task.task_id for task in plan.tasks if read_record(task.paths(plan.home)) is not None} if given else ()
    direct = {name: each for name, each in given.items() if name not in finished}
    owners: dict[str, Given] = {}
    for name, each in direct.items():
        for need in _needed(plan, [name]):
            owners.setdefault(need, each)
    to_run = {task.task_id for task in plan.tasks} - direct.keys() - owners.keys() - set(finished)
    wanted = _needed(plan, to_run)
    for task in plan.tasks:
        name = task.task_id
        if name in owners and name not in direct and name not in finished:
            direct[name] = replace(owners[name], task=task, values={}, state="completed")
    return {name: each for name, each in direct.items() if name not in wanted}


def _needed(plan: Plan, tasks: Collection[str]) -> set[str]:
    """Ids of all that some tasks need, directly or through others."""
    found: set[str] = set()
    left = list(tasks)
    while left:
        task = plan.by_id.get(left.pop())
        new = [need for need in (task.needs if task else ()) if need not in found]
        found.update(new)
        left += new
    return found


def described(source: Source, found: Sequence[Match]) -> list[str]:
    """What a plan says of a source: how many runs are results, and why the others are not."""
    own = [each for each in found if each.source is source]
    cells = len({cell_name(each.cell) for each in own})
    lines = [
        f"{len(own)} of {counted(len(source.table.rows), 'run')} of {source.table.title} are results of "
        f"{counted(cells, 'cell')}."
    ]
    if not source.config.seed:
        lines.append("Without a seed, the runs of each cell are numbered; cells are not compared by seed.")
    left = sum(map(len, source.left.values()))
    if left:
        whys = "; ".join(f"{len(places)}: {why} ({listed(places)})" for why, places in source.left.items())
        lines.append(f"{counted(left, 'run')} left out: {whys}.")
    return lines
