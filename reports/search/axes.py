"""Where the values of a search's parameters lie on an axis: ranges from end to end, choices in the file's order."""

from __future__ import annotations

import math
from typing import Any

from ablative.reports.search.results import ArmTrials, Trial
from ablative.study.spec.search import ParameterConfig


def extremes(parameter: ParameterConfig) -> tuple[Any, Any]:
    """What stands at the two ends of its axis."""
    if parameter.choices:
        return parameter.choices[0], parameter.choices[-1]
    return parameter.low, parameter.high


def height(arm: ArmTrials, trial: Trial, key: str) -> float:
    """Where a trial's line meets a parameter's axis; NaN where it has no such parameter."""
    parameter = arm.search.parameters[key]
    if key not in trial.values:
        return math.nan
    if parameter.choices:
        return parameter.choices.index(trial.values[key]) / (len(parameter.choices) - 1)
    return place(parameter, trial.values[key])


def place(parameter: ParameterConfig, value: float) -> float:
    """Place of a value in its range, 0 to 1."""
    low, high, own = (_scale(parameter, x) for x in (parameter.low, parameter.high, value))
    return (own - low) / (high - low)


def value_at(parameter: ParameterConfig, place: float) -> float:
    """The value at a place of its range."""
    low, high = (_scale(parameter, x) for x in (parameter.low, parameter.high))
    own = low + place * (high - low)
    return math.exp(own) if parameter.log else own


def _scale(parameter: ParameterConfig, value: float | None) -> float:
    assert value is not None
    return math.log(value) if parameter.log else float(value)
