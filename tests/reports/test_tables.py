"""The table model: values by hand, what is missing and why, deltas, splits, and places that clash."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import stores

from ablative.reports.build import report
from ablative.reports.store.coverage import Coverage, cover, missing_text
from ablative.reports.store.measures import Measures
from ablative.reports.store.results import open_results, open_warehouse
from ablative.reports.tables.grid_tables import build_tables
from ablative.reports.tables.tables import Entry, Table, number
from ablative.study.core.errors import ConfigError
from ablative.study.plan.plan import Plan, Task
from ablative.study.trainers import Metric


def table_of(plan: Plan) -> Table:
    return stores.one_table(plan, "main")


def entry(table: Table, row: str, column: str) -> Entry:
    [i] = [i for i, each in enumerate(table.rows) if each.name == row]
    [j] = [j for j, each in enumerate(table.columns) if each.name == column]
    return table.rows[i].entries[j]


def test_rows_and_columns_follow_the_study(full: Plan) -> None:
    table = table_of(full)
    assert [row.levels for row in table.rows] == [
        ("clip", "map"),
        ("clip", "gap"),
        ("mae_clip", "map"),
        ("mae_clip", "gap"),
        ("mae", ""),
    ]
    assert [column.name for column in table.columns] == [
        f"{scale} / {name}" if group == "" else f"{scale} / {group} / {name}"
        for scale in ("small", "large")
        for group, name in (("Zero-shot", "shape"), ("Probes", "mean"), ("", "CPU-hours"))
    ]


def test_mean_and_deviation_by_hand(full: Plan) -> None:
    # large, mae_clip: place 3 + 1, gap + 3, 12 letters in shapes_shape, seeds 0, 1 and 2
    found = entry(table_of(full), "mae_clip, gap", "large / Zero-shot / shape")
    assert found.summary is not None
    assert (found.summary.n, found.planned) == (3, 3)
    assert found.summary.mean == pytest.approx(10 + 40 + 3 + 1.2 + 1, abs=1e-12)
    assert found.summary.sd == pytest.approx(1.0, abs=1e-12)
    assert [source.value for source in found.sources] == pytest.approx([54.2, 55.2, 56.2])


def test_mean_over_tasks_covers_the_pattern_and_no_other_folder(full: Plan) -> None:
    table = table_of(full)
    metrics = table.columns[1].metrics
    assert len(metrics) > 3 and all(name.startswith("linear_probe/shapes_") for name in metrics)
    letters = [len(name.split("/")[1]) / 10 for name in metrics]
    found = entry(table, "clip, map", "small / Probes / mean").summary
    assert found is not None and found.mean == pytest.approx(10 + math.fsum(letters) / len(letters) + 1, abs=1e-12)


def test_deltas_are_to_the_baselines_row_in_the_same_column(full: Plan) -> None:
    table = table_of(full)
    assert entry(table, "clip, map", "small / Zero-shot / shape").delta is None
    assert entry(table, "clip, gap", "small / Zero-shot / shape").delta == pytest.approx(3.0)
    assert entry(table, "mae_clip, map", "large / Zero-shot / shape").delta == pytest.approx(10.0)


def test_the_largest_mean_is_marked_and_ties_share_it(full: Plan) -> None:
    table = table_of(full)
    marked = {(row.name, i) for row in table.rows for i, each in enumerate(row.entries) if each.best}
    assert marked == {("mae_clip, gap", 0), ("mae_clip, gap", 1), ("mae_clip, gap", 3), ("mae", 4)}
    assert not any(column.ranked for column in table.columns if column.label == "CPU-hours")


def test_a_tie_in_print_is_a_tie_and_a_column_of_ties_has_no_mark(tmp_path: Path) -> None:
    plan = stores.plan_of(tmp_path, overrides=("seeds=[0]",))
    uri = f"sqlite:///{plan.home.store}"

    def value(task: Task, metric: str) -> float:
        cell = task.cells[0]
        lower = metric.startswith("zero_shot") and cell.get("pooling") == "gap"
        return 50.0 + 0.01 * (cell["method"] == "clip") - 10 * lower

    stores.track(plan, uri, value=value)
    table = table_of(plan)
    assert [row.entries[0].best for row in table.rows] == [True, False, True, False, False]
    assert not any(row.entries[1].best for row in table.rows)
    [alike] = [note for note in table.notes if note.startswith("No row differs")]
    assert "small / Probes / mean" in alike and "Zero-shot" not in alike
    assert any("One seed" in note for note in table.notes)


def test_missing_numbers_say_why(partial: Plan) -> None:
    table = table_of(partial)
    words = {
        ("clip, map", "large / Zero-shot / shape"): "waiting",
        ("clip, map", "large / CPU-hours"): "eligible",
        ("mae_clip, gap", "large / CPU-hours"): "running",
        ("mae", "small / Probes / mean"): "–",
        ("mae", "large / Zero-shot / shape"): "–",
    }
    for (row, column), word in words.items():
        found = entry(table, row, column)
        assert (found.missing, found.summary) == (word, None), (row, column)
    assert entry(table, "mae", "small / Probes / mean").detail == "the study has no such cell"
    assert entry(table, "mae", "large / Zero-shot / shape").detail == "no task of the study measures this here"


def test_lacking_seeds_are_told(partial: Plan) -> None:
    table = table_of(partial)
    found = entry(table, "mae_clip, map", "large / Zero-shot / shape")
    assert found.summary is not None and (found.summary.n, found.planned) == (2, 3)
    assert found.detail == "seed 2: waiting: its run failed, out of memory"
    assert "(k/m): k of m planned seeds." in table.notes
    diverged = entry(table, "mae", "large / Probes / mean")
    assert diverged.summary is not None and diverged.summary.n == 2
    assert diverged.detail == "seed 0: waiting: its run diverged"


def test_only_nan_is_diverged(tmp_path: Path) -> None:
    text = stores.STUDY.replace("metric: cost/cpu_hours", "metric: train/loss")
    plan = stores.plan_of(tmp_path, text, ("seeds=[0]",))
    stores.track(plan, f"sqlite:///{plan.home.store}", lambda task: "" if not task.opens else "diverged")
    found = entry(table_of(plan), "clip, map", "small / CPU-hours")
    assert (found.missing, found.summary) == ("diverged", None)


def test_a_metric_that_a_data_set_does_not_have_is_left_out_of_the_mean(full: Plan) -> None:
    with open_warehouse(full) as warehouse:
        coverage = cover(full, warehouse)
    assert "zero_shot/shapes_shape/top5" in coverage.measures.declared  # which the fixture never reports
    assert coverage.expected(["zero_shot/*/top5"]) == ()
    before = Coverage(coverage.tasks, coverage.states, coverage.measures, frozenset())
    assert "zero_shot/shapes_shape/top5" in before.expected(["zero_shot/*/top5"])


def test_a_table_before_anything_ran_has_its_whole_shape(tmp_path: Path) -> None:
    plan = stores.plan_of(tmp_path)
    table = table_of(plan)
    assert len(table.rows) == 5 and len(table.columns[1].metrics) > 3
    assert entry(table, "clip, map", "small / Zero-shot / shape").missing == "waiting"
    assert report(plan, tmp_path / "out", ["md"]).finished == 0


def test_states_come_from_the_directory_where_the_store_knows_nothing(tmp_path: Path) -> None:
    plan = stores.plan_of(tmp_path, overrides=("seeds=[0]",))
    paths = [task.paths(plan.home) for task in plan.runs[:4]]
    for path in paths:
        path.root.mkdir(parents=True)
    paths[0].record.write_text('{"state": "completed"}')
    paths[1].lease.write_text("")
    paths[2].failure.write_text('{"cause": "disk"}')
    paths[3].cancelled.write_text("")
    with open_warehouse(plan) as warehouse:
        states = cover(plan, warehouse).states
    assert [states[task.task_id].text for task in plan.runs[:5]] == [
        "not synced: completed",
        "running",
        "failed: disk",
        "failed: cancelled",
        "eligible",
    ]
    first = next(task for task in plan.tasks if not task.opens and task.run_id == plan.runs[0].run_id)
    assert states[first.task_id].state == "eligible"


def test_a_task_waits_for_all_that_it_needs(tmp_path: Path) -> None:
    """A stage that needs another than the one that opens its run, which needs that one."""
    first = stores.plan_of(tmp_path, overrides=("seeds=[0]",))
    probes = {task.run_id: task for task in first.tasks if task.stage == "linear_probe"}
    tasks = list(first.tasks)
    for place, task in enumerate(tasks):
        if task.stage == "zero_shot":
            needs, stages = (task.run_id, probes[task.run_id].task_id), ("train", "linear_probe")
            tasks[place] = dataclasses.replace(task, needs=needs, need_runs=needs, need_stages=stages)
    plan = dataclasses.replace(first, tasks=tuple(sorted(tasks, key=lambda task: len(task.needs))))
    one, other, third = [task.run_id for task in plan.tasks if task.stage == "zero_shot"][:3]
    plan.home.run(one).root.mkdir(parents=True)
    plan.home.run(one).failure.write_text('{"cause": "disk"}')
    for task, name in ((plan.by_id[other], "record"), (probes[other], "failure"), (plan.by_id[third], "record")):
        path = getattr(task.paths(plan.home), name)
        path.parent.mkdir(parents=True)
        path.write_text('{"state": "completed", "cause": "code"}')
    with open_warehouse(plan) as warehouse:
        states = cover(plan, warehouse).states
    of = {task.run_id: states[task.task_id] for task in plan.tasks if task.stage == "zero_shot"}
    assert [(of[run].text, of[run].blocked) for run in (one, other, third)] == [
        ("waiting: its run failed, disk", "failed"),
        ("waiting: its linear_probe failed, code", "failed"),
        ("waiting", ""),
    ]
    assert list(of[one].chain) == [one, probes[one].task_id, of[one].task.task_id]


def test_marks_and_units_are_as_the_metrics_are_declared(full: Plan) -> None:
    """Seconds, of which less is better: the least is bold; the same values without a direction have no mark."""

    def rows(**declared: Any) -> list[str]:
        table = stores.one_table(stores.redeclared(full, "zero_shot/", **declared), "main")
        return [row.name for row in table.rows if row.entries[0].best]

    assert (rows(better="higher"), rows(better="lower")) == (["mae_clip, gap"], ["clip, map"])
    assert rows(better="") == rows(better="lower", ranked=False) == []
    probes = stores.one_table(full, "main").columns[1]
    assert (probes.order, probes.stages) == (1, ("linear_probe",))


def test_what_metrics_share() -> None:
    named = {"a/x": ("s", "lower"), "a/y": ("s", "higher"), "b/z": ("%", "lower")}
    declared = {name: Metric(name, name[0], *own) for name, own in named.items()}
    measures = Measures(declared, ("open", "a", "b"), "open")
    assert (measures.unit(["a/x", "a/y"]), measures.unit(["a/x", "b/z"]), measures.unit([])) == ("s", "", "")
    assert (measures.better(["a/x", "b/z"]), measures.better(["a/x", "a/y"])) == ("lower", "")
    assert (measures.difference_unit(["b/z"]), measures.difference_unit(["a/x"])) == ("points", "s")
    assert measures.stages_of(["b/z", "a/logged", "extra"]) == ("a", "b", "open")
    assert measures.better(["a/logged"]) == "" and measures.unit(["a/x", "a/logged"]) == ""


def test_two_cells_in_one_place_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"table 'main': row 'clip, map' stands for several cells .*scale") as error:
        stores.plan_of(tmp_path, stores.STUDY.replace("    split: scale\n", ""))
    assert "where" in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "delta: true",
            "delta: true\n    where: {method: [mae]}",
            "tables.main: delta: no row of the table is the base",
        ),
        (
            "delta: true",
            "relative: true\n    where: {pooling: [gap]}",
            "main: relative: .*(method=clip, pooling=map).*",
        ),
        ("baseline: {scale: small, method: clip, pooling: map}", "", "main: delta: the study has no baseline"),
    ],
)
def test_a_comparison_with_a_row_that_a_table_lacks_is_refused(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        stores.plan_of(tmp_path, stores.STUDY.replace(old, new, 1))


def test_the_baselines_row_need_not_be_the_baselines_cell(tmp_path: Path) -> None:
    rows = "where: {scale: [large]}\n    rows: [method]\n    split: pooling"
    text = stores.STUDY.replace("rows: [method, pooling]\n    split: scale", rows)
    assert stores.plan_of(tmp_path, text).study.tables["main"].delta


def test_an_unknown_table_names_the_nearest(full: Plan) -> None:
    with pytest.raises(ConfigError, match="unknown table 'mian'; did you mean 'main'"):
        stores.one_table(full, "mian")


def test_shared_cells_count_in_both(tmp_path: Path) -> None:
    """Two cells of the same configuration are one run, which counts in both rows."""
    text = stores.STUDY.replace(
        "gap: {model.pooling: gap}}", "gap: {model.pooling: gap}, same: {model.pooling: map, model.map_heads: 0}}"
    )
    plan = stores.plan_of(tmp_path, text, ("seeds=[0]",))
    assert any(len(task.cells) == 2 for task in plan.runs)
    stores.track(plan, f"sqlite:///{plan.home.store}")
    table = table_of(plan)
    a, b = (
        entry(table, "clip, map", "small / Zero-shot / shape"),
        entry(table, "clip, same", "small / Zero-shot / shape"),
    )
    assert a.summary == b.summary and a.sources == b.sources and a.cell != b.cell


def test_small_functions() -> None:
    assert (number(0.04, 1), number(-0.04, 1), number(-0.04, 1, sign=True)) == ("0.0", "0.0", "+0.0")
    assert (number(12.346, 2), number(-3.0, 1, sign=True)) == ("12.35", "-3.0")
    assert missing_text(()) == "–"


def test_all_tables_of_the_study_are_built(full: Plan) -> None:
    with open_results(full) as results:
        tables = build_tables(full.study.tables, results)
    assert [table.name for table in tables] == list(full.study.tables)
