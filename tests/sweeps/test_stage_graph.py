"""Stages as a graph: who waits for whom in a worker, in states, in a submission, in a budget and in SLURM's arrays."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from fakes import events, hand_over, start_worker
from graphs import graph_plan, run

from ablative.study.core.errors import AblateError
from ablative.study.core.files import write_json
from ablative.study.costs.budget import choose_runs
from ablative.study.home.paths import Home
from ablative.study.plan.plan import Plan
from ablative.study.plan.task import Task, TaskRef
from ablative.sweeps.queue import leases
from ablative.sweeps.queue.manifest import Array
from ablative.sweeps.run import _unattended
from ablative.sweeps.slurm import layout, script
from ablative.sweeps.status.task_states import survey
from ablative.sweeps.submission import selection
from ablative.sweeps.submission.submit import choose

RUNS = [run(cell, seed) for cell in ("a", "b") for seed in (0, 1)]
"""Four runs, which share their data."""
IDS = {task.task_id: task for tasks in RUNS for task in tasks}


def finish(plan: Plan, task: Task, state: str = "completed") -> None:
    write_json(task.paths(plan.home).record, {"state": state, "seconds": 1.0})


def states(plan: Plan) -> list[str]:
    return [state.state for state in survey(plan).states]


def arrange(plan: Plan, new: set[str] | None = None, holders: dict[str, str] | None = None) -> tuple[Array, ...]:
    found = frozenset(task.task_id for task in plan.tasks) if new is None else frozenset(new)
    return layout.arrange(plan, plan.tasks, found, holders or {}, "x", 1000, 10_000)


def stages_of(array: Array, plan: Plan) -> list[list[str]]:
    return [[plan.by_id[task].stage for task in element] for element in array.elements]


def test_a_worker_does_every_task_after_all_that_it_needs(tmp_path: Path) -> None:
    data, train, score, note = RUNS[0]
    child = run("child", parent=train.task_id)
    behaviours = {RUNS[1][1].task_id: ["fail", 0], RUNS[2][2].task_id: ["diverge", 0]}
    plan = graph_plan(Home(tmp_path), [*RUNS, child], behaviours)
    assert sum(task.stage == "data" for task in plan.tasks) == 1
    plan.write()
    submission = plan.home.study("tiny").submission("s1")
    submission.root.mkdir(parents=True)
    # The other way round, so that all but the last have to be put off.
    hand_over(submission, [TaskRef.of(task) for task in reversed(plan.tasks)])
    assert start_worker(plan.home, submission).wait(60) == 0
    done = [task for event, task in events(plan.home) if event == "done"]
    failed = {task.task_id for task in RUNS[1][1:]}
    assert set(done) == {task.task_id for task in plan.tasks} - failed
    for task in plan.tasks:
        assert task.task_id in failed or all(done.index(need) < done.index(task.task_id) for need in task.needs)
    assert survey(plan).blocked({RUNS[1][1].task_id}) == failed - {RUNS[1][1].task_id}
    paths = dict(zip(("train", "score"), (train.paths(plan.home), score.paths(plan.home)), strict=True))
    assert note.needed(plan.home) == paths and note.paths(plan.home).root.parent.parent == paths["train"].root
    assert child[1].needed(plan.home) == {"data": plan.home.run(data.task_id), "from": paths["train"]}


def test_what_needs_an_unfinished_task_waits_and_what_needs_a_failed_one_is_left(tmp_path: Path) -> None:
    plan = graph_plan(Home(tmp_path), RUNS)
    assert states(plan) == ["eligible"] + ["waiting"] * 12
    data, train, score, _ = RUNS[0]
    finish(plan, data)
    finish(plan, train, "diverged")
    assert states(plan) == ["completed", "diverged", *["eligible"] * 4, *["waiting"] * 7]
    write_json(score.paths(plan.home).failure, {"cause": "code", "message": "", "snapshot": "this", "fingerprint": ""})
    chosen = choose(plan, survey(plan), "this")
    assert [state.task for state in chosen.left] == [score]
    assert {task.run_id for task in chosen.queue} == {tasks[1].run_id for tasks in RUNS[1:]}
    assert RUNS[0][3] in choose(plan, survey(plan), "other code").queue
    alone = graph_plan(plan.home, RUNS[:1])
    assert not _unattended(survey(alone)), "what is left waits for a failed task"
    # A part of a plan looks for what is needed in the home.
    assert states(dataclasses.replace(plan, tasks=(RUNS[2][1],))) == ["eligible"]


def test_what_other_workers_have_and_ours_need_is_queued_with_it(tmp_path: Path) -> None:
    plan = graph_plan(Home(tmp_path), RUNS[:1])
    data, train, score, note = RUNS[0]
    finish(plan, data)
    lease = train.paths(plan.home).lease
    lease.parent.mkdir(parents=True, exist_ok=True)
    write_json(lease, dataclasses.asdict(leases.identify("7_3")))
    chosen = choose(plan, survey(plan), "this")
    assert chosen.queue == (train, score, note) and chosen.ids == {score.task_id, note.task_id}
    part = dataclasses.replace(plan, tasks=chosen.queue)
    (held,) = arrange(part, set(chosen.ids), {train.task_id: "7_3"})
    assert stages_of(held, plan) == [["train", "score", "note"]] and held.waits_for == ("7_3",)


def test_stages_are_arrays_of_which_each_follows_the_one_before(tmp_path: Path) -> None:
    plan = graph_plan(Home(tmp_path), RUNS)
    data, train, score, note = arrange(plan)
    assert stages_of(data, plan) == [["data"]] and train.after == ("x.0",) and not train.follows
    assert [stages_of(array, plan) for array in (train, score, note)] == [[[n]] * 4 for n in ("train", "score", "note")]
    assert (score.follows, note.follows) == ("x.1", "x.2") and not (score.after or note.after or note.after_end)
    of = [[plan.by_id[element[0]].run_id for element in array.elements] for array in (train, score, note)]
    assert of[0] == of[1] == of[2]
    ids = {array.name: f"{number}00" for number, array in enumerate((data, train, score, note), 1)}
    dependencies = [script.dependency(array, ids) for array in (data, train, score, note)]
    assert dependencies == ["", "afterok:100", "aftercorr:200", "aftercorr:300"]


def test_what_several_share_is_waited_for_as_a_whole(tmp_path: Path) -> None:
    two = [run(cell, data=data) for data in ("one", "two") for cell in ("a", "b")]
    plan = graph_plan(Home(tmp_path), two)
    data, train, *_ = arrange(plan)
    assert stages_of(data, plan) == [["data"], ["data"]] and train.after_end == ("x.0",) and not train.after
    assert script.dependency(train, {"x.0": "7"}) == "afterany:7"


@pytest.mark.parametrize(("children", "follows"), [(1, True), (2, False)])
def test_a_run_that_starts_from_another(tmp_path: Path, children: int, follows: bool) -> None:
    """One follows its parent; two would have to share an element, and wait for all parents instead."""
    below = [run(f"{tasks[1].cells[0]}{i}", parent=tasks[1].task_id) for tasks in RUNS[:2] for i in range(children)]
    plan = graph_plan(Home(tmp_path), [*RUNS[:2], *below])
    _, train, *rest = arrange(plan)
    grown = next(array for array in rest if set(array.elements[0]) & {tasks[1].task_id for tasks in below})
    assert [len(element) for element in grown.elements] == [1] * 2 * children
    assert (grown.follows, grown.after_end) == (("x.1", ()) if follows else ("", ("x.1",)))
    if follows:
        assert [plan.by_id[element[0]].needs[1] for element in grown.elements] == [e[0] for e in train.elements]


def test_stages_of_one_process_do_not_hold_the_nodes_of_those_of_many(tmp_path: Path) -> None:
    wide = [run(cell, processes=4) for cell in ("a", "b")]
    plan = graph_plan(Home(tmp_path), wide)
    cluster = dataclasses.replace(plan.cluster, nodes=2, tasks=2, gpus=2)
    arrays = arrange(dataclasses.replace(plan, cluster=cluster))
    sizes = [(array.cluster["nodes"], array.cluster["tasks"], array.cluster["gpus"]) for array in arrays]
    assert sizes == [(1, 1, 1), (2, 2, 2), (1, 1, 1), (1, 1, 1)]
    assert [TaskRef.of(task).processes for task in wide[0]] == [1, 4, 1, 1]


def test_a_budget_pays_once_for_what_runs_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "estimate", lambda plan, records: _HourEach())
    child = run("child", parent=RUNS[0][1].task_id)
    plan = graph_plan(Home(tmp_path), [RUNS[0], child])
    plan = dataclasses.replace(plan, cluster=dataclasses.replace(plan.cluster, kind="local"))
    found = selection.select(plan, "6cpuh")
    assert [unit.run.task_id for unit in found.chosen] == [RUNS[0][1].task_id] and found.chosen[0].price == 4.0
    assert [task.stage for task in found.chosen[0].tasks] == ["data", "train", "score", "note"]
    assert found.left[0].price == 3.0 and {task.run_id for task in found.plan.tasks} == {
        task.run_id for task in RUNS[0]
    }
    assert sum(unit.price for unit in selection.select(plan, "7cpuh").chosen) == 7.0
    with pytest.raises(AblateError, match=r"pays for none of 2 runs; the cheapest, method=a seed=0, costs about 4 "):
        selection.select(plan, "3cpuh")
    needs = {"parent": frozenset({"data"}), "child": frozenset({"parent", "data"})}
    prices = {"data": 1.0, "parent": 3.0, "child": 3.0}
    assert set(choose_runs(prices, frozenset({"child"}), [], [], 7.0, needs)) == {"data", "parent", "child"}
    assert choose_runs(prices, frozenset({"child"}), [], [], 3.0, needs) == [], "data alone are worth nothing"


class _HourEach:
    """Costs of tasks that take an hour each."""

    gpus: tuple[str, ...] = ()
    either = False

    def price(self, tasks: list[Task], unit: str) -> float:
        return float(len(tasks))

    def unknown(self, tasks: list[Task]) -> list[Task]:
        return []
