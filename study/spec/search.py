"""The `search` section of a study file: what is tuned, for what, how hard, and separately for which cells.

Names of samplers and pruners are Optuna's in short; their options are handed to Optuna as they are. Optuna itself
is imported only where a search runs (`sweeps.search`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from ablative.study.core.errors import ConfigError, unknown
from ablative.study.core.typed import build, field
from ablative.study.spec.design import Design

Levels = Mapping[str, Mapping[str, Any]]
"""Level → the overrides that it means."""

SAMPLERS = ("tpe", "gp", "cmaes", "qmc", "grid", "random")
PRUNERS = ("none", "median", "hyperband", "halving")
SEARCH_KEY = "search"
"""Key in a level's meaning that names the study whose search is meant."""


@dataclass(frozen=True, kw_only=True)
class ParameterConfig:
    """Where the values of one configuration key come from: a range, or choices."""

    low: float | None = field(None)
    """Least value, included."""
    high: float | None = field(None)
    """Greatest value, included."""
    log: bool = field(False)
    """Values are drawn evenly on a logarithmic scale."""
    step: float | None = field(None, above=0)
    """Distance of neighbouring values; null: any value."""
    choices: tuple[Any, ...] = field(())
    """Values to choose from, in place of a range."""
    when: dict[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)
    """Keys and values without which the parameter does not exist; keys of parameters come earlier in the file."""
    whole: bool = field(False)
    """The key takes whole numbers; the plan fills it in."""


@dataclass(frozen=True, kw_only=True)
class GoalConfig:
    """One goal (key `objective`): a metric, or the mean of several, averaged over a trial's seeds."""

    metric: tuple[str, ...] = field()
    """Metric, or metrics whose mean counts."""
    direction: str = field("maximize", choices=("maximize", "minimize"))
    """Whether large or small values are sought."""


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """A sampler or pruner, and the arguments of its class in Optuna."""

    name: str = field()
    """Name of Optuna's class, in short."""
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Arguments of the class."""


Method = Annotated[str | dict[str, object], "name, or {name: …, option: …}"]
"""How a study writes a `MethodConfig`."""


@dataclass(frozen=True, kw_only=True)
class BudgetConfig:
    """Limits of each arm's search: trials, hours or both."""

    trials: int = field(0, low=0)
    """0: no limit."""
    hours: float = field(0.0, low=0)
    """Hours of training and evaluation (on a GPU where there is one) after which no trial begins; 0: no limit."""


@dataclass(frozen=True, kw_only=True)
class ConfirmConfig:
    """Repeats of the best trials once an arm's budget is spent: what looked best among many was lucky, too."""

    top: int = field(3, low=1)
    """How many of the best trials are repeated; what was tried first (the papers' loss weights) is repeated, too."""
    seeds: tuple[int, ...] = field(())
    """Seeds of the repeats, by which alone the winner is then chosen; none: the best trial wins as it is."""


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """The whole section."""

    parameters: dict[str, ParameterConfig] = field(written=dict[str, ParameterConfig | list[object]])
    """Key of the configuration → where its values come from; a list means choices."""
    objective: tuple[GoalConfig, ...]
    """Several: the search looks for their Pareto front."""
    budget: BudgetConfig
    """How far each arm's search goes."""
    per: tuple[str, ...] = field(())
    """Factors; each combination of their levels (an arm) has a separate search and budget."""
    where: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    """Only arms with these levels."""
    sampler: MethodConfig = field(MethodConfig(name="tpe"), written=Method)
    """What proposes values: tpe, gp, cmaes, qmc, grid or random; as a mapping, with its options."""
    pruner: MethodConfig = field(MethodConfig(name="none"), written=Method)
    """What ends trials early: none, median, hyperband or halving; as a mapping, with its options."""
    report: str = field("")
    """Metric by which trials are pruned: one that the run itself logs, such as `train/contrastive`, or one that another
    stage yields on the validation split, evaluated `every` so many steps."""
    every: int = field(0, low=0)
    """Steps between two evaluations on the validation split, where `report` names a metric of another stage."""
    confirm: ConfirmConfig = ConfirmConfig()
    """Repeats of the best trials, once the budget is spent."""
    seeds: tuple[int, ...] = field((0,))
    """Seeds of the runs; each trial trains one run for each, and only the first may be pruned."""
    seed: int = field(0, low=0)
    """Seed of the sampler."""
    parallel: int = field(0, low=0)
    """Worker jobs; 0 takes as many as the cluster configuration, or the machine, allows."""
    enqueue: tuple[dict[str, Any], ...] = ()
    """Values of parameters to try first, after those that the trainer's papers print (where these are searched)."""
    warm_start: bool = field(False)
    """Then try what the study's finished runs have tried; they are not trained again."""

    def after(self, printed: Sequence[Mapping[str, Any]]) -> SearchConfig:
        """The section with what is tried first of all, where it lies in the parameters' ranges, before `enqueue`."""
        fit = [values for values in printed if all(inside(self.parameters.get(key), values[key]) for key in values)]
        both = [*map(dict, fit), *self.enqueue]
        return dataclasses.replace(
            self, enqueue=tuple(values for i, values in enumerate(both) if values not in both[:i])
        )


