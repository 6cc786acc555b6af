"""Named groups of evaluation sets: `linear_probe/@structured/top1` means one metric for each set of the group."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ablative.study.core.errors import ConfigError, unknown
from ablative.study.spec.outputs import FigureConfig
from ablative.study.spec.study_file import Study

MARK = "@"


def with_groups(study: Study, suite: Mapping[str, Any]) -> Study:
    """The study with every group in its tables, effects, figures and claims replaced by the group's sets.

    Groups are the suite's (`groups: {natural: [caltech101, …]}`): VTAB's three are averages that papers print.

    Raises ConfigError for a group that does not exist, or that holds a set that does not.
    """
    groups: Mapping[str, Sequence[str]] = suite.get("groups") or {}
    for name, members in groups.items():
        for member in members:
            if member not in suite["datasets"]:
                raise ConfigError(unknown("evaluation set", member, suite["datasets"], f"suite.groups.{name}"))

    def metrics(patterns: tuple[str, ...], where: str) -> tuple[str, ...]:
        at = f"study/{study.name}.yaml: {where}"
        return tuple(name for pattern in patterns for name in _members(pattern, groups, at))

    def replaced(item: Any, where: str) -> Any:
        return dataclasses.replace(item, metric=metrics(item.metric, where))

    def with_columns(outputs: Mapping[str, Any], kind: str) -> dict[str, Any]:
        return {
            name: dataclasses.replace(item, columns=tuple(replaced(each, f"{kind}.{name}") for each in item.columns))
            for name, item in outputs.items()
        }

    tables, effects = with_columns(study.tables, "tables"), with_columns(study.effects, "effects")
    figures = {
        name: dataclasses.replace(
            replaced(figure, f"figures.{name}"),
            groups={head: metrics(own, f"figures.{name}") for head, own in _heads(figure).items()},
        )
        for name, figure in study.figures.items()
    }
    claims = {name: replaced(claim, f"claims.{name}") for name, claim in study.claims.items()}
    return dataclasses.replace(study, tables=tables, effects=effects, figures=figures, claims=claims)


def _heads(figure: FigureConfig) -> dict[str, tuple[str, ...]]:
    """Heads over a figure's metrics, with patterns: its own, and each group that its metrics name."""
    parts = {pattern: pattern.split("/") for pattern in figure.metric}
    named = {own[1].removeprefix(MARK): (name,) for name, own in parts.items() if own[1:] and own[1].startswith(MARK)}
    return {**figure.groups, **named}


def _members(pattern: str, groups: Mapping[str, Sequence[str]], where: str) -> list[str]:
    head, *rest = pattern.split("/")
    if not rest or not rest[0].startswith(MARK):
        return [pattern]
    name = rest[0].removeprefix(MARK)
    if name not in groups:
        raise ConfigError(unknown("group of evaluation sets", name, groups, where))
    return ["/".join([head, member, *rest[1:]]) for member in groups[name]]
