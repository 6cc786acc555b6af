"""Optuna's samplers, pruners and distributions, as the study file names them."""

from __future__ import annotations

import inspect
import itertools
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from ablative.study.core.errors import ConfigError, unknown
from ablative.study.plan.search_arms import SearchArm, number
from ablative.study.spec.search import MethodConfig, ParameterConfig, SearchConfig

Method = TypeVar("Method", optuna.samplers.BaseSampler, optuna.pruners.BasePruner)


class GridSampler(optuna.samplers.GridSampler):
    """Optuna's, which after a trial also tries to stop a loop that we do not have."""

    def after_trial(self, *args: Any) -> None:
        return


SAMPLERS: dict[str, type[optuna.samplers.BaseSampler]] = {
    "tpe": optuna.samplers.TPESampler,
    "gp": optuna.samplers.GPSampler,
    "cmaes": optuna.samplers.CmaEsSampler,
    "qmc": optuna.samplers.QMCSampler,
    "grid": GridSampler,
    "random": optuna.samplers.RandomSampler,
}
PRUNERS: dict[str, type[optuna.pruners.BasePruner]] = {
    "none": optuna.pruners.NopPruner,
    "median": optuna.pruners.MedianPruner,
    "hyperband": optuna.pruners.HyperbandPruner,
    "halving": optuna.pruners.SuccessiveHalvingPruner,
}
SHARED_SEED = ("qmc", "grid")
"""Samplers whose workers must draw from one sequence, and so need one seed; the others need one for each trial."""


def make_sampler(search: SearchConfig, trials: int) -> optuna.samplers.BaseSampler:
    """The sampler that the next trial is asked of; `trials` there are already.

    Its seed is a function of the search's and of the trial's number: what one worker alone draws can be drawn again.
    """
    fixed: dict[str, Any] = {"seed": search.seed if search.sampler.name in SHARED_SEED else search.seed + 7919 * trials}
    if search.sampler.name == "grid":
        fixed["search_space"] = grid(search)
    return _make(search.sampler, SAMPLERS[search.sampler.name], fixed, "sampler")


def make_pruner(search: SearchConfig) -> optuna.pruners.BasePruner:
    return _make(search.pruner, PRUNERS[search.pruner.name], {}, "pruner")


def grid(search: SearchConfig) -> dict[str, list[Any]]:
    """Every value of every parameter, of a search whose parameters all have choices or steps."""
    return {key: _points(key, parameter) for key, parameter in search.parameters.items()}


def grid_size(search: SearchConfig) -> int:
    return len(list(itertools.product(*grid(search).values())))


def suggest(trial: optuna.Trial, arm: SearchArm, parameters: Mapping[str, ParameterConfig]) -> dict[str, Any]:
    """Values of the parameters that exist for this trial, in the order of the file."""
    values: dict[str, Any] = {}
    for key, parameter in parameters.items():
        if key in arm.active({key: parameter}, values):
            values[key] = _draw(trial, key, distribution(key, parameter))
    return values


def distribution(key: str, parameter: ParameterConfig) -> BaseDistribution:
    """Optuna's distribution of a parameter."""
    if parameter.choices:
        return CategoricalDistribution(parameter.choices)
    assert parameter.low is not None and parameter.high is not None
    if parameter.whole:
        step = int(parameter.step or 1)
        return IntDistribution(int(parameter.low), int(parameter.high), log=parameter.log, step=step)
    return FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)


def _draw(trial: optuna.Trial, key: str, found: BaseDistribution) -> Any:
    if isinstance(found, CategoricalDistribution):
        return trial.suggest_categorical(key, found.choices)
    if isinstance(found, IntDistribution):
        return trial.suggest_int(key, found.low, found.high, log=found.log, step=found.step)
    assert isinstance(found, FloatDistribution)
    return trial.suggest_float(key, found.low, found.high, log=found.log, step=found.step)


def _points(key: str, parameter: ParameterConfig) -> list[Any]:
    if parameter.choices:
        return list(parameter.choices)
    assert parameter.low is not None and parameter.high is not None and parameter.step is not None
    count = int((parameter.high - parameter.low) / parameter.step + 1e-9) + 1
    points = [parameter.low + i * parameter.step for i in range(count)]
    return [int(point) for point in points] if parameter.whole else [float(point) for point in points]


def _make(config: MethodConfig, kind: Callable[..., Method], fixed: dict[str, Any], what: str) -> Method:
    allowed = [name for name in inspect.signature(kind).parameters if name not in fixed]
    for key in config.options:
        if key not in allowed:
            raise ConfigError(unknown(f"option of the {what} {config.name}", key, allowed, f"search.{what}"))
    options = {key: number(value) for key, value in config.options.items()}
    try:
        with warnings.catch_warnings():
            # Optuna calls some of them experimental; the user chose them.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return kind(**options, **fixed)
    except (TypeError, ValueError, ImportError) as error:
        raise ConfigError(f"search.{what}: {config.name}: {str(error).splitlines()[0]}") from None
