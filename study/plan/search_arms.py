"""Arms of a search: the cells that are tuned separately, and the run that each set of parameter values means."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ablative.study.clip.checks import check_run
from ablative.study.clip.config import EvaluationConfig, RunConfig
from ablative.study.clip.metrics import RUN_METRICS
from ablative.study.core.errors import ConfigError, unknown
from ablative.study.core.identity import canonical, digest, flatten, identity
from ablative.study.core.typed import build, plain
from ablative.study.spec.cluster import ClusterConfig
from ablative.study.spec.design import Cell, allows, cell_name
from ablative.study.spec.metric_patterns import expand
from ablative.study.spec.search import ParameterConfig, SearchConfig

VALIDATION = "validation"
"""Split on which trials are judged, and the prefix of its metrics' names: `validation/zero_shot/…`."""

HELD_OUT = ("shapes", "digits", "shards")
"""Kinds of data sets with a validation split (`trainer.clip.data.sets.holdout`)."""

Configure = Callable[[Cell], tuple[RunConfig, Sequence[EvaluationConfig], ClusterConfig]]
"""Levels → the run that they mean, its evaluations (on the test split, without a run's id), and where they run."""


@dataclass(frozen=True)
class SearchArm:
    """One combination of levels that is searched separately."""

    cell: Cell
    run: RunConfig
    """Before the parameters are set."""
    evaluations: tuple[EvaluationConfig, ...]
    """Evaluations on the validation split, of the data sets that the goals need; without a run's id."""
    key: str
    """Hash of all that makes values of the goals comparable: trials of another key do not count here."""
    watched: EvaluationConfig | None = None
    """Evaluation, on the validation split, while a trial trains; None: its pruner needs no such values."""
    cluster: ClusterConfig | None = None
    """Where its trials run; None in a worker, which runs there already."""

    @property
    def name(self) -> str:
        return cell_name(self.cell)

    def configure(self, values: Mapping[str, Any], seed: int) -> RunConfig:
        """The run with these parameters; raises ConfigError for one that cannot be trained."""
        config = _with(self.run, {**values, "seed": seed})
        check_run(config)
        return config

    def active(
        self, parameters: Mapping[str, ParameterConfig], values: Mapping[str, Any]
    ) -> dict[str, ParameterConfig]:
        """Parameters whose conditions hold, given the values so far (and of what has none yet, any value)."""
        known = flatten(self.run) | dict(values)
        return {
            key: parameter
            for key, parameter in parameters.items()
            if all(
                known.get(other) in allowed or (other in parameters and other not in values)
                for other, allowed in parameter.when.items()
            )
        }


def resolve(
    search: SearchConfig, cells: Iterable[Cell], base: Mapping[str, str], configure: Configure, where: str
) -> tuple[SearchArm, ...]:
    """The search's arms, in the order of the cells, with every parameter's range checked against the schema.

    Args:
        search: the section.
        cells: the grid.
        base: levels of the factors that are not searched separately (the baseline's); those of factors that an
            arm's cells lack are left out.
        configure: see `Configure`.
        where: of the section, for messages.
    """
    found: dict[str, SearchArm] = {}
    for cell in cells:
        levels = {factor: cell[factor] for factor in search.per if factor in cell}
        if cell_name(levels) in found or not allows(levels, search.where):
            continue
        others = {factor: level for factor, level in base.items() if factor in cell and factor not in search.per}
        run, evaluations, cluster = configure({**others, **levels})
        arm = dataclasses.replace(_arm(search, levels, run, evaluations, where), cluster=cluster)
        _check_ranges(arm, search, where)
        found[arm.name] = arm
    if not found:
        raise ConfigError(f"{where}.where: no cell of the grid has these levels")
    return tuple(found.values())


