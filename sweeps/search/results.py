"""What a search has found, arm by arm: `result.json`, which plans and reports read without Optuna."""

from __future__ import annotations

from typing import Any

from optuna.trial import FrozenTrial, TrialState

from study.arms import Arm
from study.files import write_json
from study.typed import plain
from sweeps.search.trials import RUNS, SECONDS, SEEDS, Trials


def write(trials: Trials) -> None:
    """Write the result of every arm whose budget is spent; doing so again gives the same."""
    for arm in trials.definition.arms:
        if trials.done(arm):
            write_json(trials.paths.result(arm.key), result(trials, arm))


def result(trials: Trials, arm: Arm) -> dict[str, Any]:
    """Content of an arm's `result.json`."""
    study = trials.studies[arm.key]
    complete = trials.all(arm, TrialState.COMPLETE)
    single = len(trials.definition.directions) == 1
    return {
        "study": trials.definition.study,
        "cell": arm.cell,
        "key": arm.key,
        "objective": plain(trials.search.objective),
        "parameters": plain(trials.search.parameters),
        "budget": plain(trials.search.budget),
        "seeds": list(trials.search.seeds),
        "hours": trials.hours(arm),
        "best": describe(study.best_trial) if single and complete else None,
        "front": [trial.number for trial in (study.best_trials if complete else [])],
        "trials": [describe(trial) for trial in trials.all(arm)],
    }


def describe(trial: FrozenTrial) -> dict[str, Any]:
    """One trial in plain values."""
    return {
        "number": trial.number,
        "state": trial.state.name.lower(),
        "values": trial.params,
        "objectives": trial.values if trial.state == TrialState.COMPLETE else None,
        "by_seed": trial.user_attrs.get(SEEDS),
        "seconds": trial.user_attrs.get(SECONDS, 0.0),
        "runs": trial.user_attrs.get(RUNS, []),
        "enqueued": "fixed_params" in trial.system_attrs,
    }
