"""A search in the report: winners by hand, importances against Optuna, figures, the page, and what is not known yet."""

from __future__ import annotations

import dataclasses
import json
import math
import random
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import stores

from ablative.reports.build import report
from ablative.reports.costs.stage_costs import cost_rows, wasted
from ablative.reports.search.figures import KINDS, importances, ranges
from ablative.reports.search.results import ArmTrials, Trial, goal_name, read_trials, winners_table
from ablative.reports.store.results import open_results, open_warehouse
from ablative.study.plan.plan import Plan
from ablative.study.plan.winners import Tried, winner
from ablative.study.spec.search import GoalConfig, parse_search
from ablative.study.trainers import Metric

STUDY = """
name: pooled
base: {model: tiny, data: shapes, schedule: demo, objective: mae_clip}
seeds: [0]
factors:
  pooling: {map: {model.pooling: map}, gap: {model.pooling: gap}}
baseline: {pooling: map}
protocols: [zero_shot]
search:
  parameters:
    objective.w_image: {low: 0.01, high: 1.0, log: true}
    objective.w_text: {low: 0.01, high: 1.0, log: true}
  objective: {metric: zero_shot/shapes_object/top1}
  per: [pooling]
  budget: {trials: 8}
  confirm: {top: 2, seeds: [1, 2, 3]}
"""
PAPERS = [(0.1, 0.05), (0.05, 0.1)]
VALUES = [*PAPERS, (0.3, 0.03), (0.95, 0.03), (0.02, 0.9), (0.6, 0.3), (0.2, 0.02)]
"""Of the trials 0 to 6; trial 7 was pruned."""
LUCKY = 3


def quality(values: tuple[float, float], seed: int) -> float:
    """Best, 60, at (0.3, 0.03); the fourth trial is lucky at seed 0."""
    luck = 30.0 if values == VALUES[LUCKY] and seed == 0 else 0.0
    return (
        60 - 10 * abs(math.log10(values[0] / 0.3)) - 2 * abs(math.log10(values[1] / 0.03)) + luck + noise(values, seed)
    )


def noise(values: tuple[float, float], seed: int) -> float:
    return ((VALUES.index(values) * 7 + seed * 5) % 4) / 10


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """A search of two arms as MLflow has it: the first has ended, the second has not begun."""
    plan = stores.plan_of(tmp_path_factory.mktemp("searched"), STUDY)
    stores.track(plan, f"sqlite:///{plan.home.store}", lambda task: "")
    arm = plan.arms[0]
    with stores.mlflow_client(f"sqlite:///{plan.home.store}") as client:
        experiment = client.get_experiment_by_name("pooled").experiment_id

        def note(number: int, seed: int, role: str, state: str, values: tuple[float, float], first: bool) -> None:
            objectives = [quality(values, seed)] if state == "complete" else None
            facts = {"arm": arm.name, "role": role, "state": state, "objectives": objectives, "seconds": 36.0}
            facts |= {"values": dict(zip(plan.study.search.parameters, values, strict=True)), "first": first}  # type: ignore[union-attr]
            task = dataclasses.replace(
                plan.runs[0], task_id=f"{number:06}{seed:06}", run_id=f"{number:06}{seed:06}", seed=seed
            )
            stores.track_task(
                client, experiment, task, "completed", trials=json.dumps({f"{arm.key}.{number}": facts, "old.1": facts})
            )

        for number, values in enumerate(VALUES):
            note(number, 0, "search", "complete", values, number < 2)
            for seed in (1, 2, 3) if number < 4 else ():
                note(number, seed, "repeat", "complete", values, number < 2)
        note(7, 0, "search", "pruned", (0.5, 0.5), False)
    return plan


def arms_of(plan: Plan) -> tuple[ArmTrials, ...]:
    with open_results(plan) as results:
        return read_trials(results)


