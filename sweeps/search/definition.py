"""Definition of a search for its workers: the `search` section and the arms, as a file of the submission."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ablative.study.core.files import read_json, write_json
from ablative.study.core.identity import config_id
from ablative.study.core.typed import build, plain
from ablative.study.home.paths import SubmissionPaths
from ablative.study.plan.plan import Plan
from ablative.study.plan.search_arms import VALIDATION, SearchArm
from ablative.study.plan.task import Task
from ablative.study.spec.metric_patterns import expand
from ablative.study.spec.search import SearchConfig
from ablative.trainer.clip.spec.config import EvaluationConfig, RunConfig
from ablative.trainer.clip.spec.metrics import RUN_METRICS


@dataclass(frozen=True)
class Definition:
    """One search."""

    study: str
    search: SearchConfig
    arms: tuple[SearchArm, ...]
    planned: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    """Cells of the runs that the study's grid has too: tracking goes on naming them."""

    @classmethod
    def of(cls, plan: Plan) -> Definition:
        assert plan.study.search is not None
        planned = {task.task_id: list(task.cells) for task in plan.runs}
        return cls(plan.study.name, plan.study.search, plan.arms, planned)

    def write(self, paths: SubmissionPaths) -> None:
        arms = [
            {
                "cell": arm.cell,
                "run": plain(arm.run),
                "evaluations": plain(arm.evaluations),
                "key": arm.key,
                "watched": plain(arm.watched),
            }
            for arm in self.arms
        ]
        content = {"study": self.study, "search": plain(self.search), "arms": arms, "planned": self.planned}
        write_json(paths.search, content)

    @cached_property
    def directions(self) -> list[str]:
        return [goal.direction for goal in self.search.objective]

    def optuna_name(self, arm: SearchArm) -> str:
        """Name of the arm's Optuna study: what would make values incomparable gives another study."""
        return f"{self.study}: {arm.name} ({arm.key})"


def read(paths: SubmissionPaths, only: Collection[str] = ()) -> Definition:
    """Definition of a submission's search, with the arms named in `only`; without names, with all arms."""
    data: dict[str, Any] = read_json(paths.search) or {}
    arms = tuple(
        SearchArm(
            cell=arm["cell"],
            run=build(RunConfig, arm["run"]),
            evaluations=tuple(build(EvaluationConfig, item) for item in arm["evaluations"]),
            key=arm["key"],
            watched=None if arm["watched"] is None else build(EvaluationConfig, arm["watched"]),
        )
        for arm in data["arms"]
    )
    arms = tuple(arm for arm in arms if not only or arm.name in only)
    return Definition(data["study"], build(SearchConfig, data["search"]), arms, data["planned"])


def trial_tasks(arm: SearchArm, values: Mapping[str, Any], seed: int) -> tuple[Task, ...]:
    """The run that the values mean, and its evaluations on the validation split; raises ConfigError.

    They are identified like any other, so a run that the grid has too is trained once.
    """
    config = arm.configure(values, seed)
    run_id = config_id(config)
    tasks = [Task(run_id, "pretrain", run_id, seed, (arm.cell,), None, config)]
    for item in arm.evaluations:
        evaluation = EvaluationConfig(run_id=run_id, protocol=item.protocol, datasets=item.datasets)
        name = item.protocol.name
        tasks.append(Task(config_id(evaluation), "evaluate", run_id, seed, (arm.cell,), name, evaluation))
    return tuple(tasks)


def goal_values(search: SearchConfig, metrics: Mapping[str, float | None]) -> list[float] | None:
    """Values of the search's goals, from the metrics of a run and of its evaluations; None where one is missing."""
    values = []
    for goal in search.objective:
        found = [metrics[name] for name in _names(goal.metric, metrics)]
        numbers = [value for value in found if value is not None]
        if not numbers or len(numbers) < len(found):
            return None
        values.append(sum(numbers) / len(numbers))
    return values


def _names(patterns: tuple[str, ...], metrics: Mapping[str, float | None]) -> Iterator[str]:
    for pattern in patterns:
        yield from expand(pattern, [name for name in metrics if name in RUN_METRICS])
        yield from expand(f"{VALIDATION}/{pattern}", [name for name in metrics if name not in RUN_METRICS])
