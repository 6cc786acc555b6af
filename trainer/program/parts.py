"""Stages with `each` as the stages that they stand for, one for each value, with its placeholders filled in."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ablative.study.core.errors import ConfigError
from ablative.study.core.typed import Settings
from ablative.study.trainers import Metric
from ablative.trainer.program.definition import StageDefinition
from ablative.trainer.program.metrics.sources import filled
from ablative.trainer.program.words import Filling, placeholders

_FILES = ("resume.file", "outputs")
"""Keys whose texts are names of files that the program writes; it is not given them."""


@dataclass(frozen=True)
class Part:
    """One stage of the plan."""

    name: str
    """That of the definition, with the values of its `each` after dots: `probe.digits`."""
    definition: StageDefinition
    """Its metrics and outputs have no placeholders of `each`; the command keeps them."""
    each: Settings
    needs: tuple[str, ...] = ()
    """Names of parts."""

    @property
    def texts(self) -> tuple[str, ...]:
        """Every text of the definition by which the program may be given something."""
        return tuple(text for place, texts in self.places.items() if place not in _FILES for text in texts)

    @property
    def places(self) -> dict[str, tuple[str, ...]]:
        """Key of the definition → its texts, of all in which a placeholder may be."""
        own = self.definition
        return {
            "command": own.command,
            "prefix": own.prefix,
            "resume.args": own.resume.args,
            "env": tuple(own.env.values()),
            "cwd": (own.cwd,),
            "progress.steps": (own.steps,),
            "resume.file": (own.resume.file,),
            "outputs": own.outputs,
        }

    @property
    def placeholders(self) -> list[str]:
        return placeholders(self.texts)

    def metrics(self) -> tuple[Metric, ...]:
        """What it yields, as the manager knows it: `probe/digits/top1`."""
        return tuple(
            Metric(
                f"{self.definition.name}/{source.name}",
                self.name,
                source.unit,
                source.better,
                source.low,
                source.high,
            )
            for source in self.definition.metrics
        )


def parts(definitions: Sequence[StageDefinition], where: str) -> tuple[Part, ...]:
    """The parts of all stages, each with the parts that it needs.

    A stage comes after all parts of a stage that it names, but for values of `each` that both have: there it comes
    after the part with its own value.
    """
    found = {definition.name: _of_stage(definition, f"{where}.{definition.name}") for definition in definitions}
    return tuple(
        dataclasses.replace(
            part,
            needs=tuple(
                need.name for name in part.definition.after for need in found[name] if _agree(part.each, need.each)
            ),
        )
        for own in found.values()
        for part in own
    )


def output_words(part: Part, known: Mapping[str, Part]) -> dict[str, str]:
    """Words for the output folders that a part's command may name → the part whose folder each is.

    `train.out`; where a stage has several parts, `probe.digits.out` as well, and `probe.out` if one of them is needed.
    """
    needed = [known[name] for name in part.needs]
    found = {f"{need.name}.out": need.name for need in needed}
    for need in needed:
        if sum(other.definition.name == need.definition.name for other in needed) == 1:
            found[f"{need.definition.name}.out"] = need.name
    return found


def _of_stage(definition: StageDefinition, where: str) -> list[Part]:
    combinations = itertools.product(*definition.each.values())
    at = f"{where}.metrics"
    found = [_part(definition, dict(zip(definition.each, values, strict=True)), at) for values in combinations]
    for part in found:
        if [other.name for other in found].count(part.name) > 1:
            raise ConfigError(f"{where}.each: two values make a stage of the same name, '{part.name}'")
        if twice := _twice(source.name for source in part.definition.metrics):
            raise ConfigError(f"{where}.metrics: '{twice}' is declared twice")
    names = [source.name for part in found for source in part.definition.metrics]
    if twice := _twice(names):
        keys = " and ".join(f"{{{key}}}" for key in definition.each)
        raise ConfigError(f"{where}.metrics: '{twice}' is the same for several values of each; its name needs {keys}")
    return found


def _part(definition: StageDefinition, each: Settings, where: str) -> Part:
    filling = Filling(each, {}, {}, {}, {})
    words = {key: str(value) for key, value in each.items()}
    metrics = tuple(filled(source, words, where) for source in definition.metrics)
    outputs = tuple(filling.text(text) if filling.knows(text) else text for text in definition.outputs)
    own = dataclasses.replace(definition, metrics=metrics, outputs=outputs)
    suffix = [re.sub(r"[^A-Za-z0-9_-]+", "_", str(value)) for value in each.values()]
    return Part(".".join([definition.name, *suffix]), own, each)


def _agree(one: Settings, other: Settings) -> bool:
    return all(other[key] == value for key, value in one.items() if key in other)


def _twice(names: Iterable[str]) -> str:
    listed = list(names)
    return next((name for name in listed if listed.count(name) > 1), "")
