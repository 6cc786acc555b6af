"""What a trial carries in addition to its parameters and values: Optuna's user attributes, by name and shape."""

from __future__ import annotations

from typing import TypeVar

from optuna.trial import FrozenTrial

from ablative.study.core.damage import Shape, misfit, note
from ablative.study.home.search_paths import SearchPaths

RETRY, LOSSES, ERROR, SECONDS, SEEDS = "retry_of", "losses", "error", "seconds", "values_by_seed"
RUNS, CODE = "run_ids", "snapshot"

SHAPES: dict[str, Shape] = {
    RETRY: int,
    LOSSES: float,
    ERROR: str,
    SECONDS: float,
    SEEDS: [[float]],
    RUNS: [str],
    CODE: str,
}

T = TypeVar("T")


def attribute(trial: FrozenTrial, name: str, default: T, paths: SearchPaths) -> T:
    """A trial's attribute; one that has another shape is named, and taken as absent.

    Args:
        trial: as the storage has it.
        name: one of `SHAPES`.
        default: what a trial without it has.
        paths: of the search, for the message.
    """
    value = trial.user_attrs.get(name)
    if value is None:
        return default
    if wrong := misfit(value, SHAPES[name], name):
        note(paths.storage, f"trial {trial.number}: {wrong}", f"its {name} is taken as absent")
        return default
    found: T = value
    return found
