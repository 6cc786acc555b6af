"""A search in the report: winners by hand, importances against Optuna, figures, the page, and what is not known yet."""

from __future__ import annotations

import dataclasses
import json
import math
import random
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib
import numpy as np
import pytest
import stores
from matplotlib.text import Text

from ablative.reports.build import report
from ablative.reports.costs.stage_costs import cost_rows, wasted
from ablative.reports.figures.style import SMALLEST, STYLE
from ablative.reports.search.figures import KINDS, figure, importances, ranges, surface
from ablative.reports.search.parameters import parameters_table
from ablative.reports.search.results import ArmTrials, Trial, goal_name, read_trials, winners_table
from ablative.reports.search.spread import seed_spread, seeds_a_trial, verdict
from ablative.reports.search.surrogate import fit
from ablative.reports.store.results import open_results, open_warehouse
from ablative.reports.store.warehouse import cell_key
from ablative.reports.tables.notes import same_run_notes
from ablative.study.core.errors import ConfigError
from ablative.study.plan.plan import Plan
from ablative.study.plan.tuned_levels import Searched
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
    assert table.notes[0].startswith("All values") and "Unequal budgets: 0 to 8 trials" in " ".join(table.notes)
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


def test_the_map_and_its_winner_agree(searched: Plan) -> None:
    """Each sign has the colour of its trial's mean over all repeats, and the ring lies on the best of the repeated."""
    arm = arms_of(searched)[0]
    with matplotlib.rc_context(STYLE):
        top, bottom, *_ = figure(KINDS["map"], [arm]).axes
    surfaces, dots, stars = top.collections
    drawn = sorted([*dots.get_array(), *stars.get_array()])
    repeated = {
        trial.number: fmean(own[0] for own in trial.repeats.values()) for trial in arm.complete if trial.repeats
    }
    shift = fmean(value - arm.trials[number].goal_values[0] for number, value in repeated.items())
    assert drawn == pytest.approx(sorted(repeated.get(t.number, t.goal_values[0] + shift) for t in arm.complete))
    ring = [line for line in top.lines if line.get_fillstyle() == "none"][-1]
    assert (ring.get_xdata()[0], ring.get_ydata()[0]) == VALUES[max(repeated, key=lambda n: repeated[n])]
    assert surfaces.get_clim() == dots.get_clim() == stars.get_clim()
    assert max(repeated.values()) == pytest.approx(surfaces.get_clim()[1], abs=3)
    keys, x, y, mean, error = surface(arm)
    at = np.unravel_index(np.argmin(error), error.shape)
    assert keys == ["objective.w_image", "objective.w_text"] and mean.shape == error.shape == (len(y), len(x))
    assert 0 < error.min() < error.max() and 0.01 < x[at[1]] < 1 and bottom.get_ylabel() == "w_text"


def test_a_surface_follows_what_is_sure_and_is_flat_where_nothing_is() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(size=(30, 2))
    truth = 10 + 4 * np.sin(3 * points[:, 0])
    sure = fit(points, truth, np.full(30, 1.0), (0.01, 20))
    mean, error = sure.at(points)
    assert mean == pytest.approx(truth, abs=0.05) and error.max() < 0.05
    _, wide = sure.at(np.array([[5.0, 5.0]]))
    assert wide[0] > 10 * error.max()
    luck = fit(points, 10 + rng.normal(size=30), np.full(30, 1.0), (1.0, 20))
    flat, _ = luck.at(points)
    assert np.ptp(flat) < 1.5 and luck.noise == pytest.approx(1.0, abs=0.3), "noise of sd 1 in 30 trials spans 4"


def test_whether_trials_differ_by_more_than_their_seeds(searched: Plan) -> None:
    arm = arms_of(searched)[0]
    spread = seed_spread(arm)
    assert spread is not None and spread.df == 3 * 3, "four trials with seeds 0 to 3, less trials and seeds"
    table = np.array([[quality(VALUES[i], seed) for seed in range(4)] for i in range(4)])
    rest = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + table.mean()
    assert spread.sd == pytest.approx(math.sqrt(float((rest**2).sum()) / 9))
    assert "cannot distinguish" in verdict(arm), "the luck of one trial at seed 0 hides the others"
    values = {trial.number: trial.goal_values[0] - 30 * (trial.number == LUCKY) for trial in arm.complete}
    honest = [dataclasses.replace(trial, seeds={0: (values[trial.number],)}) for trial in arm.complete]
    found = dataclasses.replace(arm, trials=tuple(honest))
    assert "differ by more than their seeds explain" in verdict(found) and seed_spread(found).p < 1e-4  # type: ignore[union-attr]
    bare = tuple(dataclasses.replace(trial, repeats={}) for trial in arm.trials)
    assert "no trial has a second seed" in verdict(dataclasses.replace(arm, trials=bare))
    assert seeds_a_trial(1.0, 0.5 * 2**0.5) == 34, "a paired t test's textbook size of effect 0.5 and power 80 %"
    assert seeds_a_trial(1.0, 0.0) is None