def test_trials_are_read_by_arm_and_the_winner_is_the_best_of_fresh_seeds(searched: Plan) -> None:
    found, empty = arms_of(searched)
    assert [trial.number for trial in found.trials] == list(range(8)) and not empty.trials
    assert found.hours == pytest.approx((8 + 4 * 3) * 36 / 3600)
    luckiest = max(found.complete, key=lambda trial: trial.goal_values[0])
    assert luckiest.number == LUCKY and found.best is not None and found.best.number == 2
    assert found.trials[7].state == "pruned" and found.trials[7].goal_values == ()


def test_trials_are_a_stage_of_the_cost_and_no_leftovers(searched: Plan) -> None:
    with open_warehouse(searched) as warehouse:
        rows = {row.stage: row.tasks for row in cost_rows(warehouse)}
        assert rows == {"search": 8 + 4 * 3, "all": 8 + 4 * 3}
        assert wasted(warehouse) == ""
        assert warehouse.rows("select count(*) from runs where not planned and not searched") == [(0,)]


def test_the_table_of_winners_by_hand(searched: Plan) -> None:
    table = winners_table(arms_of(searched))
    assert [row.levels for row in table.rows] == [
        ("pooling=map", "2: winner"),
        ("pooling=map", "0: tried first"),
        ("pooling=map", "1: tried first"),
    ]
    assert [column.label for column in table.columns][:2] == ["w_image", "w_text"]
    best, paper, _ = (row.entries for row in table.rows)
    means = [fmean(quality(VALUES[i], seed) for seed in (1, 2, 3)) for i in (2, 0)]
    assert best[0].literal == "0.3" and best[2].summary is not None and best[2].summary.mean == pytest.approx(means[0])
    gap, sure = paper[3], paper[4]
    assert gap.summary is not None and gap.summary.mean == pytest.approx(means[0] - means[1]) and gap.summary.n == 3
    assert gap.error is not None and gap.error.low is not None and gap.error.low > 0
    assert sure.summary is not None and 97.5 < sure.summary.mean < 100
    assert any("8 trials (7 complete, 1 pruned), 0.2 hours" in note for note in table.notes)
    assert any("none yet" in note for note in table.notes)


def test_without_repeats_nothing_is_sure(searched: Plan) -> None:
    found = arms_of(searched)[0]
    bare = dataclasses.replace(found, trials=tuple(dataclasses.replace(trial, repeats={}) for trial in found.trials))
    assert bare.best is not None and bare.best.number == LUCKY
    rows = winners_table([bare]).rows
    assert rows[1].entries[3].missing == "–"


def test_winners_rule() -> None:
    trials = [Tried(4, 1.0, {1: 5.0}), Tried(2, 3.0, {1: 9.0}), Tried(9, 2.0, {})]
    assert winner(trials, "maximize", ()).number == 2 and winner(trials, "minimize", ()).number == 4  # type: ignore[union-attr]
    assert winner(trials, "minimize", (1,)).number == 4 and winner(trials, "maximize", (1, 2)).number == 2  # type: ignore[union-attr]
    assert winner([], "maximize", (1,)) is None


def test_importance_finds_the_parameter_that_matters(searched: Plan) -> None:
    found, rng = arms_of(searched)[0], random.Random(0)
    trials = []
    for number in range(24):
        image, text = (10 ** rng.uniform(-2, 0) for _ in range(2))
        values = {"objective.w_image": image, "objective.w_text": text}
        score = 10 * math.log10(image) + math.log10(text)
        trials.append(Trial(number, "complete", False, values, {0: (score,)}, {}))
    shares = importances(dataclasses.replace(found, trials=tuple(trials)))
    assert list(shares) == ["objective.w_image", "objective.w_text"] and shares["objective.w_image"] > 0.8
    assert sum(shares.values()) == pytest.approx(1)
    assert importances(dataclasses.replace(found, trials=tuple(trials[:3]))) == {}


