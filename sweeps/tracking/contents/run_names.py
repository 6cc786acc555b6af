"""Names of MLflow runs: short, with what varies first, since MLflow's page cuts them at some seventeen characters."""

from __future__ import annotations

import functools
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ablative.study.plan.task import TaskRef
from ablative.study.spec.design import cell_name

_BARE = re.compile(r"(?=.*[^\W\d_]{2})(?!(?:true|false|yes|no|on|off|none|null|inf|nan)$).*", re.IGNORECASE)
"""Levels that say what they are without their factor: a word, not a number and not a switch."""
_SEED = re.compile(r"\bseed=(\d+)$")


@dataclass(frozen=True)
class RunNames:
    """How the cells of one study are called."""

    levels: Mapping[str, Mapping[str, int]]
    """Factor → level → number of cells that have it; factors in the study's order."""
    cells: int = 0

    @classmethod
    def of(cls, cells: Iterable[Mapping[str, str]]) -> RunNames:
        levels: dict[str, Counter[str]] = {}
        count = 0
        for cell in cells:
            count += 1
            for factor, level in cell.items():
                levels.setdefault(factor, Counter())[level] += 1
        return cls(levels, count)

    def name(self, task: TaskRef) -> str:
        """`zero_shot: mae, gap, s0`: stage (but of the task that opens a run), levels, and the rest of its name."""
        cell = task.cells[0] if task.cells else {}
        full, rest = cell_name(cell), _SEED.sub(r"s\1", task.name.removesuffix(f" [{task.stage}]"))
        stage = f"{task.stage}: " if task.name.endswith(f" [{task.stage}]") else ""
        if not cell or not rest.startswith(full):
            # A trial's name is of the search, not of a cell: its arm, and then what trials differ in.
            arm, found, trial = rest.partition(" trial=")
            return stage + (f"trial={trial}, {arm}" if found else rest)
        return stage + ", ".join(filter(None, [self._cell(cell), rest.removeprefix(full).strip()]))

    def _cell(self, cell: Mapping[str, str]) -> str:
        varying = [factor for factor in cell if self._varies(factor)] or list(cell)
        if self._is_star():
            varying.sort(key=lambda factor: self._is_usual(factor, cell[factor]))
        return ", ".join(self._level(factor, cell[factor]) for factor in varying)

    def _level(self, factor: str, level: str) -> str:
        elsewhere = any(level in known for other, known in self.levels.items() if other != factor)
        return level if _BARE.fullmatch(level) and not elsewhere else f"{factor}={level}"

    def _varies(self, factor: str) -> bool:
        known = self.levels.get(factor, {})
        return len(known) != 1 or sum(known.values()) < self.cells

    def _is_usual(self, factor: str, level: str) -> bool:
        return 2 * self.levels.get(factor, {}).get(level, 0) > self.cells

    def _is_star(self) -> bool:
        """Whether most cells share each factor's level, as where one factor at a time is changed."""
        varying = [factor for factor in self.levels if self._varies(factor)]
        return len(varying) > 1 and all(2 * max(self.levels[factor].values()) > self.cells for factor in varying)


def run_names(plan: Path, tasks: Sequence[TaskRef]) -> RunNames:
    """Names by the cells of the last submitted plan (`plan.json`), which all processes of a home see alike; where there
    is none, by those of the tasks at hand."""
    try:
        return _planned(plan, plan.stat().st_mtime_ns)
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        cells = {cell_name(task.cells[0]): task.cells[0] for task in tasks if task.cells}
        return RunNames.of(cells.values())


@functools.lru_cache(maxsize=8)
def _planned(plan: Path, _changed: int) -> RunNames:
    return RunNames.of(json.loads(plan.read_text())["cells"])
