"""A trainer of another distribution: each stage is a command in a process of its own, which prints its metrics."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ablative.study.core.errors import ConfigError, unknown
from ablative.study.spec.runtime import RuntimeConfig
from ablative.study.trainers import Configurations, JobTask, Metric, Request, Stage, Trainer, cost_metrics
from ablative.trainer.runner.attempts import RunningTask, run_attempt
from ablative.trainer.runner.record import Result

METRICS = {
    "prepare": (),
    "fit": (Metric("fit/latency", "fit", "s", better="lower"), *cost_metrics("fit")),
    "score": (Metric("score/held out/gain", "score", better="higher"),),
}
KEYS = {"prepare": ("rows",), "fit": ("width", "rate"), "score": ("width",)}
PROGRAM = """
import json, pathlib, random, sys
stage, settings = sys.argv[1], json.loads(sys.argv[2])
folder, *needed = map(pathlib.Path, sys.argv[3:])
draw = random.Random(settings.get("seed"))
if stage == "prepare":
    (folder / "rows.json").write_text(json.dumps(list(range(settings["rows"]))))
elif stage == "fit":
    rows = json.loads((needed[0] / "rows.json").read_text())
    (folder / "fitted.json").write_text(json.dumps(len(rows) * settings["rate"] / settings["width"]))
    width = settings["width"]
    print(json.dumps({"fit/latency": 0.1 * width * settings["rate"] + 0.01 * width * draw.random()}))
else:
    noise = draw.random() / settings["width"]
    print(json.dumps({"score/held out/gain": json.loads((needed[0] / "fitted.json").read_text()) + noise}))
"""


class CommandConfigurations(Configurations):
    def __init__(self, request: Request) -> None:
        self._request, self._settings = request, {**request.own.get("settings", {}), **request.words}

    @property
    def metrics(self) -> Sequence[Metric]:
        return [metric for metrics in METRICS.values() for metric in metrics]

    def check_key(self, key: str, where: str) -> None:
        if key not in self._request.own["settings"]:
            raise ConfigError(unknown("setting", key, self._request.own["settings"], where))

    def stages(self, choices: tuple[tuple[str, str], ...], values: tuple[tuple[str, Any], ...]) -> Sequence[Stage]:
        settings, runtime = self._settings | dict(values), self._request.section("runtime", RuntimeConfig, choices)
        own = {stage: {key: settings[key] for key in keys} for stage, keys in KEYS.items()}
        return (
            Stage("prepare", own["prepare"], runtime, seeded=False),
            Stage("fit", own["fit"], runtime, ("prepare",), metrics=METRICS["fit"]),
            Stage("score", own["score"], runtime, ("fit",), metrics=METRICS["score"]),
        )


class CommandTrainer(Trainer):
    name = "command"
    entry = "command_trainer:execute"
    packages = ("command_trainer",)
    study_keys: tuple[str, ...] = ("settings",)

    def configurations(self, request: Request) -> CommandConfigurations:
        return CommandConfigurations(request)


TRAINER = CommandTrainer()


def execute(job: JobTask) -> None:
    run_attempt(job, work)


def work(task: RunningTask) -> Result:
    settings: Mapping[str, Any] = {**task.config, "seed": task.job.seed}
    folders = [str(paths.root) for paths in (task.job.paths, *task.job.needs.values())]
    command = [sys.executable, "-c", PROGRAM, task.job.stage, json.dumps(settings), *folders]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return Result(json.loads(printed or "{}"))
