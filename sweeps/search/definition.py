"""Definition of a search for its workers: the `search` section and the arms, as a file of the submission."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any

from ablative.study import installed_trainers
from ablative.study.core.damage import fields_of
from ablative.study.core.errors import StoreError
from ablative.study.core.files import read_json, write_json
from ablative.study.core.typed import Settings, build, plain
from ablative.study.home.paths import SubmissionPaths
from ablative.study.plan.plan import Plan
from ablative.study.plan.search_arms import VALIDATION, SearchArm
from ablative.study.plan.task import Task
from ablative.study.spec.runtime import RuntimeConfig
from ablative.study.spec.search import SearchConfig
from ablative.study.syntax.metric_patterns import expand
from ablative.study.trainers import Metric, Stage, Trainer

_STAGE = {"name": str, "config": dict, "runtime": dict, "needs": [str], "seeded": bool, "metrics": [dict]}
_SHAPE = {
    "study": str,
    "search": dict,
    "arms": [{"cell": dict, "stages": [_STAGE], "key": str, "watched": (_STAGE, None)}],
    "planned": dict,
}


@dataclass(frozen=True)
class Definition:
    """One search."""

    study: str
    search: SearchConfig
    arms: tuple[SearchArm, ...]
    planned: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    """Cells of the tasks that open runs, or belong to none, and that the grid has too: tracking goes on naming them."""

    @classmethod
    def of(cls, plan: Plan) -> Definition:
        assert plan.study.search is not None
        planned = {task.task_id: list(task.cells) for task in plan.tasks if task.opens}
        return cls(plan.study.name, plan.study.search, plan.arms, planned)

    def write(self, paths: SubmissionPaths) -> None:
        arms = [
            {
                "cell": arm.cell,
                "stages": list(map(_stage_content, arm.stages)),
                "key": arm.key,
                "validated": arm.validated,
                "watched": None if arm.watched is None else _stage_content(arm.watched),
            }
            for arm in self.arms
        ]
        content = {"study": self.study, "search": plain(self.search), "arms": arms, "planned": self.planned}
        write_json(paths.search, content)

    @cached_property
    def directions(self) -> list[str]:
        return [goal.direction for goal in self.search.objective]

    @property
    def goals(self) -> list[str]:
        """Names of the goals, as Optuna's dashboard and plots print them."""
        named = [goal.metric for goal in self.search.objective]
        return [names[0] if len(names) == 1 else f"mean of {', '.join(names)}" for names in named]

    def optuna_name(self, arm: SearchArm) -> str:
        """Name of the arm's Optuna study: what would make values incomparable gives another study."""
        return f"{self.study}: {arm.name} ({arm.key})"


def read(paths: SubmissionPaths, trainer: str, only: Collection[str] = ()) -> Definition:
    """Definition of a submission's search.

    Args:
        paths: of the submission.
        trainer: name of the trainer whose stages the arms have.
        only: names of arms; empty: all.
    """
    data: dict[str, Any] | None = read_json(paths.search, _SHAPE)
    if data is None:
        raise StoreError(f"{paths.search}: absent or damaged; `ablate search` starts other workers")
    own = installed_trainers.trainer(trainer)
    arms = tuple(
        SearchArm(
            cell=arm["cell"],
            stages=tuple(_stage(own, content) for content in arm["stages"]),
            key=arm["key"],
            trainer=own,
            watched=None if arm["watched"] is None else _stage(own, arm["watched"]),
            validated=arm.get("validated", True),
        )
        for arm in data["arms"]
    )
    arms = tuple(arm for arm in arms if not only or arm.name in only)
    return Definition(data["study"], build(SearchConfig, data["search"]), arms, data["planned"])


def _stage_content(stage: Stage) -> dict[str, Any]:
    """A stage as JSON; of where it runs, what the manager reads."""
    return {
        "name": stage.name,
        "config": plain(stage.config),
        "runtime": {spec.name: getattr(stage.runtime, spec.name) for spec in fields(RuntimeConfig)},
        "needs": list(stage.needs),
        "seeded": stage.seeded,
        "metrics": list(map(asdict, stage.metrics)),
    }


def _stage(trainer: Trainer, content: Settings) -> Stage:
    return Stage(
        content["name"],
        trainer.load(content["name"], content["config"]),
        build(RuntimeConfig, content["runtime"]),
        tuple(content["needs"]),
        content["seeded"],
        tuple(_metric(metric) for metric in content["metrics"]),
    )


def _metric(content: Settings) -> Metric:
    known = fields_of(Metric, content)
    return Metric(**{**known, "depends": tuple(known.get("depends", ()))})


def trial_tasks(arm: SearchArm, values: Settings, seeds: Collection[int]) -> tuple[Task, ...]:
    """The tasks that the values mean with each seed, those that do not depend on it once; raises ConfigError."""
    found: dict[str, Task] = {}
    for seed in seeds:
        for task in arm.tasks(values, seed):
            found.setdefault(task.task_id, task)
    return tuple(found.values())


def goal_values(search: SearchConfig, metrics: Mapping[str, float | None]) -> list[float] | None:
    """Values of the search's goals, from the metrics of a run's tasks; None where one is missing.

    What a stage yields on the validation split counts under its own name.
    """
    prefix = f"{VALIDATION}/"
    plainly = {name: value for name, value in metrics.items() if not name.startswith(prefix)}
    known = plainly | {name.removeprefix(prefix): value for name, value in metrics.items() if name not in plainly}
    values = []
    for goal in search.objective:
        found = [known[name] for pattern in goal.metric for name in expand(pattern, list(known))]
        numbers = [value for value in found if value is not None]
        if not numbers or len(numbers) < len(found):
            return None
        values.append(sum(numbers) / len(numbers))
    return values
