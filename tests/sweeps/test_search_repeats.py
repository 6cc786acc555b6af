"""The end of a search: repeats of the best, the winner, what MLflow is told; and pruning by validation metrics."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pytest
import search_fakes
from fakes import HERE, done, events
from optuna.trial import TrialState
from search_fakes import LUCKY, PRUNING, searcher

from ablative.study.core.files import read_json
from ablative.study.home.journal import read
from ablative.study.home.paths import RunPaths
from ablative.study.plan.task import with_trials
from ablative.sweeps.search import repeats
from ablative.sweeps.search.tags import write_trial

GOOD = {"objective.w_image": 0.3, "objective.w_text": 0.03}
SECTION: dict[str, Any] = {
    "where": {"pooling": ["map"]},
    "sampler": "random",
    "enqueue": [LUCKY, GOOD],
    "budget": {"trials": 5},
    "confirm": {"top": 2, "seeds": [1, 2]},
}


@pytest.fixture(autouse=True)
def jobs_find_the_fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def tags(run: RunPaths) -> dict[str, str]:
    return {k: v for line in read(run.journal)[0] if line["kind"] == "tags" for k, v in line["values"].items()}


def test_the_winner_is_the_best_of_fresh_seeds_and_not_the_luckiest(tmp_path: Path) -> None:
    found = searcher(tmp_path, **SECTION)
    assert found.watch()
    (arm,) = found.plan.arms
    assert found.trials.studies[arm.key].best_trial.params == LUCKY
    result = read_json(found.trials.paths.result(arm.key))
    assert result is not None and result["best"]["values"] == GOOD
    assert result["best"]["repeats"] == {"1": pytest.approx([80.1]), "2": pytest.approx([80.2])}
    # The best two and the papers' two pairs, with two seeds each.
    repeated = [trial for trial in result["trials"] if trial["repeats"]]
    assert [trial["number"] for trial in repeated] == [0, 1, 2, 3]
    finished = done(found.plan.home)
    assert len(finished) == 2 * (5 + 4 * 2) and set(finished.values()) == {1}
    assert {task.task_id for task in with_trials(found.plan.tasks, found.trials.paths)} >= set(finished), (
        "what `ablate sync` ships"
    )
    assert result["hours"] == pytest.approx(len(finished) / 3600)
    _check_tags(found, result)
    search_fakes._plan.cache_clear()
    again = searcher(tmp_path, **SECTION)
    assert again.watch() and len(events(found.plan.home)) == 2 * len(finished)
    tuned = next(task for task in again.plan.runs if task.cells[0]["loss_weights"] == "tuned")
    assert tuned.config.objective.w_image == 0.3  # type: ignore[union-attr]
    (searched,) = again.plan.searched.values()
    assert (searched.trials, searched.seeds, searched.repeats) == (5, 1, 2)
    assert searched.hours == pytest.approx(result["hours"])


def _check_tags(found: Any, result: dict[str, Any]) -> None:
    """Every run says in MLflow which trial it was, in which role, and what it gave."""
    (arm,) = found.plan.arms
    facts = []
    for run in found.plan.home.runs.iterdir():
        told = tags(RunPaths(run))
        if "ablate.trials" in told:
            facts += [(name, own) for name, own in json.loads(told["ablate.trials"]).items()]
    assert Counter(own["role"] for _, own in facts) == {"search": 5, "repeat": 8}
    assert {name.split(".")[0] for name, _ in facts} == {arm.key}
    best = [own for name, own in facts if name == f"{arm.key}.{result['best']['number']}" and own["role"] == "search"]
    assert best[0]["values"] == GOOD and best[0]["state"] == "complete" and best[0]["first"]
    assert best[0]["objectives"] == pytest.approx([80.0]) and best[0]["seconds"] == 2.0


def test_repeats_begin_when_all_trials_have_ended_and_failures_wait_for_other_code(tmp_path: Path) -> None:
    trials = searcher(tmp_path, **SECTION).trials
    (arm,) = trials.definition.arms
    trials.prepare("this")
    while (taken := trials.take()) is not None:
        assert repeats.take(trials) is None, "the best are not known before all have ended"
        trials.complete(taken, [[float(taken.number)]])
    assert trials.ended(arm) and not repeats.all_done(trials, arm)
    # The values are the trials' numbers: 4 and 3 are the best, 0 to 3 were tried first.
    left = [repeats.take(trials) for _ in range(10)]
    assert {(one.number, one.tasks[0].seed) for one in left if one} == {(n, seed) for n in range(5) for seed in (1, 2)}
    assert repeats.take(trials) is None, "a living worker has each of them"
    for one in left[1:]:
        assert one is not None
        one.settle("complete", [float(10 - one.number)], 1.0, "this")
    assert left[0] is not None and left[0].number == 4, "the best first"
    left[0].settle("failed", None, 1.0, "this")
    assert repeats.all_done(trials, arm) and repeats.take(trials) is None
    trials.prepare("this")
    assert repeats.all_done(trials, arm)
    repeats.reopen(trials, "other code")
    again = repeats.take(trials)
    assert again is not None and (again.number, again.tasks[0].seed) == (4, 1)
    again.lease.release()
    best = repeats.winner(trials, arm)
    assert best is not None and best.number == 0, "4 lacks a seed"


def test_trials_are_pruned_by_what_the_validation_split_says_while_they_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(search_fakes.STEP_SECONDS, "0.05")
    found = searcher(tmp_path, **PRUNING, report="zero_shot/shapes_object/top1", every=2)
    found.jobs = 1
    assert found.watch()
    (arm,) = found.plan.arms
    trials = found.trials.all(arm)
    assert trials[3].state == TrialState.PRUNED and set(trials[3].intermediate_values) <= {2, 4, 6, 8}
    assert list(trials[2].intermediate_values) == [2, 4, 6, 8, 10] and trials[2].intermediate_values[2] == 80.0
    run = found.plan.home.run(trials[3].user_attrs["run_ids"][0])
    (facts,) = json.loads(tags(run)["ablate.trials"]).values()
    assert facts["state"] == "pruned" and facts["objectives"] is None


def test_hours_alone_are_a_budget(tmp_path: Path) -> None:
    """Each task says that it took a second: after eight of them no trial begins."""
    found = searcher(tmp_path, where={"pooling": ["map"]}, sampler="random", budget={"hours": 7.5 / 3600})
    found.jobs = 1
    assert found.watch()
    (arm,) = found.to_json()
    assert arm["counted"] == 4 and arm["budget"] == 0


def test_a_run_of_two_trials_says_so_of_both(tmp_path: Path) -> None:
    run = RunPaths(tmp_path)
    write_trial(run, "a.1", {"state": "complete"})
    write_trial(run, "a.7", {"state": "complete"})
    write_trial(run, "a.1", {"state": "complete"})
    assert json.loads(tags(run)["ablate.trials"]) == {"a.1": {"state": "complete"}, "a.7": {"state": "complete"}}
    assert len(read(run.journal)[0]) == 2