def parse_search(data: Mapping[str, Any], factors: Mapping[str, Levels], where: str) -> SearchConfig:
    """The section as a checked, typed object; raises ConfigError for whatever no study of these factors can mean."""
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where}: expected keys and values, found {data!r}")
    plain = dict(data)
    for key in ("sampler", "pruner"):
        if key in plain:
            plain[key] = _method(plain[key], f"{where}.{key}")
    if isinstance(plain.get("parameters"), Mapping):
        plain["parameters"] = {k: {"choices": v} if isinstance(v, list) else v for k, v in plain["parameters"].items()}
    search = build(SearchConfig, plain, where)
    for key, parameter in search.parameters.items():
        _check_parameter(key, parameter, f"{where}.parameters.{key}")
    _check_conditions(search, where)
    _check_methods(search, where)
    _check_arms(search, factors, where)
    _check_sizes(search, where)
    return search


def _method(value: Any, where: str) -> dict[str, Any]:
    """`tpe`, or a mapping with the name and the options side by side."""
    if isinstance(value, str):
        return {"name": value}
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        raise ConfigError(f"{where}: expected a name, or a mapping with `name` and options, found {value!r}")
    return {"name": value["name"], "options": {k: v for k, v in value.items() if k != "name"}}


def with_kinds(search: SearchConfig, kinds: Mapping[str, type], where: str) -> SearchConfig:
    """The section with `whole` filled in; raises ConfigError for a parameter that no configuration has, or whose range
    is none of its type's.

    Args:
        search: the section.
        kinds: keys that a search may set, with the types of their values.
        where: of the section, for messages.
    """
    for key, parameter in search.parameters.items():
        at = f"{where}.parameters.{key}"
        for other in (key, *parameter.when):
            if other not in kinds:
                place = f"{where}.parameters" if other == key else f"{at}.when"
                raise ConfigError(unknown("configuration key", other, kinds, place))
        if parameter.choices:
            continue
        kind = kinds[key]
        if kind not in (int, float):
            raise ConfigError(f"{at}: {kind.__name__} has no range; give choices")
        if kind is int and any(not float(x or 1).is_integer() for x in (parameter.low, parameter.high, parameter.step)):
            raise ConfigError(f"{at}: {key} is a whole number, and so are its low, high and step")
    parameters = {
        key: dataclasses.replace(parameter, whole=kinds[key] is int) for key, parameter in search.parameters.items()
    }
    return dataclasses.replace(search, parameters=parameters)


def _check_parameter(key: str, parameter: ParameterConfig, where: str) -> None:
    if parameter.choices:
        if parameter.low is not None or parameter.high is not None or parameter.log or parameter.step is not None:
            raise ConfigError(f"{where}: give choices, or a range (low, high, log, step), not both")
        for choice in parameter.choices:
            if isinstance(choice, list | tuple | Mapping):
                raise ConfigError(f"{where}.choices: found {choice}; expected numbers, texts, true, false or null")
        if len(set(parameter.choices)) < max(2, len(parameter.choices)):
            raise ConfigError(f"{where}.choices: {list(parameter.choices)} are not two or more different values")
        return
    if parameter.low is None or parameter.high is None:
        raise ConfigError(f"{where}: missing; give low and high, or choices")
    if not parameter.low < parameter.high:
        raise ConfigError(f"{where}: low {parameter.low} is not less than high {parameter.high}")
    if parameter.log and (parameter.low <= 0 or parameter.step is not None):
        raise ConfigError(f"{where}: a log range has no step and begins above 0, found low {parameter.low}")


