"""What is scheduled: one pretraining, or one evaluation of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from study.design import Cell, cell_name
from study.paths import Home, TaskPaths
from study.schema import EvaluationConfig, RunConfig


@dataclass(frozen=True)
class Task:
    """One task of a plan."""

    task_id: str
    kind: str
    """pretrain | evaluate"""
    run_id: str
    seed: int
    cells: tuple[Cell, ...]
    """Every cell with this configuration; mostly one. The same configuration is run once."""
    protocol: str | None
    config: RunConfig | EvaluationConfig

    @property
    def name(self) -> str:
        suffix = f" [{self.protocol}]" if self.protocol else ""
        return f"{cell_name(self.cells[0])} seed={self.seed}{suffix}"

    def paths(self, home: Home) -> TaskPaths:
        run = home.run(self.run_id)
        return run if self.kind == "pretrain" else run.evaluation(self.task_id)

    def to_json(self) -> dict[str, Any]:
        return {
            "task_id": self.task_id,
            "run_id": self.run_id,
            "kind": self.kind,
            "cell": self.cells[0],
            "cells": list(self.cells),
            "seed": self.seed,
            "protocol": self.protocol,
        }
