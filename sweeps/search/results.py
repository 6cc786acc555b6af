"""What a search has found, arm by arm: `result.json`, which plans and reports read without Optuna."""

from __future__ import annotations

from typing import Any

from optuna.trial import FrozenTrial, TrialState

from ablative.study.core.files import write_json
from ablative.study.core.typed import plain
from ablative.study.plan.search_arms import SearchArm
from ablative.sweeps.search import repeats
from ablative.sweeps.search.attributes import RUNS, SECONDS, SEEDS
from ablative.sweeps.search.trials import Trials


def write(trials: Trials) -> None:
    """Write the result of every arm whose budget is spent; doing so again gives the same."""
    for arm in trials.definition.arms:
        if repeats.all_done(trials, arm):
            write_json(trials.paths.result(arm.key), result(trials, arm))


def result(trials: Trials, arm: SearchArm) -> dict[str, Any]:
    """Content of an arm's `result.json`."""
    study = trials.studies[arm.key]
    complete = trials.all(arm, TrialState.COMPLETE)
    best = repeats.winner(trials, arm) if len(trials.definition.directions) == 1 else None
    described = {trial.number: describe(trials, trial) for trial in trials.all(arm)}
    for trial in repeats.candidates(trials, arm):
        found = trials.repeat_outcomes(arm, trial.number)
        described[trial.number]["repeats"] = {seed: outcome["objectives"] for seed, outcome in found.items()}
    return {
        "study": trials.definition.study,
        "cell": arm.cell,
        "key": arm.key,
        "objective": plain(trials.search.objective),
        "parameters": plain(trials.search.parameters),
        "budget": plain(trials.search.budget),
        "seeds": list(trials.search.seeds),
        "confirm": plain(trials.search.confirm),
        "hours": trials.hours(arm),
        "validated": arm.validated,
        "best": None if best is None else described[best.number],
        "front": [trial.number for trial in (study.best_trials if complete else [])],
        "trials": list(described.values()),
    }


def describe(trials: Trials, trial: FrozenTrial) -> dict[str, Any]:
    """One trial in plain values."""
    return {
        "number": trial.number,
        "state": trial.state.name.lower(),
        "values": trial.params,
        "objectives": trial.values if trial.state == TrialState.COMPLETE else None,
        "by_seed": trials.attribute(trial, SEEDS, None),
        "seconds": trials.attribute(trial, SECONDS, 0.0),
        "runs": trials.attribute(trial, RUNS, []),
        "enqueued": "fixed_params" in trial.system_attrs,
        "repeats": {},
    }
