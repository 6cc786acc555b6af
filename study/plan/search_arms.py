"""Arms of a search: the cells that are tuned separately, and the tasks that each set of parameter values means."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ablative.study.core.errors import ConfigError, unknown
from ablative.study.core.identity import canonical, digest, flatten, identity
from ablative.study.core.typed import Settings, plain
from ablative.study.plan.stage_graph import bound_tasks, closure, opening
from ablative.study.plan.task import Task
from ablative.study.spec.cluster import ClusterConfig
from ablative.study.spec.design import Cell, allows, cell_name
from ablative.study.spec.search import ParameterConfig, SearchConfig
from ablative.study.syntax.metric_patterns import expand
from ablative.study.trainers import Config, Metric, Stage, Trainer

VALIDATION = "validation"
"""Prefix of the names of metrics that a held-out stage yields: `validation/zero_shot/…`."""

Configure = Callable[[Cell], tuple[Sequence[Stage], ClusterConfig]]
"""Levels → the stages that they mean (on the test split, without a seed), and where they run."""


@dataclass(frozen=True)
class SearchArm:
    """One combination of levels that is searched separately."""

    cell: Cell
    stages: tuple[Stage, ...]
    """What a trial runs, before the parameters are set: the stage that opens a run, those that yield the goals, on the
    validation split where the trainer has one, and what they need."""
    key: str
    """Hash of all that makes values of the goals comparable: trials of another key do not count here."""
    trainer: Trainer
    watched: Stage | None = None
    """Stage, on the validation split, to evaluate while a trial trains; None: its pruner needs no such values."""
    validated: bool = True
    """Its goals are measured on data that no report touches."""
    cluster: ClusterConfig | None = None
    """Where its trials run; None in a worker, which runs there already."""

    @property
    def name(self) -> str:
        return cell_name(self.cell)

    @property
    def opening(self) -> Stage:
        return opening(self.stages)

    @property
    def run(self) -> Config:
        """Configuration of the stage that opens a run, before the parameters are set."""
        return self.opening.config

    def configure(self, values: Settings) -> tuple[Stage, ...]:
        """The stages with these parameters; raises ConfigError for one that cannot be run."""
        found = []
        for stage in self.stages:
            kinds = self.trainer.parameters(stage.name, stage.config)
            own = {key: value for key, value in values.items() if key in kinds}
            config = self.trainer.changed(stage.name, stage.config, own) if own else stage.config
            found.append(dataclasses.replace(stage, config=config, former=None))
        return tuple(found)

    def tasks(self, values: Settings, seed: int) -> tuple[Task, ...]:
        """The tasks that the values mean; raises ConfigError.

        They are identified like any other, so a run that the grid has too is trained once.
        """
        return tuple(bound_tasks(self.trainer, self.configure(values), seed, self.cell))

    def flat(self) -> dict[str, Any]:
        """Dotted keys of all stages' configurations and their values; the earlier stage's, where two have one."""
        found: dict[str, Any] = {}
        for stage in reversed(self.stages):
            found |= flatten(stage.config)
        return found

    def active(self, parameters: Mapping[str, ParameterConfig], values: Settings) -> dict[str, ParameterConfig]:
        """Parameters whose conditions hold, given the values so far (and of what has none yet, any value).

        A parameter that no run of the arm would read does not exist there.
        """
        known = self.flat() | dict(values)
        unread = self.trainer.unread(self.opening.name, self.run)
        return {
            key: parameter
            for key, parameter in parameters.items()
            if key not in unread
            and all(
                known.get(other) in allowed or (other in parameters and other not in values)
                for other, allowed in parameter.when.items()
            )
        }

    def first(self, search: SearchConfig) -> list[Settings]:
        """What the arm tries first: of what the search names, the parameters that exist in this arm."""
        own = [
            {k: v for k, v in values.items() if k in self.active(search.parameters, values)}
            for values in search.enqueue
        ]
        return [values for i, values in enumerate(own) if values and values not in own[:i]]


def resolve(
    search: SearchConfig,
    cells: Iterable[Cell],
    base: Mapping[str, str],
    configure: Configure,
    trainer: Trainer,
    where: str,
) -> tuple[SearchArm, ...]:
    """The search's arms, in the order of the cells, with every parameter's range checked against the schema.

    Args:
        search: the section.
        cells: the grid.
        base: levels of the factors that are not searched separately (the baseline's); those of factors that an
            arm's cells lack are left out.
        configure: see `Configure`.
        trainer: of the study.
        where: of the section, for messages.
    """
    found: dict[str, SearchArm] = {}
    for cell in cells:
        levels = {factor: cell[factor] for factor in search.per if factor in cell}
        if cell_name(levels) in found or not allows(levels, search.where):
            continue
        others = {factor: level for factor, level in base.items() if factor in cell and factor not in search.per}
        stages, cluster = configure({**others, **levels})
        arm = dataclasses.replace(_arm(search, levels, stages, trainer, where), cluster=cluster)
        _check_ranges(arm, search, where)
        found[arm.name] = arm
    if not found:
        raise ConfigError(f"{where}.where: no cell of the grid has these levels")
    return tuple(found.values())


def parameter_kinds(trainer: Trainer, stages: Sequence[Stage]) -> dict[str, type]:
    """Keys that a search may set, with the types of their values."""
    found: dict[str, type] = {}
    for stage in reversed(stages):
        found |= trainer.parameters(stage.name, stage.config)
    return found


def _arm(search: SearchConfig, cell: Cell, stages: Sequence[Stage], trainer: Trainer, where: str) -> SearchArm:
    patterns = [pattern for goal in search.objective for pattern in goal.metric]
    needed = _needed(patterns, stages, trainer, f"{where}.objective")
    watched = _watched(search, stages, trainer, where)
    run, others = opening(needed), [stage for stage in needed if stage is not opening(needed)]
    content = [
        _content(trainer, run),
        [_content(trainer, stage) for stage in others],
        plain(search.objective),
        [list(search.seeds), search.report, *([search.every] if search.every else [])],
    ]
    validated = any(all(stage is not own for own in stages) for stage in needed)
    return SearchArm(cell, tuple(needed), digest(canonical(content)), trainer, watched, validated)


def _content(trainer: Trainer, stage: Stage) -> object:
    own = identity(stage.config)
    return own if trainer.self_identified else [trainer.name, stage.name, own]


def _watched(search: SearchConfig, stages: Sequence[Stage], trainer: Trainer, where: str) -> Stage | None:
    """The stage that yields `report` while a trial trains; None where the run itself logs it, or there is none."""
    run = opening(stages)
    logged = [metric.name for metric in run.metrics]
    possible = [metric.name for stage in stages for metric in stage.metrics]
    if search.report in logged or not search.report:
        if search.every:
            raise ConfigError(
                f"{where}.every: only another stage's metric in `report` is evaluated every so many steps"
            )
        return None
    owners = [stage for stage in stages if search.report in [metric.name for metric in stage.metrics]]
    if not owners:
        raise ConfigError(unknown("metric of a stage", search.report, possible, f"{where}.report"))
    if not search.every:
        raise ConfigError(
            f"{where}.report: {search.report} is no metric that the run logs, so tell with `every` after how many "
            f"steps it is evaluated (metrics of the run: {', '.join(logged)})"
        )
    trainer.check_watched(run.config, search.every, where)
    return trainer.held_out(owners[0], [search.report], f"{where}.report") or owners[0]


def reported(search: SearchConfig, stages: Sequence[Stage]) -> Metric:
    """The metric by which trials are pruned."""
    return next(metric for stage in stages for metric in stage.metrics if metric.name == search.report)


def _needed(patterns: Iterable[str], stages: Sequence[Stage], trainer: Trainer, where: str) -> list[Stage]:
    """The stages that yield these metrics, on the validation split where there is one, and all that they need."""
    owners = {metric.name: stage for stage in stages for metric in stage.metrics}
    wanted: dict[str, set[str]] = {opening(stages).name: set()}
    for pattern in patterns:
        names = expand(pattern, list(owners))
        if not names:
            raise ConfigError(unknown("metric", pattern, owners, where))
        for name in names:
            wanted.setdefault(owners[name].name, set()).add(name)
    found = []
    for stage in closure(stages, set(wanted)):
        names = sorted(wanted.get(stage.name, ()))
        held = trainer.held_out(stage, names, where) if names and stage is not opening(stages) else None
        found.append(held or stage)
    return found


def _check_ranges(arm: SearchArm, search: SearchConfig, where: str) -> None:
    """Both ends of every range, and every choice, must be values that the schema allows."""
    active = arm.active(search.parameters, {})
    if not active:
        raise ConfigError(f"{where}: no parameter applies to the arm {arm.name}; leave it out with `where`")
    for key, parameter in active.items():
        for value in parameter.choices or (parameter.low, parameter.high):
            try:
                _check_value(arm, key, number(value))
            except ConfigError as error:
                raise ConfigError(f"{where}.parameters: {error}") from None


def _check_value(arm: SearchArm, key: str, value: object) -> None:
    for stage in arm.stages:
        if key in arm.trainer.parameters(stage.name, stage.config):
            arm.trainer.check_value(stage.name, stage.config, key, value)


def number(value: Any) -> Any:
    """A whole number as int: a range's ends are read as floats, and an int becomes a float where one is wanted."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
