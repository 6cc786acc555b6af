"""Groups of metrics that a trainer has names for (`linear_probe/@structured/top1`), replaced by what they mean."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ablative.study.spec.outputs import FigureConfig
from ablative.study.spec.study_file import Study
from ablative.study.syntax.metric_patterns import GROUP_MARK


def with_groups(study: Study, members: Callable[[str, str], Sequence[str]]) -> Study:
    """The study with the patterns in its tables, effects, figures and claims replaced.

    Args:
        study: the study.
        members: (pattern, where, for messages) → the patterns that it means (`Configurations.members`).
    """

    def metrics(patterns: tuple[str, ...], where: str) -> tuple[str, ...]:
        at = f"{study.where}: {where}"
        return tuple(name for pattern in patterns for name in members(pattern, at))

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
    named = {
        own[1].removeprefix(GROUP_MARK): (name,)
        for name, own in parts.items()
        if own[1:] and own[1].startswith(GROUP_MARK)
    }
    return {**figure.groups, **named}
