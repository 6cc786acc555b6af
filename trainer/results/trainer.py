"""Trainer `results`: one stage a run, which yields the metrics that `results:` of the study file declares."""

from __future__ import annotations

from collections.abc import Sequence

from ablative.study.core.errors import ConfigError
from ablative.study.spec.sections import Choices, Values
from ablative.study.syntax.sources import parse_sources
from ablative.study.trainers import Configurations, JobTask, Metric, Request, Stage, Trainer

STAGE = "results"


class ResultsConfigurations(Configurations):
    """Cells whose configuration is no more than what their levels mean."""

    def __init__(self, request: Request) -> None:
        at = f"{request.where}: results"
        if "results" not in request.own:
            raise ConfigError(f"{at}: missing; trainer 'results' has no other source of numbers")
        self._name = request.name
        self._metrics: dict[str, Metric] = {}
        for source in parse_sources(request.own["results"], at):
            for name, found in source.metrics.items():
                rest = (found.unit, found.better, found.low, found.high)
                metric = Metric(name, STAGE, *rest, ranked=bool(found.better), label=found.label)
                if self._metrics.setdefault(name, metric) != metric:
                    raise ConfigError(f"{source.at}.metrics.{name}: another source declares it otherwise")
                if "/" not in name:
                    raise ConfigError(f"{source.at}.metrics.{name}: expected two parts, as in test/{name}")

    @property
    def metrics(self) -> Sequence[Metric]:
        return tuple(self._metrics.values())

    def check_key(self, key: str, where: str) -> None:
        """Whatever a level sets, the runs are there."""

    def stages(self, choices: Choices, values: Values) -> Sequence[Stage]:
        config = {"study": self._name, **dict(choices), **dict(values)}
        return (Stage(STAGE, config, metrics=tuple(self._metrics.values())),)


class ResultsTrainer(Trainer):
    """Trainer of studies over results that exist already."""

    name = "results"
    entry = "ablative.trainer.results.trainer:execute"
    packages = ("ablative.trainer.results",)
    study_keys = ("results",)
    executes = False

    def configurations(self, request: Request) -> ResultsConfigurations:
        return ResultsConfigurations(request)


TRAINER = ResultsTrainer()


def execute(job: JobTask) -> None:
    """Refuse: no job has such a task."""
    raise ConfigError(f"{job.name}: a result that exists already, which nothing can run")