def test_a_history_without_lost_trials_fills_its_panels(searched: Plan, tmp_path: Path) -> None:
    arm = arms_of(searched)[0]
    whole = dataclasses.replace(arm, trials=tuple(arm.complete))
    with matplotlib.rc_context(STYLE):
        drawn = figure(KINDS["history"], [whole, whole])
        drawn.savefig(tmp_path / "history.png")
    assert all(axis.get_position().width > 0.35 for axis in drawn.axes)


def test_where_the_ten_best_lie(searched: Plan) -> None:
    table = parameters_table(arms_of(searched))
    assert table is not None and [row.levels for row in table.rows] == [
        ("pooling=map", k) for k in ("w_image", "w_text")
    ]
    texts = [entry.literal for entry in table.rows[0].entries]
    assert texts[:4] == ["0.3", "0.2", "0.02 to 0.95", "0.01 to 1"] and int(texts[4]) > 50
    assert parameters_table([front_arm()]) is None


def test_a_tuned_row_that_is_another_rows_run_says_so(full: Plan) -> None:
    with open_results(full) as results:
        cells = [cell_key(cell) for cell in results.cells if cell.get("pooling") == "map" and cell["scale"] == "small"]
        one, other = cells
        tasks = dict(results.coverage.tasks)
        tasks |= {(one, stage): tasks[other, stage] for cell, stage in results.coverage.tasks if cell == other}
        searched = Searched("tuned", "pooled", "map", 20, 1, 2, 0.1)
        coverage = dataclasses.replace(results.coverage, tuned={one: searched})
        slots = {("tuned",): {"small": one}, ("paper",): {"small": other}}
        assert not same_run_notes(("method",), slots, "scale", dataclasses.replace(results, coverage=coverage))
        same = dataclasses.replace(coverage, tasks=tasks)
        [note] = same_run_notes(("method",), slots, "scale", dataclasses.replace(results, coverage=same))
        assert note.startswith("tuned (small) is the same run as paper")


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
    for kind in KINDS.values():
        if kind.fits(found[0]):
            with matplotlib.rc_context(STYLE):
                texts = figure(kind, found[:1]).findobj(Text)
            assert min(text.get_fontsize() for text in texts) >= SMALLEST
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
    assert "2: winner" in section and ">0.3<" in section
    assert "| pooling: map | 2: winner | 0.3 | 0.03 |" in (tmp_path / "search" / "winners.md").read_text()


def test_a_search_that_cannot_be_reported_says_so_at_its_place(
    searched: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ConfigError("the trials of arm x have no values")

    monkeypatch.setattr("ablative.reports.search.section.read_trials", broken)
    result = report(searched, tmp_path)
    words = "The search could not be reported: the trials of arm x have no values"
    assert result.broken == ("the trials of arm x have no values",)
    assert words in (tmp_path / "search" / "winners.md").read_text()
    assert words in (tmp_path / "index.html").read_text() and (tmp_path / "numbers.json").exists()


def test_goals_of_several_metrics() -> None:
    units = {"a/b/c": "%", "a/d/c": "%", "cost/seconds": "s", "train/loss": ""}
    declared = {name: Metric(name, "a", unit) for name, unit in units.items()}
    assert goal_name(GoalConfig(metric=("a/b/c", "a/d/c")), declared) == "mean of a/b/c, a/d/c (%)"
    assert goal_name(GoalConfig(metric=("a/*/c",)), declared) == "a/*/c (%)"
    assert goal_name(GoalConfig(metric=("cost/seconds",)), declared) == "cost/seconds (s)"
    assert goal_name(GoalConfig(metric=("train/loss", "a/b/c")), declared) == "mean of train/loss, a/b/c"