def front_arm() -> ArmTrials:
    section: dict[str, Any] = {
        "parameters": {
            "objective.w_image": {"low": 0.0, "high": 1.0},
            "objective.masking": ["random", "similarity"],
            "objective.similarity_select": {"choices": ["high", "low"], "when": {"objective.masking": ["similarity"]}},
        },
        "objective": [{"metric": "zero_shot/a/top1"}, {"metric": "cost/seconds", "direction": "minimize"}],
        "budget": {"trials": 4},
    }
    search = parse_search(section, {}, "here")
    points = [(50.0, 10.0), (60.0, 20.0), (40.0, 20.0), (60.0, 20.0), (70.0, 90.0)]
    trials = []
    for i, point in enumerate(points):
        values = {"objective.w_image": i / 4, "objective.masking": ("random", "similarity")[i % 2]}
        values |= {"objective.similarity_select": "low"} if i % 2 else {}
        trials.append(Trial(i, "complete", False, values, {0: point}, {}))
    return ArmTrials("all", search, ("zero_shot/a/top1 (%)", "cost/seconds (s)"), tuple(trials), 1.0)


def test_a_front_has_what_nothing_beats() -> None:
    arm = front_arm()
    assert [trial.number for trial in arm.front] == [0, 1, 3, 4] and arm.best is None
    table = winners_table([arm])
    assert [row.levels[1] for row in table.rows] == ["0", "1", "3", "4"]
    assert table.rows[0].entries[2].missing == "–", "a parameter that this trial does not have"
    assert KINDS["front"].fits(arm) and not KINDS["map"].fits(arm) and not KINDS["history"].fits(arm)


def test_every_figure_is_drawn_the_same_twice(searched: Plan, tmp_path: Path) -> None:
    from ablative.reports.search.section import draw

    found = arms_of(searched)
    assert ranges(found[0]) == ["objective.w_image", "objective.w_text"]
    one, paths = draw(found, tmp_path / "one")
    two, _ = draw(found, tmp_path / "two")
    assert [drawing.name for drawing in one] == ["search-history", "search-map", "search-importance", "search-parallel"]
    assert [drawing.svg for drawing in one] == [drawing.svg for drawing in two]
    assert {path.suffix for path in paths} == {".pdf", ".svg", ".png"} and all(path.stat().st_size for path in paths)
    assert [drawing.name for drawing in draw([front_arm()], tmp_path / "front")[0]] == [
        "search-importance",
        "search-front",
    ]


def test_the_report_brings_the_search(searched: Plan, tmp_path: Path) -> None:
    written = {path.relative_to(tmp_path) for path in report(searched, tmp_path).paths if path.is_relative_to(tmp_path)}
    assert {Path(f"search/winners.{suffix}") for suffix in ("md", "tex", "csv", "html", "json")} <= written
    assert Path("search/map.pdf") in written
    page = (tmp_path / "index.html").read_text()
    assert 'href="#search"' in page and page.count('<figure id="figure-search-') == 4
    section = page.split('<section id="search"')[1]
    assert "2: winner" in section and "<span>0.3</span>" in section
    assert "| pooling=map | 2: winner | 0.3 | 0.03 |" in (tmp_path / "search" / "winners.md").read_text()


def test_goals_of_several_metrics() -> None:
    units = {"a/b/c": "%", "a/d/c": "%", "cost/seconds": "s", "train/loss": ""}
    declared = {name: Metric(name, "a", unit) for name, unit in units.items()}
    assert goal_name(GoalConfig(metric=("a/b/c", "a/d/c")), declared) == "mean of a/b/c, a/d/c (%)"
    assert goal_name(GoalConfig(metric=("a/*/c",)), declared) == "a/*/c (%)"
    assert goal_name(GoalConfig(metric=("cost/seconds",)), declared) == "cost/seconds (s)"
    assert goal_name(GoalConfig(metric=("train/loss", "a/b/c")), declared) == "mean of train/loss, a/b/c"
