"""What shipping needs to know of a task, and the tags that the plan gives it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from study.paths import Home, TaskPaths
from trainer.tracking.values import TAG_LENGTH, cut, key_name


class Shippable(Protocol):
    """The part of `study.plan.Task` that is shipped; a `Source` is one too."""

    @property
    def task_id(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def run_id(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def cells(self) -> tuple[dict[str, str], ...]: ...
    @property
    def protocol(self) -> str | None: ...
    @property
    def name(self) -> str: ...


@dataclass(frozen=True)
class Source:
    """A task without its configuration: small, and can be sent to another process."""

    task_id: str
    kind: str
    run_id: str
    seed: int
    cells: tuple[dict[str, str], ...]
    protocol: str | None
    name: str

    @classmethod
    def of(cls, task: Shippable) -> Source:
        if isinstance(task, cls):
            return task
        cells = tuple(dict(cell) for cell in task.cells)
        return cls(task.task_id, task.kind, task.run_id, task.seed, cells, task.protocol, task.name)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Source:
        return cls(**{**value, "cells": tuple(value["cells"])})

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def paths(self, home: Home) -> TaskPaths:
        run = home.run(self.run_id)
        return run if self.kind == "pretrain" else run.evaluation(self.task_id)

    def run(self) -> Source:
        """The pretraining that an evaluation belongs to."""
        name = self.name.removesuffix(f" [{self.protocol}]")
        return Source(self.run_id, "pretrain", self.run_id, self.seed, self.cells, None, name)


def searched(home: Home, study: str) -> list[Source]:
    """Tasks of the trials of the study's search."""
    files = sorted(home.study(study).search.root.glob("*/trials/*/tasks.json"))
    return [Source.from_json(value) for path in files for value in json.loads(path.read_text())]


def plan_tags(source: Source, study: str) -> dict[str, str]:
    """Tags that follow from the plan alone: they change when the study renames its levels."""
    tags = {
        "ablate.study": study,
        "ablate.run_id": source.run_id,
        "ablate.task_id": source.task_id,
        "ablate.kind": source.kind,
        "ablate.seed": str(source.seed),
        "ablate.cells": cells_text(source.cells),
    }
    if source.protocol is not None:
        tags["ablate.protocol"] = source.protocol
    for factor, level in (source.cells[0] if source.cells else {}).items():
        tags[key_name(f"ablate.cell.{factor}")] = cut(level, TAG_LENGTH)
    return tags


def cells_text(cells: tuple[dict[str, str], ...]) -> str:
    """JSON list of the cells: whole cells only, as many as a tag can hold."""
    text = json.dumps(cells)
    while len(text) > TAG_LENGTH:
        cells = cells[: len(cells) // 2]
        text = json.dumps(cells)
    return text