def _check_conditions(search: SearchConfig, where: str) -> None:
    keys = list(search.parameters)
    for at, (key, parameter) in enumerate(search.parameters.items()):
        for other in parameter.when:
            if other in keys[at:]:
                raise ConfigError(f"{where}.parameters.{key}.when: {other} must stand before {key}")
    for values in search.enqueue:
        for key, value in values.items():
            if key not in search.parameters:
                raise ConfigError(unknown("parameter", key, keys, f"{where}.enqueue"))
            if not inside(search.parameters[key], value):
                raise ConfigError(f"{where}.enqueue.{key}: {value!r} is outside of the parameter's range")


def _check_methods(search: SearchConfig, where: str) -> None:
    for key, names in (("sampler", SAMPLERS), ("pruner", PRUNERS)):
        if getattr(search, key).name not in names:
            raise ConfigError(unknown(key, getattr(search, key).name, names, where))
    if search.pruner.name != "none" and not search.report:
        raise ConfigError(
            f"{where}.pruner: {search.pruner.name} needs intermediate values; name in `report` the metric of "
            f"training to prune by, such as train/contrastive, or with `every` one of the validation split"
        )
    if search.pruner.name != "none" and len(search.objective) > 1:
        raise ConfigError(f"{where}.pruner: Optuna prunes searches with one goal only, found {len(search.objective)}")
    if search.sampler.name == "grid":
        for key, parameter in search.parameters.items():
            if not parameter.choices and parameter.step is None:
                raise ConfigError(f"{where}.parameters.{key}: a grid needs choices or a step")
            if parameter.when:
                raise ConfigError(f"{where}.parameters.{key}.when: a grid has no conditional parameters")


def _check_arms(search: SearchConfig, factors: Mapping[str, Levels], where: str) -> None:
    for factor in search.per:
        if factor not in factors:
            raise ConfigError(unknown("factor", factor, factors, f"{where}.per"))
        for key in (key for meaning in factors[factor].values() for key in meaning if key in search.parameters):
            raise ConfigError(f"{where}.parameters.{key}: the factor '{factor}' of `per` sets this key already")
    for factor, levels in search.where.items():
        if factor not in search.per:
            raise ConfigError(unknown("factor", factor, search.per, f"{where}.where"))
        for level in levels:
            if level not in factors[factor]:
                raise ConfigError(unknown("level", level, factors[factor], f"{where}.where.{factor}"))


def _check_sizes(search: SearchConfig, where: str) -> None:
    goals = [(f"objective[{i}].metric", goal.metric) for i, goal in enumerate(search.objective)]
    sizes = (("parameters", search.parameters), ("objective", search.objective), ("seeds", search.seeds), *goals)
    for name, found in sizes:
        if not found:
            raise ConfigError(f"{where}.{name}: empty")
    if not search.budget.trials and not search.budget.hours:
        raise ConfigError(f"{where}.budget: give trials, hours or both")
    repeated = [seed for seed in search.confirm.seeds if seed in search.seeds]
    if repeated:
        raise ConfigError(
            f"{where}.confirm.seeds: {repeated} are seeds of the search, by which the best were chosen; take others"
        )
    if search.confirm.seeds and len(search.objective) > 1:
        raise ConfigError(f"{where}.confirm: several goals have a front and no best trial to repeat")


def inside(parameter: ParameterConfig | None, value: Any) -> bool:
    """Whether a parameter may take a value."""
    if parameter is None:
        return False
    if parameter.choices:
        return value in parameter.choices
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return (
        number and parameter.low is not None and parameter.high is not None and parameter.low <= value <= parameter.high
    )


def check_searched_levels(design: Design, study: str, searches: bool, where: str) -> None:
    """Raise ConfigError for a level that mixes a search with overrides, or names a search that the study has not."""
    for factor, levels in design.factors.items():
        for level, meaning in levels.items():
            if SEARCH_KEY not in meaning:
                continue
            at = f"{where}: factors.{factor}.{level}"
            if len(meaning) > 1 or not isinstance(meaning[SEARCH_KEY], str):
                raise ConfigError(
                    f"{at}: a searched level is {{search: STUDY}} and nothing else, found {dict(meaning)}"
                )
            if meaning[SEARCH_KEY] == study and not searches:
                raise ConfigError(f"{at}: this study has no search; give a `search` section, or name another study")