def _arm(
    search: SearchConfig, cell: Cell, run: RunConfig, evaluations: Sequence[EvaluationConfig], where: str
) -> SearchArm:
    patterns = [pattern for goal in search.objective for pattern in goal.metric]
    needed = _needed(patterns, evaluations, f"{where}.objective")
    watched = _watched(search, run, evaluations, where)
    content = [
        identity(run),
        [identity(item) for item in needed],
        plain(search.objective),
        [list(search.seeds), search.report, *([search.every] if search.every else [])],
    ]
    return SearchArm(cell, run, needed, digest(canonical(content)), watched)


def _watched(
    search: SearchConfig, run: RunConfig, evaluations: Sequence[EvaluationConfig], where: str
) -> EvaluationConfig | None:
    """The evaluation that yields `report` while a trial trains."""
    if not search.every:
        return None
    found = _needed([search.report], evaluations, f"{where}.report")
    if len(found) != 1 or set(search.report) & set("*?["):
        raise ConfigError(f"{where}.report: '{search.report}' is not the name of one metric of a protocol")
    if search.every >= run.schedule.steps:
        raise ConfigError(
            f"{where}.every: {search.every} leaves no evaluation before the last of {run.schedule.steps} steps"
        )
    return found[0]


def _needed(
    patterns: Iterable[str], evaluations: Sequence[EvaluationConfig], where: str
) -> tuple[EvaluationConfig, ...]:
    """The evaluations that yield these metrics, on the validation split."""
    possible = list(RUN_METRICS)
    by_protocol = {item.protocol.name: item for item in evaluations}
    for item in evaluations:
        possible += [name for dataset in item.datasets for name in dataset_metrics(item, dataset.name)]
    wanted: dict[str, set[str]] = {}
    for pattern in patterns:
        names = expand(pattern, possible)
        if not names:
            raise ConfigError(unknown("metric", pattern, possible, where))
        for name in (name for name in names if name not in RUN_METRICS):
            wanted.setdefault(name.split("/")[0], set()).add(name.split("/")[1])
    return tuple(_validation(by_protocol[protocol], datasets, where) for protocol, datasets in wanted.items())


def dataset_metrics(evaluation: EvaluationConfig, dataset: str) -> list[str]:
    """Metrics of one data set of an evaluation."""
    from ablative.study.clip.metrics import metric_names

    return metric_names(evaluation.protocol.name, evaluation.protocol.kind, (dataset,))


def _validation(evaluation: EvaluationConfig, names: set[str], where: str) -> EvaluationConfig:
    datasets = []
    for dataset in evaluation.datasets:
        if dataset.name not in names:
            continue
        if dataset.kind not in HELD_OUT or (dataset.kind == "shards" and not dataset.path):
            raise ConfigError(
                f"{where}: data set '{dataset.name}' has no training split to hold a validation split back from; "
                f"choose another metric (kinds that have one: {', '.join(HELD_OUT)}, the last with a `path`)"
            )
        datasets.append(dataclasses.replace(dataset, split=VALIDATION))
    return dataclasses.replace(evaluation, datasets=tuple(datasets))


def _check_ranges(arm: SearchArm, search: SearchConfig, where: str) -> None:
    """Both ends of every range, and every choice, must be values that the schema allows."""
    active = arm.active(search.parameters, {})
    if not active:
        raise ConfigError(f"{where}: no parameter applies to the arm {arm.name}; leave it out with `where`")
    for key, parameter in active.items():
        for value in parameter.choices or (parameter.low, parameter.high):
            try:
                _with(arm.run, {key: number(value)})
            except ConfigError as error:
                raise ConfigError(f"{where}.parameters: {error}") from None


def number(value: Any) -> Any:
    """A whole number as int: a range's ends are read as floats, and an int becomes a float where one is wanted."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _with(run: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    tree = plain(run)
    for key, value in values.items():
        *sections, name = key.split(".")
        branch = tree
        for section in sections:
            branch = branch[section]
        branch[name] = list(value) if isinstance(value, tuple) else value
    return build(RunConfig, tree)
