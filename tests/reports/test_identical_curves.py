"""Two configurations that trained the same: found by their curves, named with what they differ in, and refused."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest
from altered import copy_of, find

from ablative.reports.build import ReportOptions, report
from ablative.reports.provenance.findings import Finding, NotFinalError
from ablative.reports.provenance.identical_curves import identical_curves
from ablative.reports.store.results import open_results
from ablative.study.plan.plan import Plan, Task

RUN = "(select run_uuid from tags where key = 'ablate.task_id' and value = ?)"


def same(plan: Plan, one: Task, other: Task, where: str = "1") -> None:
    """Give `other` the metrics of `one`, all points of those that `where` keeps."""
    columns = "key, value, timestamp, step, is_nan"
    with sqlite3.connect(plan.home.store) as store:
        for table in ("metrics", "latest_metrics"):
            store.execute(f"delete from {table} where run_uuid = {RUN} and {where}", (other.task_id,))
            copied = f"select {columns}, {RUN} from {table} where run_uuid = {RUN} and {where}"
            store.execute(f"insert into {table} ({columns}, run_uuid) {copied}", (other.task_id, one.task_id))
    store.close()


def groups(plan: Plan) -> list[list[str]]:
    """Names of the tasks that are found."""
    with open_results(plan) as results:
        return [[task.name for task in group] for group in identical_curves(results)]


def findings(plan: Plan, out: Path) -> Sequence[Finding]:
    return report(plan, out, ["md", "tex"]).findings


def runs(plan: Plan) -> tuple[Task, Task]:
    """The same seed at two levels."""
    one, other = (find(plan, scale="small", method="clip", pooling=pooling)(1, "train") for pooling in ("map", "gap"))
    return one, other


def test_it_is_named_marked_and_refused(full: Plan, tmp_path: Path) -> None:
    plan = copy_of(full, tmp_path)
    one, other = runs(plan)
    same(plan, one, other, "key not like 'cost/%'")
    [found] = findings(plan, tmp_path / "out")
    assert found.kind == "identical-curves" and set(found.tasks) == {one.task_id, other.task_id}
    first, second = sorted([one, other], key=plan.tasks.index)
    assert f"bit by bit: {first.name} = {second.name} (differ in model.pooling)" in found.text
    lines = (tmp_path / "out" / "tables" / "main.md").read_text().splitlines()
    # The numbers of both runs, what was measured of them included: a mark at each of three.
    assert [line.count("‖") for line in lines if line.startswith("| clip")] == [3, 3]
    assert not any("‖" in line for line in lines if line.startswith("| mae"))
    assert r"\textsuperscript{$\|$}" in (tmp_path / "out" / "tables" / "main.tex").read_text()
    with pytest.raises(NotFinalError, match="pooled is not final: identical-curves"):
        report(plan, tmp_path / "final", ["md"], ReportOptions(final=True))
    report(plan, tmp_path / "final", ["md"], ReportOptions(final=True, allow=("identical-curves",)))


def test_one_point_or_one_more_metric_is_another_curve(full: Plan, tmp_path: Path) -> None:
    plan = copy_of(full, tmp_path)
    one, other = runs(plan)
    same(plan, one, other)
    assert len(groups(plan)) == 1
    with sqlite3.connect(plan.home.store) as store:
        store.execute(f"update metrics set value = value + 1e-12 where step = 5 and run_uuid = {RUN}", (other.task_id,))
    store.close()
    assert groups(plan) == [], "the last values are the same, a point before is not"
    same(plan, one, other)
    with sqlite3.connect(plan.home.store) as store:
        for table in ("metrics", "latest_metrics"):
            columns = "key, value, timestamp, step, is_nan, run_uuid"
            value = f"'train/extra', 1, 0, 0, 0, {RUN}"
            store.execute(f"insert into {table} ({columns}) select {value}", (other.task_id,))
    store.close()
    assert groups(plan) == []


def test_a_constant_and_single_numbers_are_no_curve(full: Plan, tmp_path: Path) -> None:
    plan = copy_of(full, tmp_path)
    one, other = runs(plan)
    same(plan, one, other)
    with sqlite3.connect(plan.home.store) as store:
        # Two values alone; and what is measured at one step only, however many data sets there are.
        store.execute("update metrics set value = 3 where key = 'train/loss' and step < 20")
    store.close()
    probes = [
        find(plan, scale="small", method="clip", pooling=pooling)(1, "linear_probe") for pooling in ("map", "gap")
    ]
    same(plan, *probes)
    assert groups(plan) == []


def test_a_curve_that_all_tasks_share_tells_nothing(full: Plan, tmp_path: Path) -> None:
    """Two runs whose only other number happens to be the same are not alike for having the learning rate of all."""
    plan = copy_of(full, tmp_path)
    with sqlite3.connect(plan.home.store) as store:
        # The loss of every run becomes the same curve, and a score that few values can have stands for the rest.
        store.execute("update metrics set value = 1.0 / (1 + step) where key = 'train/loss'")
        store.execute("update latest_metrics set value = 1.0 / 31 where key = 'train/loss'")
    store.close()
    trained = [task for task in plan.tasks if task.stage == "train"]
    with sqlite3.connect(plan.home.store) as store:
        for place, task in enumerate(trained):
            for table in ("metrics", "latest_metrics"):
                value = f"'train/score', {place // 2}, 0, 0, 0, {RUN}"
                columns = "key, value, timestamp, step, is_nan, run_uuid"
                store.execute(f"insert into {table} ({columns}) select {value}", (task.task_id,))
    store.close()
    assert groups(plan) == []


def test_who_takes_part(full: Plan, tmp_path: Path) -> None:
    """Other seeds do, diverged tasks and those that the plan no longer has do not; a point that is there twice is one;
    tasks that all say the same do not differ from any others."""
    plan = copy_of(full, tmp_path)
    one, other = runs(plan)
    third = find(plan, scale="large", method="mae")(2, "train")
    same(plan, one, other)
    same(plan, one, third)
    with sqlite3.connect(plan.home.store) as store:
        again = f"select key, value, timestamp + 1, step, is_nan, run_uuid from metrics where run_uuid = {RUN}"
        store.execute(f"insert into metrics (key, value, timestamp, step, is_nan, run_uuid) {again}", (other.task_id,))
    store.close()
    [found] = groups(plan)
    assert set(found) == {one.name, other.name, third.name}
    rest = tuple(task for task in plan.tasks if third.task_id not in (task.task_id, *task.needs))
    [found] = groups(dataclasses.replace(plan, tasks=rest))
    assert set(found) == {one.name, other.name}
    [found] = groups(dataclasses.replace(plan, tasks=(one, other)))
    assert set(found) == {one.name, other.name}
    with sqlite3.connect(plan.home.store) as store:
        store.execute(
            f"update tags set value = 'diverged' where key = 'ablate.state' and run_uuid = {RUN}", (third.task_id,)
        )
    store.close()
    [found] = groups(plan)
    assert set(found) == {one.name, other.name}
